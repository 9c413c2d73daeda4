"""The resource `destinations`: a chain's own places for results, their tests, and the kinds that there are."""

import asyncio
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import structlog
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, RawBody

from longshore.access.tokens import Caller
from longshore.api.audited_changes import audited, audited_in
from longshore.api.bodies import BODY, MERGE_PATCH, read_json
from longshore.api.conditional import UNMODIFIED, KnownTags, require_match, tagged_response
from longshore.api.destination_bodies import (
    DestinationBody,
    DestinationChange,
    Draft,
    read_change,
    read_draft,
    read_new,
)
from longshore.api.guard import actor, service_and_caller
from longshore.api.idempotency_key import CANONICAL, REPLAYED, IdempotencyKey, claim_of
from longshore.api.ids import uuid_of
from longshore.api.json_schemas import schema_of
from longshore.api.openapi_responses import answers, problems
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.service import TEST_LIMIT, TEST_RATE, AnyRequest, Service
from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page
from longshore.destinations import stored
from longshore.destinations.kind import DestinationError, Kind, Step
from longshore.destinations.redaction import raised_at
from longshore.destinations.stored import Destination, StoredDestination, stored_settings
from longshore.errors import ProblemError
from longshore.outbound import Network
from longshore.tasks import delivery_queries, idempotency
from longshore.tasks.idempotency import Claim, StoredAnswer
from longshore.validation import in_json

log = structlog.get_logger()

TEST_SECONDS = 45.0


class DestinationTest(msgspec.Struct, frozen=True):
    """The result of the test of a destination."""

    ok: bool
    """Whether all steps worked, so that deliveries will."""
    steps: list[Step]
    """In order; a step that does not work is the last one."""


class DestinationKind(msgspec.Struct, frozen=True):
    """A kind of destination, and the JSON schemas of its settings and secret."""

    kind: str
    takes: Literal["files", "tables"]
    settings: dict[str, Any]
    secret: dict[str, Any]


@post("/destinations", responses=problems(409))
async def create_destination(
    request: AnyRequest, body: Annotated[RawBody, DestinationBody], idempotency_key: IdempotencyKey = None
) -> Response[Destination]:
    """Create a destination; tasks name it in `target.deliver`. The secret is stored encrypted and never given back."""
    service, caller = service_and_caller(request)
    value = read_json(request, body)
    claim = _claim(request, service, idempotency_key, value)
    # The outcome of an earlier request does not depend on whether the body is still valid.
    if (before := await idempotency.find(service.pool, claim)) is not None:
        return await _created(service, caller, before, REPLAYED)
    # In a thread, as the check of a kind may decrypt a key.
    new = await asyncio.to_thread(read_new, value, service.destinations.kinds, _allow(service, caller))

    async def make(connection: Connection) -> StoredAnswer:
        async with audited_in(connection, request, "destination.create") as change:
            made = await service.destinations.create(connection, caller.chain, new, actor(request).name)
            change.object = f"destination {made.destination.id}"
            change.details = {"name": new.name, "kind": new.kind}
        return StoredAnswer(None, made.destination.id.bytes)

    kept, replayed = await idempotency.once(service.pool, claim, make)
    return await _created(service, caller, kept, REPLAYED if replayed else {})


def _claim(request: AnyRequest, service: Service, key: str | None, value: Any) -> Claim | None:
    """Return the claim of a request with a secret, of which only a digest under a key of the vault is kept."""
    if key is None or not isinstance(value, dict) or "secret" not in value:
        return claim_of(request, key, value)
    digests = service.vault.digests(CANONICAL.encode(value["secret"]))
    return claim_of(request, key, *(value | {"secret": digest} for digest in digests))


async def _created(
    service: Service, caller: Caller, kept: StoredAnswer, headers: dict[str, str]
) -> Response[Destination]:
    """Return the destination that a request made, as it is now. Raises NotFoundError."""
    found = await stored.get(service.pool, caller.chain, UUID(bytes=kept.answer))
    return _answer(found, {**headers, "Location": f"/destinations/{found.destination.id}"})


