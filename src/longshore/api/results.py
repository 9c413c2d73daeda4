"""Downloads: the signed address of a result, and the file behind it."""

import base64
import re
from typing import Annotated
from urllib.parse import unquote

import asyncpg
import msgspec
from litestar import get
from litestar.params import Parameter
from starlette.responses import FileResponse, MalformedRangeHeader, RangeNotSatisfiable

from longshore.access import audit
from longshore.access.tokens import Level
from longshore.api.access import SECURITY, AnyRequest, actor, admitted, may_export
from longshore.api.documentation import problems
from longshore.api.paging import FAR
from longshore.api.problems import ProblemError
from longshore.api.service import Service
from longshore.api.tasks import Id, task_id
from longshore.exports.formats import media_type
from longshore.results.signing import BadSignatureError
from longshore.tasks.model import Code
from longshore.tasks.read import TaskNotFoundError

OF_TASK = """
select t.state, t.action, t.target ->> 'export_index' as index, r.location, r.result
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = t.run and r.state = 'DONE'
where t.id = $1 and t.chain_id = $2
"""

OF_RUN = """
select r.state, t.action, r.location, r.result, t.target ->> 'export_index' as index
from longshore.tasks t
left join longshore.runs r on r.task_id = t.id and r.run = $3
where t.id = $1 and t.chain_id = $2
"""

AT_LOCATION = """
select t.chain_id, r.task_id, r.run, r.result, r.rows, r.sha256
from longshore.runs r
join longshore.tasks t on t.id = r.task_id
where r.location = $1
"""

RANGE = re.compile(r"[ \t]*([0-9]+-[0-9]*|-[0-9]+)?[ \t]*")


class Download(FileResponse):
    """A file, whole or in ranges (RFC 9110, section 14)."""

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        unit, _, ranges = http_range.partition("=")
        if unit.lower() != "bytes" or not all(RANGE.fullmatch(part) for part in ranges.split(",")):
            return []  # what is no range of bytes is to be ignored
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []  # it ends before it begins
        except RangeNotSatisfiable:
            size = {"Content-Range": f"bytes */{file_size}"}
            raise ProblemError("range-not-satisfiable", f"The file has {file_size} bytes.", size) from None


class DownloadUrl(msgspec.Struct, frozen=True):
    """Where a result may be fetched, without a token, for about an hour."""

    url: str


@get(
    "/tasks/{id:str}/download_url", opt={"level": Level.READ}, security=SECURITY, responses=problems(400, 404, 409, 410)
)
async def get_download_url(request: AnyRequest, id: Id) -> DownloadUrl:
    """A signed address of a DONE export's result, good for about one hour."""
    service, caller = admitted(request)
    row = await service.pool.fetchrow(OF_TASK, task_id(id), caller.chain)
    return await _address(request, f"task {id}", row)


@get(
    "/tasks/{id:str}/runs/{run:str}/download_url",
    opt={"level": Level.READ},
    security=SECURITY,
    responses=problems(400, 404, 409, 410),
)
async def get_download_url_of_run(
    request: AnyRequest, id: Id, run: Annotated[int, Parameter(ge=1, le=FAR, description="Number of the run.")]
) -> DownloadUrl:
    """A signed address of the result that one run of an export left, good for about one hour."""
    service, caller = admitted(request)
    row = await service.pool.fetchrow(OF_RUN, task_id(id), caller.chain, run)
    if row is not None and row["state"] is None:
        raise ProblemError("run-not-found", f"Task {id} has no run {run}.")
    return await _address(request, f"run {run} of task {id}", row)


async def _address(request: AnyRequest, what: str, row: asyncpg.Record | None) -> DownloadUrl:
    service, caller = admitted(request)
    if row is None:
        raise TaskNotFoundError
    if row["index"] in service.catalog:
        may_export(caller, service.catalog[row["index"]])
    if row["state"] != Code.DONE:
        said = f"{what[:1].upper()}{what[1:]} is {row['state']}"
        raise ProblemError("task-not-done", f"{said}, and there is a result only when it is DONE.")
    if row["action"] != "export" and not row["result"]:
        raise ProblemError("no-export", f"The action of {what} is {row['action']!r}, which left no file.")
    if row["location"] is None or service.store.open_path(row["location"]) is None:
        raise ProblemError("result-gone", f"The result of {what} has expired or was deleted.")
    await audit.record(service.pool, actor(request), caller.chain, "result.address", what)
    base = service.settings.public_url or str(request.base_url)
    return DownloadUrl(base.rstrip("/") + service.signer.sign(row["location"]))


@get("/results/{location:path}", opt={"level": None}, include_in_schema=False)
async def download(request: AnyRequest) -> Download:
    """The file behind a signed address, whole or in ranges. Needs no token: the signature is the right."""
    service: Service = request.app.state.service
    # As it was sent: Litestar's own parameter has lost doubled and trailing slashes, and what was signed had none.
    location = unquote(request.scope["raw_path"].decode("latin-1")).removeprefix("/results/")
    given = request.query_params
    if given.keys() != {"expires", "signature"}:
        raise BadSignatureError
    service.signer.check(location, given["expires"], given["signature"])
    row = await service.pool.fetchrow(AT_LOCATION, location)
    path = service.store.open_path(location)
    if row is None or path is None:
        raise ProblemError("result-gone", "The result has expired or was deleted.")
    headers = {
        "ETag": f'"{row["sha256"].hex()}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(row['sha256']).decode()}:",
        "X-Row-Count": str(row["rows"]),
        "Cache-Control": "private, no-store",
    }
    if request.scope["state"].get("head"):  # so that the file is not read for nothing
        request.scope["method"] = "HEAD"
    else:
        details = {"run": row["run"], "range": request.headers.get("range", "")[:200]}
        task = f"task {row['task_id']}"
        await audit.record(service.pool, actor(request), row["chain_id"], "result.download", task, details)
    return Download(path, headers=headers, media_type=media_type(path.name), filename=row["result"])
