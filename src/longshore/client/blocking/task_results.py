# Made of ../asynchronous/task_results.py by tools/blocking_client.py: change that file, then run `make format`.
"""The operations on the runs of a task and on their results."""

import builtins
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from longshore.client import arrow
from longshore.client.blocking import download as downloads
from longshore.client.blocking.concurrency import in_thread
from longshore.client.blocking.resource import Resource, first_entries
from longshore.client.blocking.transport import Transport
from longshore.client.download_paths import FILES_PAGE, DownloadOptions, DownloadUrl, download_path
from longshore.client.model import Delivery, Link, Run, RunFile, State, TaskData
from longshore.client.partial_file import OnBytes
from longshore.client.progress_bar import ProgressBar
from longshore.client.requests import idempotency_header, path_step, whole_number

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


class TaskResults(Resource):
    """A task of the service, with the operations on its runs and on their results."""

    def __init__(self, transport: Transport, data: TaskData) -> None:
        super().__init__(transport, f"/tasks/{data.id}")
        self._delivering: int | None = None  # the run that `deliver` was called for and `wait` waits for
        self.data = data
        """The task object of the service's last answer."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.state.code} of {self._transport.connection!r}>"

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

    def _refreshed(self, data: TaskData) -> Self:
        self.data = data
        return self

    def runs(self, limit: int | None = 25) -> builtins.list[Run]:
        """Return the runs with their results, newest first. `limit`: None for all of them."""
        return first_entries(self._pages("/runs", builtins.list[Run], lambda run: run.run), limit)

    def get_run(self, run: int) -> Run:
        """Return one run. Raises NotFoundError."""
        return self._get(f"/runs/{path_step(run)}", Run)

    def latest_run(self) -> Run:
        """Return the DONE run with the newest data, whose result `download` takes. Raises NotFoundError, GoneError."""
        return self._get("/runs/latest", Run)

    def manifest(self, run: int) -> dict[str, Any]:
        """Return the manifest of a run, which describes its result: columns, hash, control totals, changes."""
        return self._get(f"/runs/{path_step(run)}/manifest", dict[str, Any])

    def signature(self, run: int) -> str:
        """Return the signature of the manifest of a run: a detached JWS over its bytes."""
        return downloads.signature_of(self._transport, self.id, run)

    def files(self, run: int) -> builtins.list[RunFile]:
        """Return the files of a run, each with an address that is valid for about an hour."""
        found: builtins.list[RunFile] = []
        while page := downloads.list_files(self._transport, self.id, run, offset=len(found)):
            found += page
            if len(page) < FILES_PAGE:
                break
        return found

    def acknowledge(self, run: int) -> Run:
        """Confirm that the increment of a run of an export with `incremental="on_ack"` has arrived."""
        return self._post(f"/runs/{path_step(run)}/ack", Run)

    def deliveries(self, run: int, limit: int | None = 25, offset: int = 0) -> builtins.list[Delivery]:
        """Return the deliveries of a run to destinations, newest first. `limit`: None for all of them."""
        pages = self._pages(f"/runs/{path_step(run)}/deliveries", builtins.list[Delivery], lambda one: one.id, offset)
        return first_entries(pages, limit)

    def deliver(self, run: int, idempotency_key: str | None = None) -> builtins.list[Delivery]:
        """Bring the result of a run to those of the target's destinations that lack it, else to all of them.

        Return the deliveries of the run, newest first; `wait` then waits for them. Raises ConflictError and GoneError.
        """
        headers = idempotency_header(idempotency_key)
        deliveries = self._post(f"/runs/{path_step(run)}/deliver", builtins.list[Delivery], headers=headers)
        self._delivering = run
        return deliveries

    def download_url(self, run: int | None = None, *, seconds: int = 3600, max_uses: int | None = None) -> str:
        """Return a signed address of a result, for programs without a token. Raises ConflictError and GoneError.

        `run`: the run; None for the one with the newest data. `seconds`: for which it is valid, at most 3,600.
        `max_uses`: how many downloads it allows.
        """
        below = "/download_url" if run is None else f"/runs/{path_step(run)}/download_url"
        return (self._get(below, DownloadUrl, expires_in=seconds, max_uses=max_uses)).url

    def links(self, limit: int | None = 25, offset: int = 0) -> builtins.list[Link]:
        """Return the addresses of results that were given out, newest first. `limit`: None for all of them."""
        return first_entries(self._pages("/links", builtins.list[Link], lambda link: link.id, offset), limit)

    def revoke_link(self, link: str) -> None:
        """End an address that was given out. Raises NotFoundError."""
        self._delete(f"/links/{path_step(link)}")

    def download(  # noqa: PLR0913 (options by keyword)
        self,
        path: str | Path = ".",
        on_bytes: OnBytes | None = None,
        *,
        run: int | None = None,
        manifest: bool = False,
        replace: bool = True,
        progress: bool = False,
    ) -> Path:
        """Download the result to a file, or into a folder under its own name, and return the path.

        `run`: the run whose result it is; None for the one with the newest data. `manifest`: also write the manifest
        and its signature beside the file, for `longshore verify`. `replace`: whether to replace files that exist;
        devices, pipes and symbolic links never are. `progress`: show a bar, as `wait` does.
        A result of many files needs a folder. It always has its manifest and signature, and the path is the manifest's.
        An interrupted download is resumed, also by a later call. A file appears once it is complete and has the
        SHA-256 that the run recorded. The folder must exist; a path that ends with "/" is a folder.
        `on_bytes`: called with the number of bytes so far and the number in total.
        Raises ConflictError (not DONE, or not an export), GoneError, DownloadError, ExistsError.
        """
        to = in_thread(download_path, path)
        with ProgressBar(f"task {self.id}", "bytes", is_shown=progress) as bar:

            def report(done: int, total: int) -> None:
                bar.update(done, total)
                if on_bytes is not None:
                    on_bytes(done, total)

            options = DownloadOptions(report, run, manifest, replace)
            return downloads.download(self._transport, self.id, to, options)

    def to_arrow(self) -> "pyarrow.Table":
        """Return the result of a `parquet` export as an Arrow table. Needs `longshore[arrow]`."""
        arrow.require_parquet(self.data.target)
        with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
            file = downloads.download(self._transport, self.id, Path(folder), DownloadOptions())
            return in_thread(arrow.read, file)

    def batches(self, rows: int = 100_000) -> "Iterator[pyarrow.RecordBatch]":
        """Yield the result of a `parquet` export in batches of at most so many rows, for what exceeds the memory.

        The file is downloaded to the folder for temporary files, and deleted with the last batch. Needs
        `longshore[arrow]`.
        """
        arrow.require_parquet(self.data.target)
        whole_number("rows", rows, minimum=1)
        with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
            file = downloads.download(self._transport, self.id, Path(folder), DownloadOptions())
            found = arrow.batches(file, rows)
            while (batch := in_thread(next, found, None)) is not None:
                yield batch

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the result of a `parquet` export as a DataFrame with Arrow's types, so that decimals stay exact.

        Needs pandas and `longshore[arrow]`.
        """
        pandas = arrow.imported("pandas")
        table = self.to_arrow()
        return in_thread(table.to_pandas, types_mapper=pandas.ArrowDtype)

    def to_polars(self) -> "polars.DataFrame":
        """Return the result of a `parquet` export as a DataFrame of Polars. Needs polars and `longshore[arrow]`."""
        package = arrow.imported("polars")
        frame: polars.DataFrame = in_thread(package.from_arrow, self.to_arrow())
        return frame
