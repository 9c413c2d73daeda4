"""The resource `files`: the files of a run, each with an address."""

import asyncio
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.params import QueryParameter

from longshore.api import download_urls
from longshore.api.download_urls import ExpiresIn, MaxUses
from longshore.api.guard import service_and_caller
from longshore.api.openapi_responses import problems
from longshore.api.paging import Offset, page_response
from longshore.api.runs import RunNumber, run_number
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, task_id
from longshore.database.rows import Page
from longshore.exports.manifest import FileEntry
from longshore.results.links import MAX_SECONDS
from longshore.tasks import result_queries

MAX_PAGE = 1000

FilesLimit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Number of files at most.")]

ENTRY = msgspec.json.Decoder(FileEntry)


class RunFile(FileEntry, frozen=True, kw_only=True):
    """A file of a run, with the address that it can be downloaded from."""

    url: str


@get("/tasks/{id:str}/runs/{run:str}/files", responses=problems(409, 410))
async def list_run_files(  # noqa: PLR0913 (the parameters of the query)
    request: AnyRequest,
    id: Id,
    run: RunNumber,
    limit: FilesLimit = 100,
    offset: Offset = 0,
    expires_in: ExpiresIn = MAX_SECONDS,
    max_uses: MaxUses = None,
) -> Response[list[RunFile]]:
    """Return the files of a run in the order of its manifest, each with a signed address; a page is one link.

    A result that is one file is listed too. `max_uses` counts the downloads of all files of the page together.
    """
    service, caller = service_and_caller(request)
    number = await run_number(service.pool, caller, id, run)
    label = f"run {number} of task {id}"
    page = Page(limit, offset)
    result, listed, more = await result_queries.files(service.pool, caller.chain, task_id(id), number, page)
    found = download_urls.require_result(request, label, result)
    entries = [ENTRY.decode(text) for text in listed]
    folder = found.location.rpartition("/")[0]
    locations = [f"{folder}/{entry.path}" for entry in entries]
    urls: list[str] = []
    if entries:
        signer = await download_urls.open_signer(request, found, expires_in, max_uses)
        urls = await asyncio.to_thread(signer.sign, locations)
    files = [RunFile(**msgspec.structs.asdict(entry), url=url) for entry, url in zip(entries, urls, strict=True)]
    return page_response(request, (files, more), page)
