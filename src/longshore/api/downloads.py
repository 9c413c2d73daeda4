"""Downloads: signed addresses of results, and the files."""

import base64
import re
from urllib.parse import unquote

import msgspec
from litestar import Response, delete, get
from litestar.params import FromPath
from starlette.responses import FileResponse
from starlette.responses import Response as StarletteResponse

from longshore.access import audit
from longshore.api.audited_changes import audited
from longshore.api.conditional import is_not_modified, require_match, require_unmodified
from longshore.api.download_urls import DELTA_KERNEL_PARAMETER, ExpiresIn, MaxUses, signed_url
from longshore.api.guard import actor, service_and_caller
from longshore.api.ids import uuid_of
from longshore.api.openapi_responses import problems
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.runs import RunNumber, run_number
from longshore.api.service import AnyRequest, Service
from longshore.api.tasks import Id, lock_to_change, task_id
from longshore.api.visibility_checks import changeable_task
from longshore.database.rows import Page
from longshore.errors import ProblemError
from longshore.results import links
from longshore.results.links import MAX_SECONDS, Link
from longshore.results.media_types import media_type
from longshore.tasks import result_queries

RANGE = re.compile(r"[ \t]*(?:([0-9]*)-([0-9]*))?[ \t]*")
MAX_RANGE_CHARS = 4096  # of a `Range` field; as many ranges as are answered are shorter


def choose_ranges(request: AnyRequest, file: FileResponse, size: int) -> None:
    """Replace the `Range` of a request by those of its ranges that the file has, or remove it if it is to be ignored.

    RFC 9110, section 14. A HEAD has no range, nor has a request with several `Range` fields: the field is not a list.
    Raises ProblemError where the request asks for ranges that the file has none of.
    """
    given, validator = request.headers.getall("range", []), request.headers.get("if-range")
    is_same = validator is None or validator in (file.headers["etag"], file.headers["last-modified"])
    is_used = len(given) == 1 and is_same and request.scope["method"] != "HEAD"
    ranges = _ranges(given[0], size) if is_used else []
    fields = [field for field in request.scope["headers"] if field[0] != b"range"]
    chosen = [(b"range", f"bytes={','.join(ranges)}".encode())] if ranges else []
    request.scope["headers"] = fields + chosen


def _ranges(header: str, size: int) -> list[str]:
    """Return the ranges of a `Range` field that a file has; none if the field is invalid or too long, so ignored."""
    unit, _, ranges = header.partition("=")
    if len(header) > MAX_RANGE_CHARS or unit.strip(" \t").lower() != "bytes":
        return []
    parts = [RANGE.fullmatch(part) for part in ranges.split(",")]
    wanted = [part.groups() for part in parts if part is not None and part[1] is not None]
    invalid = None in parts or any(not first + last or _is_reversed(first, last) for first, last in wanted)
    if invalid or not 0 < len(wanted) <= FileResponse.max_ranges:
        return []
    spans = [_span(first, last, size) for first, last in wanted]
    found = [f"{start}-{end - 1}" for start, end in spans if start < end]
    if not found:
        raise ProblemError("range-not-satisfiable", f"The file has {size} bytes.", {"Content-Range": f"bytes */{size}"})
    return found


def _is_reversed(first: str, last: str) -> bool:
    return bool(first and last) and _number(first) > _number(last)


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """Return begin and end of a range, which may lie beyond the file: `5-9`, `5-` or the last bytes, `-5`."""
    if not first:
        return max(size - _number(last), 0), size
    return _number(first), min(_number(last) + 1, size) if last else size


def _number(digits: str) -> int:
    """Return a number; one of 19 digits and more becomes a size that no file has, as Python limits its digits."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 19 else 10**18


class DownloadUrl(msgspec.Struct, frozen=True):
    """The address of a result, which needs no token and is valid for about an hour."""

    url: str


@get("/tasks/{id:str}/download_url", responses=problems(409, 410))
async def get_download_url(
    request: AnyRequest, id: Id, expires_in: ExpiresIn = MAX_SECONDS, max_uses: MaxUses = None
) -> DownloadUrl:
    """Return a signed address of a `DONE` export's result, valid for about one hour."""
    service, caller = service_and_caller(request)
    found = await result_queries.of_task(service.pool, caller.chain, task_id(id))
    return DownloadUrl(await signed_url(request, f"task {id}", found, expires_in, max_uses))


