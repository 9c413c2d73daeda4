"""The resource `files`: the files of a run, each with an address."""

import asyncio
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.params import QueryParameter

from longshore.api import addresses
from longshore.api.addresses import ExpiresIn, MaxUses
from longshore.api.guard import admitted
from longshore.api.openapi_responses import problems
from longshore.api.paging import Offset, page_response
from longshore.api.runs import RunNumber, run_number
from longshore.api.service import AnyRequest
from longshore.api.tasks import Id, task_id
from longshore.database.rows import Page
from longshore.errors import NotFoundError
from longshore.exports.manifest import FileEntry
from longshore.results.links import MAX_SECONDS

MAX_PAGE = 1000

# $4, $5: offset and limit. A result of one file is the only one itself.
FILES = """
select t.id, case when r.result is not null then 'DONE' else r.state end as state, t.action, r.reads, r.run, r.location,
       r.result, r.expires_at,
       array(
           select json_build_object('path', path, 'index', index, 'partition', partition, 'rows', rows, 'bytes', bytes,
                                    'sha256', encode(sha256, 'hex'))::text
           from (
               select number, path, index, partition, rows, bytes, sha256
               from longshore.run_files
               where task_id = r.task_id and run = r.run
               union all
               select 1, r.result, coalesce(r.summary ->> 'index', ''), '{}', r.rows, r.bytes, r.sha256
               where r.summary ->> 'files' is null
           ) files
           where number > $4 and number <= $4::bigint + $5
           order by number
       ) as files
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""

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
    service, caller = admitted(request)
    number = await run_number(service.pool, caller, id, run)
    what = f"run {number} of task {id}"
    row = await service.pool.fetchrow(FILES, task_id(id), caller.chain, number, offset, limit + 1)
    if row is not None and row["state"] is None:
        raise NotFoundError("run-not-found", f"Task {id} has no run {number}.")
    found = addresses.downloadable(request, what, row)
    assert row is not None
    if row["expires_at"] is None:
        raise addresses.result_gone(what)
    entries = [ENTRY.decode(text) for text in row["files"]]
    page, more = entries[:limit], len(entries) > limit
    folder = found.location.rpartition("/")[0]
    locations = [f"{folder}/{entry.path}" for entry in page]
    urls: list[str] = []
    if page:
        signing = await addresses.open_addresses(request, found, expires_in, max_uses)
        urls = await asyncio.to_thread(signing.sign, locations)
    files = [RunFile(**msgspec.structs.asdict(entry), url=url) for entry, url in zip(page, urls, strict=True)]
    return page_response(request, (files, more), Page(limit, offset))
