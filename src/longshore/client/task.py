"""A task of the service, and the operations on it."""

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from longshore.client import download as downloads
from longshore.client.download import DownloadOptions
from longshore.client.errors import ClientError
from longshore.client.model import Backfill, Delivery, LogEntry, NewBackfill, Progress, Run, RunFile, State, TaskData
from longshore.client.retry import expect, send
from longshore.client.steps import Call, Request, Steps
from longshore.client.transfer import OnBytes
from longshore.client.transport import Awaiting, Blocking, Operates, operation
from longshore.client.wait import MAX_LOG_ENTRIES, OnLog, OnProgress, ServiceState, WaitOptions, until_ended

if TYPE_CHECKING:
    import pandas
    import pyarrow

K = TypeVar("K")


class TaskOperations(Operates[K]):
    """The operations on a task. The methods of a `Task` block, those of an `AsyncTask` are awaited."""

    def __init__(self, transport: Any, known: ServiceState, data: TaskData) -> None:
        self._transport = transport
        self._known = known
        self.data = data
        """The task object of the service's last answer."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state.code}>"

    @property
    def id(self) -> int:
        """Number of the task."""
        return self.data.id

    @property
    def state(self) -> State:
        """State of the task in the service's last answer."""
        return self.data.state

    @property
    def result(self) -> str:
        """Name of the result file; empty while there is none."""
        return self.data.result

    def _refreshed(self, data: TaskData) -> K:
        self.data = data
        return self  # type: ignore[return-value]  # K is the class itself

    def _request(self, method: str, below: str = "", **params: Any) -> Request:
        return Request(method=method, url=f"/tasks/{self.id}{below}", params=params)

    @operation
    def refresh(self) -> Steps[K]:
        """Read the task again."""
        return self._refreshed(expect((yield from send(self._request("GET"), self._known.budget())), TaskData))

    @operation
    def wait(
        self,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        on_log: OnLog | None = None,
    ) -> Steps[K]:
        """Wait until the task is DONE.

        `timeout`: seconds; None waits for ever. Transient errors of the service are retried as in all requests.
        `on_progress`: called about once a second with the progress of the run. `on_log`: called with each log entry.
        Raises TaskFailedError if the task ended in another state, WaitTimeoutError if it has not ended in time.
        """
        options = WaitOptions(timeout, on_progress, on_log)
        return self._refreshed((yield from until_ended(self._known, self.id, options)))

    @operation
    def logs(self) -> Steps[list[LogEntry]]:
        """Return the whole log, oldest entry first."""
        entries: list[LogEntry] = []
        while True:
            request = self._request("GET", log_limit=MAX_LOG_ENTRIES, offset=len(entries))
            page = expect((yield from send(request, self._known.budget())), TaskData).logs
            entries += page
            if len(page) < MAX_LOG_ENTRIES:
                return entries

    @operation
    def progress(self) -> Steps[Progress]:
        """Return the progress of the newest run."""
        return expect((yield from send(self._request("GET", "/progress"), self._known.budget())), Progress)

    @operation
    def runs(self, limit: int = 25) -> Steps[list[Run]]:
        """Return the runs with their results, newest first. `limit`: 1 to 100."""
        return expect((yield from send(self._request("GET", "/runs", limit=limit), self._known.budget())), list[Run])

    @operation
    def manifest(self, run: int) -> Steps[dict[str, Any]]:
        """Return the manifest of a run, which describes its result: columns, hash, control totals, changes."""
        return expect(
            (yield from send(self._request("GET", f"/runs/{run}/manifest"), self._known.budget())), dict[str, Any]
        )

    @operation
    def signature(self, run: int) -> Steps[str]:
        """Return the signature of the manifest of a run: a detached JWS over its bytes."""
        return (yield from downloads.signature_of(self._known, self.id, run))

    @operation
    def latest_run(self) -> Steps[Run]:
        """Return the DONE run with the newest data, whose result `download` takes. Raises NotFoundError, GoneError."""
        return expect((yield from send(self._request("GET", "/runs/latest"), self._known.budget())), Run)

    @operation
    def get_run(self, run: int) -> Steps[Run]:
        """Return one run. Raises NotFoundError."""
        return expect((yield from send(self._request("GET", f"/runs/{run}"), self._known.budget())), Run)

    @operation
    def execute(self, interval_end: str | datetime | None = None) -> Steps[K]:
        """Run the task now, regardless of its trigger; `wait` then waits for this run. Raises ConflictError.

        `interval_end`: a time of the schedule, with its offset, whose data interval is to run again.
        """
        request = Request(
            method="POST",
            url=f"/tasks/{self.id}/execute",
            headers={"Prefer": "respond-async"},
            body=None if interval_end is None else {"interval_end": interval_end},
        )
        expect((yield from send(request, self._known.budget())), State)
        return self._refreshed(expect((yield from send(self._request("GET"), self._known.budget())), TaskData))

    @operation
    def cancel(self) -> Steps[K]:
        """Cancel the task: its run, or its schedule. Raises ConflictError."""
        answer = yield from send(self._request("POST", "/cancel"), self._known.budget())
        if answer.status >= 300:
            raise answer.error()
        return self._refreshed(expect((yield from send(self._request("GET"), self._known.budget())), TaskData))

    @operation
    def pause(self) -> Steps[K]:
        """Pause the schedule: a run that has begun ends as usual. Raises ConflictError for a task without one."""
        answer = yield from send(self._request("POST", "/pause"), self._known.budget(), is_idempotent=True)
        return self._refreshed(expect(answer, TaskData))

    @operation
    def resume(self, catch_up: Literal["one", "none", "all"] | None = None) -> Steps[K]:
        """Resume a paused schedule. Raises ConflictError for a task without one.

        `catch_up`: the treatment of the runs that were missed until now; None for that of the trigger.
        """
        body = {} if catch_up is None else {"catch_up": catch_up}
        request = Request(method="POST", url=f"/tasks/{self.id}/resume", body=body)
        return self._refreshed(expect((yield from send(request, self._known.budget(), is_idempotent=True)), TaskData))

    @operation
    def backfill(self, start: datetime, end: datetime, idempotency_key: str | None = None) -> Steps[NewBackfill]:
        """Run the schedule's times after `start` and up to `end` that have come, oldest first and one at a time.

        Return the number of the backfill and that of its runs. Two calls with the same key create one backfill.
        Raises BadRequestError (no time in the range, or more than 1,000) and ConflictError.
        """
        if start.tzinfo is None or end.tzinfo is None:
            raise ClientError("`start` and `end` need a time zone, such as datetime.UTC")
        request = Request(
            method="POST",
            url=f"/tasks/{self.id}/backfill",
            headers={"Idempotency-Key": idempotency_key or secrets.token_urlsafe(24)},
            body={"start": start.isoformat(), "end": end.isoformat()},
        )
        return expect((yield from send(request, self._known.budget(), is_idempotent=True)), NewBackfill)

    @operation
    def backfills(self, limit: int = 25, offset: int = 0) -> Steps[list[Backfill]]:
        """Return the backfills with their progress, newest first. `limit`: 1 to 100."""
        request = self._request("GET", "/backfills", limit=limit, offset=offset)
        return expect((yield from send(request, self._known.budget())), list[Backfill])

    @operation
    def end_backfill(self, backfill: int) -> Steps[None]:
        """End a backfill; a run that has begun finishes. Raises NotFoundError."""
        request = self._request("DELETE", f"/backfills/{backfill}")
        answer = yield from send(request, self._known.budget(), is_idempotent=True)
        if answer.status >= 300:
            raise answer.error()

    @operation
    def acknowledge(self, run: int) -> Steps[Run]:
        """Confirm that the increment of a run of an export with `incremental="on_ack"` has arrived."""
        request = self._request("POST", f"/runs/{run}/ack")
        return expect((yield from send(request, self._known.budget(), is_idempotent=True)), Run)

    @operation
    def deliveries(self, run: int, limit: int = 25, offset: int = 0) -> Steps[list[Delivery]]:
        """Return the deliveries of a run to destinations, newest first. `limit`: 1 to 100."""
        request = self._request("GET", f"/runs/{run}/deliveries", limit=limit, offset=offset)
        return expect((yield from send(request, self._known.budget())), list[Delivery])

    @operation
    def deliver(self, run: int, idempotency_key: str | None = None) -> Steps[list[Delivery]]:
        """Bring the result of a run to those of the target's destinations that lack it, else to all of them.

        Return the deliveries of the run, newest first. Raises ConflictError and GoneError.
        """
        key = {"Idempotency-Key": idempotency_key or secrets.token_urlsafe(24)}
        request = Request(method="POST", url=f"/tasks/{self.id}/runs/{run}/deliver", headers=key)
        return expect((yield from send(request, self._known.budget(), is_idempotent=True)), list[Delivery])

    @operation
    def download(
        self,
        path: str | Path = ".",
        on_bytes: OnBytes | None = None,
        *,
        run: int | None = None,
        manifest: bool = False,
    ) -> Steps[Path]:
        """Download the result to a file, or into a folder under its own name, and return the path.

        `run`: the run whose result it is; None for the one with the newest data. `manifest`: also write the manifest
        and its signature beside the file, for `longshore verify`.
        A result of many files needs a folder. It always has its manifest and signature, and the path is the manifest's.
        An interrupted download is resumed, also by a later call. A file appears once it is complete and has the
        SHA-256 that the run recorded. The folder must exist; a path that ends with "/" is a folder.
        `on_bytes`: called with the number of bytes so far and the number in total.
        Raises ConflictError (not DONE, or not an export), GoneError, DownloadError.
        """
        to: Path = yield Call(partial(downloads.destination, path))
        options = DownloadOptions(on_bytes, run, manifest)
        return (yield from downloads.download(self._known, self.id, to, options))

    @operation
    def files(self, run: int) -> Steps[list[RunFile]]:
        """Return the files of a run, each with an address that is valid for about an hour."""
        found: list[RunFile] = []
        while page := (yield from downloads.list_files(self._known, self.id, run, offset=len(found))):
            found += page
            if len(page) < downloads.FILES_PAGE:
                break
        return found

    @operation
    def to_arrow(self) -> Steps["pyarrow.Table"]:
        """Return the result of a `parquet` export as an Arrow table. Needs pyarrow."""
        return (yield from self._table())

    @operation
    def to_pandas(self) -> Steps["pandas.DataFrame"]:
        """Return the result of a `parquet` export as a DataFrame with Arrow's types, so that decimals stay exact.

        Needs pandas and pyarrow.
        """
        pandas = _imported("pandas")
        table = yield from self._table()
        return (yield Call(partial(table.to_pandas, types_mapper=pandas.ArrowDtype)))

    def _table(self) -> Steps[Any]:
        if self.data.target.get("export_format") != "parquet":
            raise ClientError("only a parquet export keeps the types of its fields; create it with format='parquet'")
        parquet = _imported("pyarrow.parquet")
        with _folder() as folder:
            file = yield from downloads.download(self._known, self.id, folder, DownloadOptions())
            paths = yield Call(partial(downloads.tables, file))
            tables = []
            for path in paths:  # the columns stay in the files, so none is made of the folders' names
                tables.append((yield Call(partial(parquet.read_table, path, memory_map=False, partitioning=None))))
            return tables[0] if len(tables) == 1 else _imported("pyarrow").concat_tables(tables)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        yield Path(folder)


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        install = "'longshore[arrow]'" if package == "pyarrow" else package
        raise ClientError(f"this needs {package}, which is not installed: pip install {install}") from None


class Task(TaskOperations["Task"], Blocking):
    """A task, with methods that block."""


class AsyncTask(TaskOperations["AsyncTask"], Awaiting):
    """A task, with methods that are awaited."""