@get("/destinations")
async def list_destinations(request: AnyRequest, limit: Limit = 25, offset: Offset = 0) -> Response[list[Destination]]:
    """Return the chain's destinations, newest first, without their secrets."""
    service, caller = service_and_caller(request)
    page = Page(limit, offset)
    return page_response(request, await stored.list_destinations(service.pool, caller.chain, page), page)


@get("/destinations/{id:str}", responses=answers(None, UNMODIFIED) | problems(412))
async def get_destination(request: AnyRequest, id: FromPath[str], _known: KnownTags = "") -> Response[Destination]:
    """Return one destination without its secret. `If-Match` of a change names its `ETag`."""
    found = await get_stored(request, id)
    return tagged_response(request, found.destination, {"ETag": tag_of(found)})


async def get_stored(request: AnyRequest, id: str) -> StoredDestination:
    """Return a destination of the caller's chain. Raises NotFoundError."""
    service, caller = service_and_caller(request)
    return await stored.get(service.pool, caller.chain, uuid_of(id, "destination-not-found"))


@patch("/destinations/{id:str}", opt={"conditional": True}, responses=problems(409))
async def change_destination(
    request: AnyRequest, id: FromPath[str], body: Annotated[RawBody, DestinationChange, MERGE_PATCH]
) -> Response[Destination]:
    """Change the settings or the secret of a destination; name and kind stay.

    A change of settings that say where or as whom to connect needs the secret again. As `application/json`, each named
    key is replaced as a whole. As `application/merge-patch+json` (RFC 7396) the settings are merged.
    """
    value, merges = read_json(request, body), request.content_type[0] == MERGE_PATCH
    return _answer(await change_stored(request, id, value, merges=merges))


async def change_stored(
    request: AnyRequest, id: str, value: Any, *, merges: bool = False, expected: str | None = None
) -> StoredDestination:
    """Change a destination by a body, and return it. Raises ProblemError.

    `merges`: the settings of the body are merged into those that are stored. `expected`: the entity tag that it must
    have, beside the conditions of the request.
    """
    service, caller = service_and_caller(request)
    async with audited(request, "destination.change") as entry:
        old = await stored.get(entry.connection, caller.chain, uuid_of(id, "destination-not-found"), lock=True)
        require_match(request, tag_of(old))
        if expected is not None and expected != tag_of(old):
            raise ProblemError("changed-meanwhile", "The destination was changed meanwhile; open the form again.")
        needs_secret = not (isinstance(value, dict) and "secret" in value)
        draft = await _stored_draft(service, caller, entry.connection, old.destination, with_secret=needs_secret)
        settings = BODY.decode(bytes(old.destination.settings))
        new = await asyncio.to_thread(read_change, value, draft, settings, _allow(service, caller), merges=merges)
        entry.object = f"destination {old.destination.id}"
        entry.details = {"name": old.destination.name, "changed": sorted(value)}
        if needs_secret and new.settings == draft.settings:
            entry.happens = False
            return old
        return await service.destinations.change(
            entry.connection, caller.chain, old.destination.id, new.settings, new.secret
        )


@delete("/destinations/{id:str}", opt={"conditional": True}, responses=problems(409))
async def delete_destination(request: AnyRequest, id: FromPath[str]) -> None:
    """Delete a destination with its secret. What was delivered stays where it is."""
    _, caller = service_and_caller(request)
    async with audited(request, "destination.delete") as change:
        old = await stored.get(change.connection, caller.chain, uuid_of(id, "destination-not-found"), lock=True)
        require_match(request, tag_of(old))
        name = old.destination.name
        if await delivery_queries.is_in_use(change.connection, caller.chain, name):
            raise ProblemError("destination-in-use")
        change.object, change.details = f"destination {old.destination.id}", {"name": name}
        await stored.delete(change.connection, caller.chain, old.destination.id)


