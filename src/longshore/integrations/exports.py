"""Exports of orchestrated steps: found again by a retry, and of the rows of an interval."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from longshore.client import BadRequestError, F, GoneError, Longshore, NotFoundError, SegmentError, Task
from longshore.client.model import Run
from longshore.client.segment import Rule, Rules

MICROSECOND = timedelta(microseconds=1)
"""The resolution of PostgreSQL's times: the last moment of an interval is so long before its end."""
MAX_TASKS = 100
"""Tasks of one step within 24 hours, for which an idempotency key is kept."""
REPLACED = ("/task-not-found", "/idempotency-key-reused")
"""Problem types of a key whose task was deleted, or is of other options."""


def export_once(client: Longshore, index: str, step: str, options: Mapping[str, Any]) -> Task:
    """Return the export of an orchestrated step: created by its first try, and found by the later ones within 24 hours.

    `step`: the identity of the step, the same in all tries. `options`: of `client.exports.create`. An export that has
    failed, was cancelled, or whose result is gone runs again; where it was deleted or the options have changed, a new
    one is created. Raises ClientError.
    """
    stem = hashlib.sha256(step.encode()).hexdigest()
    for number in range(MAX_TASKS):
        try:
            task = client.exports.create(index, idempotency_key=f"{stem}-{number}", **options)
        except (NotFoundError, BadRequestError) as error:
            if not error.type.endswith(REPLACED) or number == MAX_TASKS - 1:
                raise
        else:
            break
    if task.state.code == "ERROR" or _is_gone(task):
        task.execute()
    return task


def _is_gone(task: Task) -> bool:
    """Return whether a task is DONE and has no result any more."""
    try:
        return task.state.code == "DONE" and not task.latest_run()
    except GoneError:
        return True


def of_interval(options: Mapping[str, Any], field: str, start: datetime, end: datetime) -> dict[str, Any]:
    """Return the options of an export with the rule that a date is from `start` on and before `end`.

    Days of a column without a time of day are those of the time zone of `start`, where that is an IANA one.
    Raises SegmentError for a `where` that the rule cannot be joined to.
    """
    zone = getattr(start.tzinfo, "key", None)
    # With its offset alone, as the clock of a zone may be set back, and Airflow's class loses other zones.
    last = datetime.fromisoformat(end.isoformat()) - MICROSECOND
    rows: Rules = Rule(F(field), "is_between_date", start_date=start, end_date=last, timezone=zone)
    where = options.get("where")
    if where is not None and not isinstance(where, Rules):
        raise SegmentError(f"`where` beside the interval of {field!r} must be rules of F, joined by &")
    return {**options, "where": rows if where is None else where & rows}


def result_of(task: Task, path: str | Path | None) -> dict[str, Any]:
    """Download the result of a task's newest run, if there is a path, and return the figures of the run."""
    run: Run = task.runs(limit=1)[0]
    file = None if path is None else str(task.download(path, run=run.run))
    return {"task": task.id, "run": run.run, "rows": run.rows, "bytes": run.bytes, "sha256": run.sha256, "file": file}
