"""Longshore as a source of dlt: each load takes the changes since the last one that arrived, deletes included."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longshore.client import ClientError, Longshore, NotFoundError, Task
from longshore.client.arrow import batches
from longshore.client.model import Run

try:
    import dlt
    import pyarrow as pa
    import pyarrow.compute as pc
except ImportError as error:
    raise ImportError("longshore.integrations.dlt needs dlt and pyarrow: pip install 'longshore[dlt]'") from error

BATCH_ROWS = 50_000
SOURCE = "longshore"
CHANGE, REASON = "_change", "_reason"  # the columns of the result that say what is to be done with a row
DELETED = "_deleted"
"""The column by which dlt deletes rows; false in every row that stays."""


def load(pipeline: dlt.Pipeline, client: Longshore, index: str, **export: Any) -> Run:
    """Load the changes of an index into a table of its name, and return the run that they are of.

    The first load creates a task and takes all rows. Each later one replaces the rows that have changed and deletes
    those that are gone; a run that is full replaces the table. A load that fails loses nothing: the changes are
    acknowledged once they are in the destination, and given again until then.
    `export`: further arguments of `client.exports.create` for the first load, such as `where` and `fields`. Packages of
    the pipeline that are not loaded yet are dropped. Raises ClientError, and dlt's errors of a load that fails.
    """
    key = client.indexes.get(index).key
    if not key:
        raise ClientError(f"the index {index} has no key, by which rows could be replaced and deleted")
    (getattr(pipeline, "abort_packages", None) or pipeline.drop_pending_packages)()  # its new and old name
    pipeline.sync_destination()  # the state is that of the destination, also on a new machine
    task = _known_task(pipeline, client, index)
    is_new = task is None
    if task is None:
        task = client.exports.create(index, format="parquet", incremental="on_ack", deletes=True, **export)
    try:
        run = task.wait().runs(limit=1)[0]
        with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
            file = task.download(Path(folder) / "changes.parquet", run=run.run)
            pipeline.run(_changes(index, key, task, run, file)).raise_on_failed_jobs()
    except BaseException:
        if is_new:  # the destination does not know of it, so the next load creates one of its own
            with contextlib.suppress(ClientError):  # as of a task that still runs; the first error counts
                task.delete()
        raise
    return task.acknowledge(run.run)


def _known_task(pipeline: dlt.Pipeline, client: Longshore, index: str) -> Task | None:
    """Return the task of the loads before, running; None before the first load, or where the task was deleted.

    None also for another task that has its id, as after the service was restored from a backup.
    """
    known = pipeline.state.get("sources", {}).get(SOURCE, {}).get("resources", {}).get(_table(index), {})
    if "task" not in known:
        return None
    try:
        task = client.tasks.get(known["task"])
    except NotFoundError:
        return None
    target = task.data.target
    if (target["action"], target.get("export_index"), target.get("deletes")) != ("export", index, True):
        return None
    return task.execute() if task.state.ended else task


def _table(index: str) -> str:
    return index.replace("-", "_")


def _changes(index: str, key: list[str], task: Task, run: Run, file: Path) -> Any:
    """Return the changes of a run, read from its file in batches, as a source of dlt."""

    @dlt.resource(
        name=_table(index),
        write_disposition="replace" if run.full else "merge",
        primary_key=key,
        columns={} if run.full else {DELETED: {"hard_delete": True}},
    )
    def rows() -> Iterator[pa.Table]:
        dlt.current.resource_state()["task"] = task.id
        for batch in batches(file, BATCH_ROWS):
            deleted = pc.equal(batch[CHANGE], "delete")
            yield pa.table(batch).drop_columns([CHANGE, REASON]).append_column(DELETED, deleted)

    return dlt.source(lambda: rows, name=SOURCE)()
