"""The resource `segments`: store filters that tasks name by id, and try one out before an export is made of it."""

import asyncpg
import structlog
from litestar import Response, delete, get, post, put

from longshore.access import audit
from longshore.access.tokens import Caller
from longshore.api.access import AnyRequest, actor, admitted
from longshore.api.bodies import read_json
from longshore.api.documentation import problems, taking
from longshore.api.limits import may_export, refuse_hidden_fields, refuse_hidden_rules, seen
from longshore.api.paging import Limit, Offset, next_page
from longshore.api.problems import ProblemError
from longshore.api.segment_bodies import PreviewBody, SegmentBody, read_preview, read_segment
from longshore.database.connect import is_passing
from longshore.exports import stored_segments
from longshore.exports.columns import choices
from longshore.exports.preview import Preview, preview
from longshore.exports.snapshots import SnapshotOutdatedError
from longshore.exports.source_errors import reason
from longshore.exports.stored_segments import OtherIndexError, SegmentNotFoundError, StoredSegment, as_id
from longshore.faults import Fault, FaultyError

log = structlog.get_logger()


@post(
    "/segments",
    operation_class=taking(SegmentBody),
    responses=problems(400, 413, 415),
)
async def create_segment(request: AnyRequest, body: bytes) -> Response[StoredSegment]:
    """Store a segment, for `trigger.segment_id` of tasks to name."""
    service, caller = admitted(request)
    new = read_segment(read_json(request, body), service.catalog)
    _refuse_other_chain(caller, new.chain)
    refuse_hidden_rules(caller, new.segment, "/segment")
    async with service.pool.acquire() as connection, connection.transaction():
        stored = await stored_segments.create(connection, caller.chain, new.name, new.segment)
        await audit.record(connection, actor(request), caller.chain, "segment.create", f"segment {stored.id}")
    return Response(stored, status_code=201, headers={"Location": f"/segments/{stored.id}"})


@get(
    "/segments",
    opt={"parameters": ("limit", "offset")},
    responses=problems(400),
)
async def list_segments(request: AnyRequest, limit: Limit = 25, offset: Offset = 0) -> Response[list[StoredSegment]]:
    """The chain's stored segments, newest first."""
    service, caller = admitted(request)
    found, more = await stored_segments.list_segments(service.pool, caller.chain, limit, offset)
    return Response(found, headers=next_page(request, more, limit, offset))


@get("/segments/{id:str}", responses=problems(400, 404))
async def get_segment(request: AnyRequest, id: str) -> StoredSegment:
    """One stored segment."""
    service, caller = admitted(request)
    found = as_id(id)
    if found is None:
        raise SegmentNotFoundError
    return await stored_segments.get(service.pool, caller.chain, found)


@put(
    "/segments/{id:str}",
    operation_class=taking(SegmentBody),
    responses=problems(400, 404, 413, 415),
)
async def replace_segment(request: AnyRequest, id: str, body: bytes) -> StoredSegment:
    """Replace a stored segment. Runs that begin later take the new one; its index stays the same."""
    service, caller = admitted(request)
    new = read_segment(read_json(request, body), service.catalog)
    _refuse_other_chain(caller, new.chain)
    refuse_hidden_rules(caller, new.segment, "/segment")
    found = as_id(id)
    if found is None:
        raise SegmentNotFoundError
    try:
        async with service.pool.acquire() as connection, connection.transaction():
            replaced = await stored_segments.replace(connection, caller.chain, found, new.name, new.segment)
            await audit.record(connection, actor(request), caller.chain, "segment.replace", f"segment {found}")
            return replaced
    except OtherIndexError as error:
        expected = f"expected {error.index!r}: a stored segment keeps its index, as tasks rely on it"
        raise FaultyError([Fault(expected, "/segment/index")]) from None


@delete("/segments/{id:str}", status_code=204, responses=problems(400, 404))
async def delete_segment(request: AnyRequest, id: str) -> None:
    """Delete a stored segment. Runs that begin later of tasks that name it end in `ERROR`."""
    service, caller = admitted(request)
    found = as_id(id)
    if found is None:
        raise SegmentNotFoundError
    async with service.pool.acquire() as connection, connection.transaction():
        await stored_segments.delete(connection, caller.chain, found)
        await audit.record(connection, actor(request), caller.chain, "segment.delete", f"segment {found}")


@post(
    "/segments/preview",
    status_code=200,
    operation_class=taking(PreviewBody),
    responses=problems(400, 409, 413, 415),
)
async def preview_segment(request: AnyRequest, body: bytes) -> Preview:
    """Count the rows that a segment takes now, show the first ten, and forecast size and time of their export."""
    service, caller = admitted(request)
    asked = read_preview(read_json(request, body), service.catalog)
    _refuse_other_chain(caller, asked.segment.chain_id)
    index = service.catalog[asked.segment.index]
    may_export(caller, asked.segment.index, index, "/segment/index")
    refuse_hidden_rules(caller, asked.segment, "/segment")
    fields = list(seen(caller, asked.segment.index, index)) if asked.fields is None else asked.fields
    refuse_hidden_fields(caller, asked.segment.index, index, fields, "/fields")
    # It shows rows, so it is told of before it is answered.
    await audit.record(service.pool, actor(request), caller.chain, "segment.preview", f"index {asked.segment.index}")
    source = service.pool if index.own else service.source
    try:
        return await preview(source, index, choices(fields, index), asked.segment, caller.chain)
    except asyncpg.QueryCanceledError:
        raise ProblemError("unavailable", "The source did not even plan the query in time; try again later.") from None
    except SnapshotOutdatedError:
        raise ProblemError("unavailable", "A table was replaced just now; try again.", {"Retry-After": "1"}) from None
    except asyncpg.PostgresError as error:
        if is_passing(error):
            raise
        log.warning("the source refused a preview", error=str(error))
        raise ProblemError("source-refused", f"The source refused the query: {reason(error)}.") from None


def _refuse_other_chain(caller: Caller, chain: int) -> None:
    if chain != caller.chain:
        raise ProblemError("forbidden", f"The credential is for chain {caller.chain}, the body says {chain}.")
