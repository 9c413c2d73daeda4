"""The page of one run: its result as the manifest describes it, its first rows, and the manifest itself."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Response, get
from litestar.response import Redirect

from longshore.access import audit
from longshore.api import downloads, run_files, runs
from longshore.api.guard import actor, service_and_caller
from longshore.api.paging import Offset
from longshore.api.runs import RunNumber, run_number
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, task_id
from longshore.api.visibility_checks import refuse_hidden_run
from longshore.console.pages import paging, render_page
from longshore.console.rendering import render
from longshore.database.rows import Page
from longshore.exports.first_rows import FirstRows, first_rows
from longshore.exports.manifest import IndexEntry, Manifest, ManifestField
from longshore.exports.segments import describe
from longshore.tasks import run_queries
from longshore.tasks.model import Run, TaskId
from longshore.tasks.run_queries import DescribedResult

FIRST_ROWS = 20
FILES_PAGE = 100


class ResultManifest(Manifest, frozen=True, kw_only=True):
    """The manifest of a result of one file, or that of many without them."""

    file: str = ""
    sha256: str = ""
    index: str = ""
    fields: Sequence[ManifestField] = ()
    schema: str = ""
    segment: Any = None
    indexes: Sequence[IndexEntry] = ()

    @property
    def parts(self) -> Sequence[IndexEntry | Manifest]:
        """Return what it says of each index."""
        return self.indexes or [self]


MANIFEST = msgspec.json.Decoder(ResultManifest, float_hook=Decimal)
SEGMENT = msgspec.json.Decoder(float_hook=Decimal)


class RunDetails(msgspec.Struct, frozen=True):
    """A run and its result."""

    run: Run
    manifest: ResultManifest | None
    """None for a result without a manifest."""
    is_stored: bool
    many_files: bool
    rules: Any


async def details_of(request: AnyRequest, task: TaskId, run: Run) -> RunDetails:
    """Return a run that the caller may see with its result."""
    service, caller = service_and_caller(request)
    found = await run_queries.described(service.pool, caller.chain, task, run.run)
    segment = SEGMENT.decode(run.segment)
    rules = segment and {"join": segment["join"], "rules": describe.of_resolved(segment)}
    return RunDetails(run, _manifest(found), found.location is not None, found.first_file is not None, rules)


def _manifest(found: DescribedResult) -> ResultManifest | None:
    try:
        return None if found.manifest is None else MANIFEST.decode(found.manifest)
    except msgspec.MsgspecError:
        return None  # as of a result that another version wrote


async def _run(request: AnyRequest, id: Id, run: RunNumber) -> Run:
    found: Run = await runs.get_run.fn(request, id, run)
    return found


@get("/console/{chain:int}/tasks/{id:str}/runs/{run:str}", include_in_schema=False)
async def show_run(request: AnyRequest, id: Id, run: RunNumber) -> Response[str]:
    """Return the page of a run."""
    found = await _run(request, id, run)
    details = await details_of(request, task_id(id), found)
    return await render_page(
        request, "run.html", f"Run {found.run} of task {id}", task_number=id, details=details, first=None
    )


@get("/console/{chain:int}/tasks/{id:str}/runs/{run:str}/rows", include_in_schema=False)
async def show_rows(request: AnyRequest, id: Id, run: RunNumber) -> Response[str]:
    """Return the first rows of a run's result; for htmx, their table alone."""
    service, caller = service_and_caller(request)
    number = await run_number(service.pool, caller, id, run)
    found = await run_queries.described(service.pool, caller.chain, task_id(id), number)
    refuse_hidden_run(caller, service.catalog, found.reads)
    first = await _first_rows(request, found)
    if first.rows:
        about = f"task {id}"
        await audit.record(service.pool, actor(request), caller.chain, "result.preview", about, {"run": number})
    if "hx-request" in request.headers:
        return await asyncio.to_thread(render, "first_rows.html", first=first)
    details = await details_of(request, task_id(id), await _run(request, id, number))
    title = f"Run {number} of task {id}"
    return await render_page(request, "run.html", title, task_number=id, details=details, first=first)


async def _first_rows(request: AnyRequest, found: DescribedResult) -> FirstRows:
    service, _ = service_and_caller(request)
    manifest = _manifest(found)
    if manifest is None:
        return FirstRows([], [], "The run left no rows.")
    if found.location is None:
        return FirstRows([], [], "The file has expired or was deleted.")
    location = found.location
    if found.first_file is not None:
        location = f"{location.rpartition('/')[0]}/{found.first_file}"
    return await asyncio.to_thread(first_rows, service.store, location, manifest.format, manifest.csv, FIRST_ROWS)


@get("/console/{chain:int}/tasks/{id:str}/runs/{run:str}/files", include_in_schema=False)
async def show_files(request: AnyRequest, id: Id, run: RunNumber, offset: Offset = 0) -> Response[str]:
    """Return the files of a run, each with an address."""
    service, caller = service_and_caller(request)
    number = await run_number(service.pool, caller, id, run)
    listed = await run_files.list_run_files.fn(request, id, number, FILES_PAGE, offset)
    return await render_page(
        request,
        "run_files.html",
        f"Files of run {number} of task {id}",
        task_number=id,
        run=number,
        files=listed.content,
        **paging(Page(FILES_PAGE, offset), "Link" in listed.headers),
    )


@get("/console/{chain:int}/tasks/{id:str}/runs/{run:str}/manifest", include_in_schema=False)
async def show_manifest(request: AnyRequest, id: Id, run: RunNumber) -> Response[bytes]:
    """Return the manifest of a run, to be saved as a file."""
    number, text = await runs.manifest_of(request, id, run)
    headers = {"Content-Disposition": f'attachment; filename="task-{id}-run-{number}.manifest.json"'}
    return Response(text, headers=headers, media_type="application/json")


@get("/console/{chain:int}/tasks/{id:str}/runs/{run:str}/download", include_in_schema=False)
async def download_run(request: AnyRequest, id: Id, run: RunNumber) -> Redirect:
    """Redirect to a signed address of a run's result."""
    found = await downloads.get_run_download_url.fn(request, id, run)
    return Redirect(found.url, status_code=303)
