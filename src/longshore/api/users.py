"""The resource `users`: the users of a chain and their levels, for its admins."""

from typing import Annotated

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import PathParameter, RawBody
from msgspec import UNSET

from longshore.access import passwords, users
from longshore.access.tokens import Caller, Level
from longshore.access.users import ChainUser, LevelChange
from longshore.access.work_of_credentials import OngoingWork
from longshore.api.audited_changes import administration_transaction
from longshore.api.bodies import check_body, read_json
from longshore.api.guard import service_and_caller
from longshore.api.ids import number_of
from longshore.api.ongoing_work import Stop, list_or_stop, stop_violations
from longshore.api.openapi_responses import problems
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.service import AnyRequest
from longshore.database.rows import Page
from longshore.errors import NotFoundError, ProblemError
from longshore.tasks.reads import LevelName
from longshore.validation import Violation

UserId = Annotated[int, PathParameter(ge=1, description="Number of the user.")]


class UserBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /users`."""

    username: str
    password: str
    level: LevelName


class ChangedUser(ChainUser, frozen=True):
    """A user after a change."""

    ongoing: OngoingWork | None
    """The work of the user that goes on in the chain; null unless the level was turned off or set to `read`."""


@post("/users", opt={"without_key": True}, responses=problems(409))
async def create_user(request: AnyRequest, body: Annotated[RawBody, UserBody]) -> Response[ChainUser]:
    """Create a user with a level for the chain. The user should change the password."""
    value = read_json(request, body)
    _, caller = service_and_caller(request)
    new = check_body(UserBody, value, _violations)
    levels = {int(caller.chain): Level[new.level.upper()]}
    async with administration_transaction(request) as (connection, by):
        user = await users.create(connection, by, new.username, new.password, levels)
        made = await users.one_of_chain(connection, caller.chain, user)
    return Response(made, headers={"Location": f"/users/{made.id}"})


@get("/users")
async def list_users(request: AnyRequest, limit: Limit = 25, offset: Offset = 0) -> Response[list[ChainUser]]:
    """Return the users with a level for the chain, oldest first."""
    service, caller = service_and_caller(request)
    page = Page(limit, offset)
    return page_response(request, await users.of_chain(service.pool, caller.chain, page), page)


@patch("/users/{id:str}", responses=problems(409))
async def change_user(
    request: AnyRequest, id: UserId, body: Annotated[RawBody, LevelChange], stop: Stop = False
) -> ChangedUser:
    """Change, disable or enable a user's level for the chain. It holds from the user's next request.

    Turned off or set to `read`, `ongoing` lists what the user made that goes on; with `stop=true` that is stopped.
    """
    value = read_json(request, body)
    _, caller = service_and_caller(request)

    def ends(new: LevelChange) -> bool:
        return new.enabled is False or new.level == "read"

    def refuse_stop(new: LevelChange) -> list[Violation]:
        return stop_violations(stop, ends(new), "a level that is turned off or set to `read`")

    new = check_body(LevelChange, value, refuse_stop)
    id = number_of(id, "user-not-found")
    if new.level not in (UNSET, caller.level.name.lower()) or new.enabled is False:
        _refuse_own(caller, id)
    async with administration_transaction(request) as (connection, by):
        await users.change_level(connection, by, id, caller.chain, new)
        changed = await users.one_of_chain(connection, caller.chain, id)
    ongoing = await list_or_stop(request, [f"user {id}"], stop) if ends(new) else None
    return ChangedUser(**msgspec.structs.asdict(changed), ongoing=ongoing)


@delete("/users/{id:str}", status_code=200, responses=problems(409))
async def remove_user(request: AnyRequest, id: UserId, stop: Stop = False) -> OngoingWork:
    """Remove a user's level for the chain. Levels for other chains stay.

    The answer lists what the user made in the chain that goes on. With `stop=true` that is stopped, once the level is
    removed: `stopped` is true, or the answer lists what could not be stopped.
    """
    _, caller = service_and_caller(request)
    id = number_of(id, "user-not-found")
    _refuse_own(caller, id)
    async with administration_transaction(request) as (connection, by):
        removed = await users.remove_level(connection, by, id, caller.chain)
    ongoing = await list_or_stop(request, [f"user {id}"], stop)
    if not (removed or ongoing.tasks or ongoing.webhooks):
        raise NotFoundError("user-not-found", "the user has no level for this chain")
    return ongoing


def _refuse_own(caller: Caller, user: int) -> None:
    if (caller.kind, caller.id) == ("user", str(user)):
        raise ProblemError("own-level")


def _violations(new: UserBody) -> list[Violation]:
    expected = {"/username": users.user_name_violation(new.username), "/password": passwords.violation(new.password)}
    return [Violation(text, at) for at, text in expected.items() if text]
