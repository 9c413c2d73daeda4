"""The resources `service_clients` and `access_tokens`: the systems that use the API, and their credentials."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, PathParameter, QueryParameter, RawBody

from longshore.access import changes_in_progress, clients, tokens, users, work_of_credentials
from longshore.access.clients import ClientChange, ServiceClient
from longshore.access.tokens import Caller, Level, Scope, Token
from longshore.access.work_of_credentials import OngoingWork
from longshore.api.audited_changes import administration_transaction
from longshore.api.bodies import check_body, read_json, time_violations
from longshore.api.guard import service_and_caller
from longshore.api.ids import number_of, uuid_of
from longshore.api.ongoing_work import Stop, list_or_stop, stop_violations
from longshore.api.openapi_responses import problems
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.service import AnyRequest
from longshore.database.connect import Connection
from longshore.database.rows import MAX_BIGINT, Page
from longshore.exports.catalog import Catalog
from longshore.tasks.reads import LevelName
from longshore.validation import ValidationError, Violation, in_json, pointer, suggestion

MAX_LISTED = 500  # chains, indexes or columns of one token

ClientId = Annotated[int, PathParameter(ge=1, description="Number of the service client.")]


class ClientBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /service_clients`."""

    name: str
    contact: str = ""
    """An address or a team to contact about it."""


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /access_tokens`."""

    client_id: int
    level: LevelName
    chains: list[int] | None = None
    """All chains of the token, the client's own included; by default that one alone."""
    indexes: list[str] | None = None
    """The export indexes that the token may use; by default all."""
    hidden_columns: list[str] = []
    """Columns that the token may not see, such as `users.phone_number`."""
    expires: datetime | None = None
    """The time at which the token expires."""


class ChangedClient(ServiceClient, frozen=True):
    """A service client after a change."""

    ongoing: OngoingWork | None
    """The work of its tokens that goes on in the chain; null unless it was turned off."""


class NewToken(Token, frozen=True):
    """A new token with its secret."""

    secret: str
    """Shown here alone. Send `Authorization: Bearer ID:SECRET`."""


@post("/service_clients", opt={"without_key": True}, responses=problems(409))
async def create_service_client(request: AnyRequest, body: Annotated[RawBody, ClientBody]) -> Response[ServiceClient]:
    """Create a service client of the chain. `POST /access_tokens` creates its tokens."""
    value = read_json(request, body)
    _, caller = service_and_caller(request)
    new = check_body(ClientBody, value, _text_violations)
    async with administration_transaction(request) as (connection, by):
        client = await clients.create(connection, by, caller.chain, new.name, new.contact)
    return Response(client, headers={"Location": f"/service_clients/{client.id}"})


@get("/service_clients")
async def list_service_clients(
    request: AnyRequest, limit: Limit = 25, offset: Offset = 0
) -> Response[list[ServiceClient]]:
    """Return the chain's service clients, oldest first."""
    service, caller = service_and_caller(request)
    page = Page(limit, offset)
    return page_response(request, await clients.of_chain(service.pool, caller.chain, page), page)


@get("/service_clients/{id:str}")
async def get_service_client(request: AnyRequest, id: ClientId) -> ServiceClient:
    """Return one service client."""
    service, caller = service_and_caller(request)
    return await clients.one_of_chain(service.pool, caller.chain, number_of(id, "client-not-found"))


@patch("/service_clients/{id:str}", responses=problems(409))
async def change_service_client(
    request: AnyRequest, id: ClientId, body: Annotated[RawBody, ClientChange], stop: Stop = False
) -> ChangedClient:
    """Change a service client, or turn all its tokens off and on. That holds everywhere within two seconds.

    Turned off, `ongoing` lists what its tokens made that goes on; with `stop=true` that is stopped.
    """
    value = read_json(request, body)
    _, caller = service_and_caller(request)

    def refuse_stop(new: ClientChange) -> list[Violation]:
        return stop_violations(stop, new.enabled is False, "a client that is turned off: `enabled: false`")

    new = check_body(ClientChange, value, _text_violations, refuse_stop)
    id = number_of(id, "client-not-found")
    async with administration_transaction(request) as (connection, by):
        changed = await clients.change(connection, by, caller.chain, id, new)
        credentials = await work_of_credentials.tokens_of(connection, id)
    ongoing = await list_or_stop(request, credentials, stop) if new.enabled is False else None
    return ChangedClient(**msgspec.structs.asdict(changed), ongoing=ongoing)


@post("/access_tokens", opt={"without_key": True}, responses=problems(404))
async def create_access_token(request: AnyRequest, body: Annotated[RawBody, TokenBody]) -> Response[NewToken]:
    """Create an access token of a service client. Its secret is in this answer alone."""
    value = read_json(request, body)
    service, caller = service_and_caller(request)
    new = check_body(TokenBody, value)
    owner, level = number_of(new.client_id, "client-not-found"), Level[new.level.upper()]
    async with administration_transaction(request) as (connection, by):
        scope = await _scope(connection, service.catalog, caller, new)
        client = await clients.one_of_chain(connection, caller.chain, owner)
        id, secret = await clients.create_token(connection, by, client, level, scope)
        made = await tokens.one_of_chain(connection, caller.chain, id)
    new_token = NewToken(**msgspec.structs.asdict(made), secret=secret)
    return Response(new_token, headers={"Location": f"/access_tokens/{id}"})


@get("/access_tokens")
async def list_access_tokens(
    request: AnyRequest,
    client_id: Annotated[
        int | None, QueryParameter(ge=1, le=MAX_BIGINT, description="Only those of this client.")
    ] = None,
    limit: Limit = 25,
    offset: Offset = 0,
) -> Response[list[Token]]:
    """Return the chain's tokens, newest first, revoked and expired ones included, without secrets."""
    service, caller = service_and_caller(request)
    page = Page(limit, offset)
    return page_response(request, await tokens.of_chain(service.pool, caller.chain, client_id, page), page)


@get("/access_tokens/{id:str}")
async def get_access_token(request: AnyRequest, id: FromPath[str]) -> Token:
    """Return one token, without its secret."""
    service, caller = service_and_caller(request)
    return await tokens.one_of_chain(service.pool, caller.chain, uuid_of(id, "token-not-found"))


@delete("/access_tokens/{id:str}", status_code=200)
async def revoke_access_token(request: AnyRequest, id: FromPath[str], stop: Stop = False) -> OngoingWork:
    """Revoke a token, and the download addresses that it asked for. That holds everywhere within two seconds.

    The answer lists what it made in the chain that goes on. With `stop=true` that is stopped, once the token is
    revoked: `stopped` is true, or the answer lists what could not be stopped.
    A token of another chain's client is revoked for this chain alone.
    """
    service, caller = service_and_caller(request)
    token = uuid_of(id, "token-not-found")
    async with administration_transaction(request) as (connection, by):
        revoked = await tokens.revoke(connection, by, token, caller.chain)
    ongoing = await list_or_stop(request, [f"token {token}"], stop)
    if not (revoked or ongoing.tasks or ongoing.webhooks):
        await tokens.one_of_chain(service.pool, caller.chain, token)  # 404 where it is missing
    return ongoing


async def _scope(connection: Connection, catalog: Catalog, caller: Caller, new: TokenBody) -> Scope:
    """Return the scope of a new token, in the transaction that creates it. Raises ValidationError."""
    violations = scope_violations(catalog, new.level, new.indexes, new.hidden_columns)
    chains = [caller.chain] if new.chains is None else new.chains
    if caller.chain not in chains:
        violations.append(Violation(f"expected {caller.chain}, the client's own chain, among them", "/chains"))
    if len(chains) > MAX_LISTED:
        violations.append(Violation(f"expected at most {MAX_LISTED} chains", "/chains"))
        chains = []
    allowed = await tokens.administered_chains(connection, caller)
    if allowed.issuperset(chains):  # else nothing is made that a lock would be for
        await changes_in_progress.lock_chains(connection, caller, chains)
        allowed = await tokens.administered_chains(connection, caller)
    for number, chain in enumerate(chains):
        if chain not in allowed:
            violations.append(Violation("you are not an admin of this chain", pointer("/chains", number)))
    if out_of_bounds := time_violations(new.expires, "/expires"):
        violations += out_of_bounds
    elif new.expires is not None and new.expires <= await connection.fetchval("select now()"):
        violations.append(Violation("expected a time in the future", "/expires"))
    if violations:
        raise ValidationError(violations)
    more = list(dict.fromkeys(chain for chain in chains if chain != caller.chain))
    return Scope(more, new.indexes, new.hidden_columns, new.expires)


def scope_violations(catalog: Catalog, level: str, indexes: list[str] | None, hidden: list[str]) -> list[Violation]:
    """Return the violations of a token's limits."""
    for key, listed in (("/indexes", indexes), ("/hidden_columns", hidden)):
        if len(listed or ()) > MAX_LISTED:
            return [Violation(f"expected at most {MAX_LISTED}", key)]
    violations: list[Violation] = []
    if level == "admin" and (indexes is not None or hidden):
        at = "/indexes" if indexes is not None else "/hidden_columns"
        violations.append(
            Violation("is for the levels read and write: an admin could grant others what the token hides", at)
        )
    for number, name in enumerate(indexes or ()):
        if name not in catalog:
            where = pointer("/indexes", number)
            violations.append(
                Violation(f"there is no index {in_json(name)}{suggestion(name, catalog, violations)}", where)
            )
    columns = {f"{name}.{field}": None for name, index in catalog.items() for field in index.fields}
    for number, column in enumerate(hidden):
        if column not in columns:
            where = pointer("/hidden_columns", number)
            expected = f"expected a column, such as {next(iter(columns))}{suggestion(column, columns, violations)}"
            violations.append(Violation(expected, where))
    if indexes == []:
        violations.append(Violation("expected at least one index", "/indexes"))
    return violations


def _text_violations(new: ClientBody | ClientChange) -> list[Violation]:
    expected = {
        "/name": users.name_violation(new.name) if isinstance(new.name, str) else None,
        "/contact": users.name_violation(new.contact, "text") if isinstance(new.contact, str) and new.contact else None,
    }
    return [Violation(text, at) for at, text in expected.items() if text]
