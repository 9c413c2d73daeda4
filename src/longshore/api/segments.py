"""The resource `segments`: stored filters that tasks name by id, and previews of filters."""

from typing import Annotated, Any
from uuid import UUID

import asyncpg
import msgspec
import structlog
from litestar import Response, delete, get, post, put
from litestar.params import FromPath, RawBody

from longshore.access import audit
from longshore.access.tokens import Caller
from longshore.api.audited_changes import audited, audited_in
from longshore.api.bodies import read_json
from longshore.api.conditional import UNMODIFIED, KnownTags, representation_tag, require_match, tagged_response
from longshore.api.guard import actor, service_and_caller
from longshore.api.idempotency_key import REPLAYED, IdempotencyKey, claim_of
from longshore.api.ids import uuid_of
from longshore.api.openapi_responses import answers, problems
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.segment_bodies import PreviewBody, SegmentBody, read_preview, read_segment
from longshore.api.service import AnyRequest, Service
from longshore.api.source import SLOW_RETRY_SECONDS, source_connection, source_unavailable
from longshore.api.visibility_checks import (
    refuse_hidden_preview_body,
    refuse_hidden_segment_body,
    refuse_hidden_stored_segment,
    refuse_other_chain,
    visible_catalog,
    visible_segment,
)
from longshore.database.connect import Connection, Pool
from longshore.database.retry import DATABASE_ERRORS, is_transient
from longshore.database.rows import Page
from longshore.errors import ProblemError
from longshore.exports.columns import choices
from longshore.exports.preview import NO_DELETES, Preview, preview
from longshore.exports.run_errors import reason
from longshore.exports.segments import stored as stored_segments
from longshore.exports.segments.stored import StoredSegment
from longshore.exports.snapshot import SnapshotOutdatedError
from longshore.tasks import idempotency
from longshore.tasks.idempotency import StoredAnswer

log = structlog.get_logger()


@post("/segments", responses=problems(404, 409))
async def create_segment(
    request: AnyRequest, body: Annotated[RawBody, SegmentBody], idempotency_key: IdempotencyKey = None
) -> Response[StoredSegment]:
    """Store a segment; tasks name it in `trigger.segment_id`."""
    value = read_json(request, body)
    claim = claim_of(request, idempotency_key, value)
    service, caller = service_and_caller(request)
    refuse_hidden_segment_body(caller, service.catalog, value)
    # The outcome of an earlier request does not depend on whether the body is still valid.
    if (before := await idempotency.find(service.pool, claim)) is not None:
        return await _created(service, caller, before, REPLAYED)
    new = _read(service, caller, value)

    async def make(connection: Connection) -> StoredAnswer:
        async with audited_in(connection, request, "segment.create") as change:
            by = actor(request).name
            stored = await stored_segments.create(connection, caller.chain, new.name, new.segment, by)
            change.object = f"segment {stored.id}"
        return StoredAnswer(None, stored.id.bytes)

    kept, replayed = await idempotency.once(service.pool, claim, make)
    return await _created(service, caller, kept, REPLAYED if replayed else {})


async def _created(
    service: Service, caller: Caller, kept: StoredAnswer, headers: dict[str, str]
) -> Response[StoredSegment]:
    """Return the segment that a request made, as it is now. Raises NotFoundError."""
    stored = await stored_segments.get(service.pool, caller.chain, UUID(bytes=kept.answer))
    stored = visible_segment(caller, service.catalog, stored)  # another credential may have replaced it meanwhile
    headers = {**headers, "Location": f"/segments/{stored.id}", "ETag": _tag(stored)}
    return Response(stored, headers=headers)


@get("/segments")
async def list_segments(request: AnyRequest, limit: Limit = 25, offset: Offset = 0) -> Response[list[StoredSegment]]:
    """Return the chain's stored segments, newest first. `segment` is null where its rules are hidden."""
    service, caller = service_and_caller(request)
    page = Page(limit, offset)
    stored, more = await stored_segments.list_segments(service.pool, caller.chain, page)
    return page_response(request, ([visible_segment(caller, service.catalog, each) for each in stored], more), page)


@get("/segments/{id:str}", responses=answers(None, UNMODIFIED) | problems(412))
async def get_segment(request: AnyRequest, id: FromPath[str], _known: KnownTags = "") -> Response[StoredSegment]:
    """Return one stored segment. `If-Match` of a change names its `ETag`."""
    service, caller = service_and_caller(request)
    stored = await _visible(caller, service, service.pool, id)
    return tagged_response(request, stored, {"ETag": _tag(stored)})


