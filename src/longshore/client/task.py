"""A task as a client holds it."""

import contextlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from longshore.client import download as downloads
from longshore.client.download import OnBytes
from longshore.client.errors import ClientError
from longshore.client.model import LogEntry, Progress, Run, State, TaskData
from longshore.client.steps import Call, Request, Steps, expect, send
from longshore.client.transport import Awaiting, Blocking, Operates, operation
from longshore.client.wait import MOST_ENTRIES, OnLog, OnProgress, ServiceState, until_ended

if TYPE_CHECKING:
    import pandas
    import pyarrow

K = TypeVar("K")


class TaskOperations(Operates[K]):
    """What can be done with a task. Of a `Task` the methods block, of an `AsyncTask` they are awaited."""

    def __init__(self, transport: Any, known: ServiceState, data: TaskData) -> None:
        self._transport = transport
        self._known = known
        self.data = data
        """The task object as the service last gave it."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state.code}>"

    @property
    def id(self) -> int:
        """Number of the task."""
        return self.data.id

    @property
    def state(self) -> State:
        """Where it stood when it was last looked at."""
        return self.data.state

    @property
    def result(self) -> str:
        """Name of the result file; empty while there is none."""
        return self.data.result

    def _seen(self, data: TaskData) -> K:
        self.data = data
        return self  # type: ignore[return-value]  # K is the class itself

    def _ask(self, method: str, below: str = "", **params: Any) -> Request:
        return Request(method=method, url=f"/tasks/{self.id}{below}", params=params)

    @operation
    def refresh(self) -> Steps[K]:
        """Look at the task anew."""
        return self._seen(expect((yield from send(self._ask("GET"), self._known.patience())), TaskData))

    @operation
    def wait(
        self,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        on_log: OnLog | None = None,
    ) -> Steps[K]:
        """Wait until the task is DONE.

        `timeout`: seconds; None waits for ever. A service that is away for a while is waited for as well.
        `on_progress`: called about once a second with how far the run is. `on_log`: called with each entry of the log.
        Raises TaskFailedError when the task ended otherwise, WaitTimeoutError when it has not ended in time.
        """
        return self._seen((yield from until_ended(self._known, self.id, timeout, on_progress, on_log)))

    @operation
    def logs(self) -> Steps[list[LogEntry]]:
        """The whole log, oldest entry first."""
        found: list[LogEntry] = []
        while True:
            request = self._ask("GET", log_limit=MOST_ENTRIES, offset=len(found))
            page = expect((yield from send(request, self._known.patience())), TaskData).logs
            found += page
            if len(page) < MOST_ENTRIES:
                return found

    @operation
    def progress(self) -> Steps[Progress]:
        """How far the newest run is."""
        return expect((yield from send(self._ask("GET", "/progress"), self._known.patience())), Progress)

    @operation
    def runs(self, limit: int = 25) -> Steps[list[Run]]:
        """The runs, newest first, with what each left behind. `limit`: 1 to 100."""
        return expect((yield from send(self._ask("GET", "/runs", limit=limit), self._known.patience())), list[Run])

    @operation
    def execute(self) -> Steps[K]:
        """Run the task now, whatever its trigger says; `wait` then waits for this run. Raises ConflictError."""
        request = Request(method="POST", url=f"/tasks/{self.id}/execute", headers={"Prefer": "respond-async"})
        expect((yield from send(request, self._known.patience())), State)
        return self._seen(expect((yield from send(self._ask("GET"), self._known.patience())), TaskData))

    @operation
    def cancel(self) -> Steps[K]:
        """Stop the task: its run, or its waiting for its time. Raises ConflictError."""
        answer = yield from send(self._ask("POST", "/cancel"), self._known.patience())
        if answer.status >= 300:
            raise answer.error()
        return self._seen(expect((yield from send(self._ask("GET"), self._known.patience())), TaskData))

    @operation
    def acknowledge(self, run: int) -> Steps[Run]:
        """Confirm that the increment of a run has arrived, where the export is `incremental="on_ack"`."""
        # Doing it twice is as once, says the API.
        request = self._ask("POST", f"/runs/{run}/ack")
        return expect((yield from send(request, self._known.patience(), repeatable=True)), Run)

    @operation
    def download(self, path: str | Path = ".", on_bytes: OnBytes | None = None) -> Steps[Path]:
        """Fetch the result to a path, or into a folder under its own name, and give where it is.

        A download that was cut off goes on where it stopped, also in a later call. The file is checked against the
        SHA-256 that the run recorded, and is there whole or not at all. The folder must exist; a path that ends with
        "/" is one.
        `on_bytes`: called with the bytes that are there and those there will be.
        Raises ConflictError (not DONE, or no export), GoneError, DownloadError.
        """
        to: Path = yield Call(partial(downloads.destination, path))
        return (yield from downloads.download(self._known, self.id, to, on_bytes))

    @operation
    def to_arrow(self) -> Steps["pyarrow.Table"]:
        """The result as an Arrow table, for exports as `parquet`: the format that keeps every type. Needs pyarrow."""
        return (yield from self._table())

    @operation
    def to_pandas(self) -> Steps["pandas.DataFrame"]:
        """The result as a DataFrame with Arrow's types, so that decimals stay exact. Needs pandas and pyarrow."""
        pandas = _imported("pandas")
        table = yield from self._table()
        return (yield Call(partial(table.to_pandas, types_mapper=pandas.ArrowDtype)))

    def _table(self) -> Steps[Any]:
        if self.data.target.get("export_format") != "parquet":
            raise ClientError("only a parquet export keeps the types of its fields; create it with format='parquet'")
        parquet = _imported("pyarrow.parquet")
        with _folder() as folder:
            file = yield from downloads.download(self._known, self.id, folder, None)
            return (yield Call(partial(parquet.read_table, file, memory_map=False)))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        yield Path(folder)


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ClientError(f"this needs {name.partition('.')[0]}, which is not installed") from None


class Task(TaskOperations["Task"], Blocking):
    """A task, with methods that block."""


class AsyncTask(TaskOperations["AsyncTask"], Awaiting):
    """A task, with methods that are awaited."""