@post("/destinations/test", status_code=200)
async def test_new_destination(request: AnyRequest, body: Annotated[RawBody, DestinationBody]) -> DestinationTest:
    """Try each thing that a delivery does, with a file or table that is removed again. Nothing is stored.

    Takes the body of `POST /destinations`, which may lack what only a stored destination needs: without the `host_key`
    of a kind that has one, `detail` says which key the server shows.
    """
    service, caller = service_and_caller(request)
    value = read_json(request, body)
    draft = await asyncio.to_thread(read_draft, value, service.destinations.kinds, _allow(service, caller))
    return await _test(request, draft, "", {"name": value.get("name"), "kind": value["kind"]})


@post("/destinations/{id:str}/test", status_code=200, responses=problems(409))
async def test_destination(request: AnyRequest, id: FromPath[str]) -> DestinationTest:
    """Test a destination with the settings and the secret that are stored."""
    service, caller = service_and_caller(request)
    found = (await stored.get(service.pool, caller.chain, uuid_of(id, "destination-not-found"))).destination
    draft = await _stored_draft(service, caller, service.pool, found)
    return await _test(request, draft, f"destination {found.id}", {"name": found.name, "kind": found.kind})


@get("/destination_kinds")
async def list_destination_kinds(request: AnyRequest) -> list[DestinationKind]:
    """Return the kinds of destinations, with the JSON schemas of their settings and secrets."""
    service, _ = service_and_caller(request)
    return [
        DestinationKind(name, kind.takes, schema_of(kind.settings), schema_of(kind.secret))
        for name, kind in service.destinations.kinds.items()
    ]


async def _test(request: AnyRequest, draft: Draft, object: str, details: dict[str, Any]) -> DestinationTest:
    """Run the test of a destination, with its audit entry, within the limits of the chain. Raises ProblemError."""
    service, caller = service_and_caller(request)
    try:
        service.rate_limiter.count(TEST_LIMIT, f"chain {caller.chain}")
    except ProblemError as exceeded:
        detail = f"A chain may test destinations {TEST_RATE.requests} times in {TEST_RATE.seconds} seconds."
        raise ProblemError(exceeded.kind, detail, exceeded.headers) from None
    # A test writes to the destination, so its audit entry is written before.
    async with audited(request, "destination.test", object, details):
        pass
    steps: list[Step] = []
    async with service.destination_tests.turn(caller.chain):
        try:
            async with asyncio.timeout(TEST_SECONDS) as limit:
                async for step in draft.kind.test(draft.settings, draft.secret, _allow(service, caller)):
                    steps.append(step)
        except Exception as error:
            if limit.expired():
                steps.append(Step("answer", False, f"no answer within {TEST_SECONDS:.0f} seconds"))
            else:
                # Without its message, which may hold a part of the secret.
                log.error("the test of a destination failed", kind=details["kind"], where=raised_at(error))
                steps.append(Step("test", False, "the kind failed; the service's log says why"))
    return DestinationTest(bool(steps) and all(step.ok for step in steps), steps)


async def _stored_draft(
    service: Service, caller: Caller, connection: Connection | Pool, found: Destination, *, with_secret: bool = True
) -> Draft:
    """Return a stored destination, of the types of its kind. Raises ProblemError."""
    kind: Kind | None = service.destinations.kinds.get(found.kind)
    if kind is None:
        raise ProblemError("destination-unusable", f"The kind {in_json(found.kind)} is not installed.")
    try:
        settings = stored_settings(kind, found.name, bytes(found.settings).decode())
        secret = None
        if with_secret:
            secret = await service.destinations.secret(connection, caller.chain, found.id, kind)
    except DestinationError as error:
        raise ProblemError("destination-unusable", str(error)) from None
    return Draft(kind, settings, secret)


def _allow(service: Service, caller: Caller) -> tuple[Network, ...]:
    return service.settings.outbound_networks_of(caller.chain)


def tag_of(found: StoredDestination) -> str:
    """Return the entity tag of a destination."""
    return f'"{found.destination.id}-{found.revision}"'


def _answer(found: StoredDestination, headers: dict[str, str] | None = None) -> Response[Destination]:
    return Response(found.destination, headers={**(headers or {}), "ETag": tag_of(found)})