@put("/segments/{id:str}", opt={"conditional": True})
async def replace_segment(
    request: AnyRequest, id: FromPath[str], body: Annotated[RawBody, SegmentBody]
) -> Response[StoredSegment]:
    """Replace a stored segment. Later runs use the new one; its index stays the same."""
    service, caller = service_and_caller(request)
    new = _read(service, caller, read_json(request, body))
    async with audited(request, "segment.replace") as change:
        old = await _visible(caller, service, change.connection, id, lock=True)
        require_match(request, _tag(old))
        change.object = f"segment {old.id}"
        replaced = await stored_segments.replace(change.connection, caller.chain, old.id, new.name, new.segment)
        return Response(replaced, headers={"ETag": _tag(replaced)})


@delete("/segments/{id:str}", opt={"conditional": True})
async def delete_segment(request: AnyRequest, id: FromPath[str]) -> None:
    """Delete a stored segment. Later runs of tasks that name it end in `ERROR`."""
    service, caller = service_and_caller(request)
    async with audited(request, "segment.delete") as change:
        old = await _visible(caller, service, change.connection, id, lock=True)
        require_match(request, _tag(old))
        change.object = f"segment {old.id}"
        await stored_segments.delete(change.connection, caller.chain, old.id)


@post("/segments/preview", status_code=200, responses=problems(409))
async def preview_segment(request: AnyRequest, body: Annotated[RawBody, PreviewBody]) -> Preview:
    """Count the rows that match a segment now, return ten of them, and estimate size and time of their export."""
    return await preview_of_body(request, read_json(request, body), shows_rows=True)


async def preview_of_body(request: AnyRequest, value: Any, *, shows_rows: bool) -> Preview:
    """Return the preview of a body. `shows_rows`: whether it has rows, and an entry in the audit log.

    Raises ProblemError.
    """
    service, caller = service_and_caller(request)
    refuse_hidden_preview_body(caller, service.catalog, value)
    catalog = visible_catalog(caller, service.catalog)
    wanted = read_preview(value, catalog)
    refuse_other_chain(caller, wanted.segment.chain_id)
    index = service.catalog[wanted.segment.index]
    fields = list(catalog[wanted.segment.index].fields) if wanted.fields is None else wanted.fields
    if shows_rows:  # so its audit entry is written before the answer
        about = f"index {wanted.segment.index}"
        await audit.record(service.pool, actor(request), caller.chain, "segment.preview", about)
    try:
        async with service.previews.turn(caller.chain), source_connection(service, index) as source:
            found = await preview(source, index, choices(fields, index), wanted.segment, caller.chain)
    except asyncpg.QueryCanceledError:
        detail = "The source did not plan the query in time."
        raise ProblemError("source-busy", detail, {"Retry-After": str(SLOW_RETRY_SECONDS)}) from None
    except SnapshotOutdatedError:
        raise ProblemError("source-busy", "A table was replaced just now.", {"Retry-After": "1"}) from None
    except DATABASE_ERRORS as error:
        if is_transient(error):
            raise source_unavailable(error) from None
        if not isinstance(error, asyncpg.PostgresError):
            raise
        log.warning("the source refused a preview", error=str(error))
        raise ProblemError("source-refused", f"The source refused the query: {reason(error)}.") from None
    if wanted.incremental and not wanted.deletes and wanted.segment.rules:
        found = msgspec.structs.replace(found, warnings=[*found.warnings, NO_DELETES])
    return found if shows_rows else msgspec.structs.replace(found, sample=[])


def _read(service: Service, caller: Caller, value: Any) -> SegmentBody:
    """Return the segment of a body to store, validated by the part of the catalog that the caller may see."""
    refuse_hidden_segment_body(caller, service.catalog, value)
    new = read_segment(value, visible_catalog(caller, service.catalog))
    refuse_other_chain(caller, new.chain)
    return new


async def _visible(
    caller: Caller, service: Service, connection: Connection | Pool, id: str, *, lock: bool = False
) -> StoredSegment:
    """Return a stored segment whose rules the caller may see. Raises NotFoundError and ForbiddenError.

    `lock`: whether to lock it until the connection's transaction ends.
    """
    stored = await stored_segments.get(connection, caller.chain, uuid_of(id, "segment-not-found"), lock=lock)
    refuse_hidden_stored_segment(caller, service.catalog, stored, "/segment")
    return stored


def _tag(stored: StoredSegment) -> str:
    return representation_tag(msgspec.json.encode(stored))