@get("/tasks/{id:str}/runs/{run:str}/download_url", responses=problems(409, 410))
async def get_run_download_url(
    request: AnyRequest, id: Id, run: RunNumber, expires_in: ExpiresIn = MAX_SECONDS, max_uses: MaxUses = None
) -> DownloadUrl:
    """Return a signed address of the result of one run of an export, valid for about one hour."""
    service, caller = service_and_caller(request)
    number = await run_number(service.pool, caller, id, run)
    found = await result_queries.of_run(service.pool, caller.chain, task_id(id), number)
    return DownloadUrl(await signed_url(request, f"run {number} of task {id}", found, expires_in, max_uses))


@get("/tasks/{id:str}/links")
async def list_download_links(
    request: AnyRequest, id: Id, limit: Limit = 25, offset: Offset = 0
) -> Response[list[Link]]:
    """Return the links of a task, one for each download address, newest first, with their credentials and uses."""
    service, caller = service_and_caller(request)
    await changeable_task(service, caller, service.pool, task_id(id))
    page = Page(limit, offset)
    listed = await links.of_task(service.pool, caller.chain, task_id(id), service.sessions.lifetimes, page)
    return page_response(request, listed, page)


@delete("/tasks/{id:str}/links/{link:str}", opt={"conditional": True})
async def revoke_download_link(request: AnyRequest, id: Id, link: FromPath[str]) -> None:
    """Revoke a link: no further download begins with its address. A running one goes on."""
    _, caller = service_and_caller(request)
    async with audited(request, "result.revoke", f"task {id}", {"link": link.lower()}) as change:
        await lock_to_change(request, change.connection, task_id(id))
        await links.revoke(change.connection, caller.chain, task_id(id), uuid_of(link, "link-not-found"))


@get("/results/{location:path}", include_in_schema=False)
async def download(request: AnyRequest) -> StarletteResponse:
    """Return the file of a signed address, whole or in ranges. It needs no token: the signature is the right."""
    service: Service = request.app.state.service
    # The path as sent: Litestar's parameter has lost doubled and trailing slashes.
    location = unquote(request.scope["raw_path"].decode("latin-1")).removeprefix("/results/")
    items = [item for item in request.query_params.multi_items() if "=".join(item) != DELTA_KERNEL_PARAMETER]
    given = dict(items)
    if given.keys() != {"expires", "link", "signature"}:
        raise ProblemError("bad-address")
    link = service.signer.check(location, given["expires"], given["link"], given["signature"])
    file = await result_queries.at_location(service.pool, location)
    path = service.store.open_path(location)
    if file is None or path is None:
        raise ProblemError("result-gone", "The result has expired or was deleted.")
    tag = f'"{file.sha256.hex()}"'
    headers = {
        "ETag": tag,
        "Repr-Digest": f"sha-256=:{base64.b64encode(file.sha256).decode()}:",
        "X-Row-Count": str(file.rows),
        "Cache-Control": "private, no-store",
    }
    head = request.scope["state"].get("head")
    if head:  # so that the file is not read
        request.scope["method"] = "HEAD"
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise ProblemError("result-gone", "The result has expired or was deleted.") from None
    if not await links.may_use(service.pool, link, service.sessions.lifetimes):
        raise ProblemError("bad-address")
    # Answers without bytes of the file do not count as uses.
    require_match(request, tag)
    require_unmodified(request, stat.st_mtime)
    if is_not_modified(request, tag, stat.st_mtime):
        return StarletteResponse(status_code=304, headers=headers)
    details = {"run": file.run, "link": str(link), "range": request.headers.get("range", "")[:200]}
    media = media_type(path.name)
    answer = FileResponse(path, headers=headers, media_type=media, filename=file.name, stat_result=stat)
    choose_ranges(request, answer, stat.st_size)
    if head:
        return answer
    async with service.pool.acquire() as connection, connection.transaction():
        if not await links.use(connection, link, service.sessions.lifetimes):
            raise ProblemError("bad-address")
        await audit.record(connection, actor(request), file.chain, "result.download", f"task {file.task}", details)
    return answer
