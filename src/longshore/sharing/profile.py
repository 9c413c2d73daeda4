"""Profile files: the address of the service and a bearer token, for clients of the Delta Sharing protocol.

https://github.com/delta-io/delta-sharing/blob/main/PROTOCOL.md#profile-file-format
"""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.params import PathParameter, RawBody

from longshore.access import profile_tokens, tokens
from longshore.access.token_auth import BEARER
from longshore.access.tokens import ForbiddenError, Token
from longshore.api.audited_changes import administration_transaction, audited
from longshore.api.bodies import check_body, read_optional_json
from longshore.api.download_urls import base_url
from longshore.api.guard import actor, service_and_caller
from longshore.api.ids import uuid_of
from longshore.api.openapi_responses import problems
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.service import AnyRequest
from longshore.database.rows import Page

DAY_SECONDS = 24 * 3600
DEFAULT_DAYS, MAX_DAYS = 30, 90
MIN_SECONDS = 60

TokenId = Annotated[str, PathParameter(description="Id of the token: `bearerToken` up to the colon.")]
Seconds = Annotated[int, msgspec.Meta(ge=MIN_SECONDS, le=MAX_DAYS * DAY_SECONDS)]


class ProfileBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /delta-sharing/profile`."""

    expires_in: Seconds = DEFAULT_DAYS * DAY_SECONDS
    """Seconds for which the token is valid: a minute to 90 days, by default 30 days."""


class Profile(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A profile file of the Delta Sharing protocol."""

    share_credentials_version: int
    """Version of the file's form, 1."""
    endpoint: str
    """The address that the protocol's paths follow."""
    bearer_token: str
    """An access token, `ID:SECRET`, which the protocol's clients send as it stands."""
    expiration_time: datetime | None = None
    """When the token expires; absent if it does not."""


@get("/delta-sharing/profile")
async def get_profile(request: AnyRequest) -> Response[Profile]:
    """Return the profile file with the bearer token that asks. Sessions have none; they use `POST`."""
    service, caller = service_and_caller(request)
    match = BEARER.fullmatch(request.headers.get("authorization", ""))
    if caller.kind != "token" or match is None:
        raise ForbiddenError("forbidden", "A session has no bearer token; POST makes a token for a profile file.")
    token = await tokens.one_of_chain(service.pool, caller.chain, UUID(caller.id))
    return _profile_file(request, f"{match[1]}:{match[2]}", token.expires)


@post("/delta-sharing/profile", opt={"optional_body": True, "without_key": True}, responses=problems(409))
async def create_profile(request: AnyRequest, body: Annotated[RawBody, ProfileBody]) -> Response[Profile]:
    """Make a read token for the signed-in user, which expires, and return it as a profile file.

    The token is for the chain of the request, and ends with the user's level for the chain.
    """
    given = check_body(ProfileBody, read_optional_json(request, body))
    return await new_profile(request, given.expires_in)


async def new_profile(request: AnyRequest, seconds: int) -> Response[Profile]:
    """Make a token that is valid for so many seconds, and return its profile file. Raises ProblemError."""
    _, caller = service_and_caller(request)
    if caller.kind != "user":
        why = "A token is made for signed-in users alone; `GET` gives the profile file of the token that asks."
        raise ForbiddenError("forbidden", why)
    async with audited(request, "profile.create") as change:
        token = await profile_tokens.create(change.connection, actor(request), caller.chain, seconds)
        change.object, change.details = f"token {token.id}", {"expires": token.expires}
    made = _profile_file(request, f"{token.id}:{token.secret}", token.expires)
    made.set_header("Location", f"/delta-sharing/profiles/{token.id}")
    return made


@get("/delta-sharing/profiles")
async def list_profiles(request: AnyRequest, limit: Limit = 25, offset: Offset = 0) -> Response[list[Token]]:
    """Return the tokens in the profile files of the signed-in user for the chain, newest first, without secrets.

    Those that were revoked or have expired are among them; `state` says so.
    """
    service, caller = service_and_caller(request)
    if caller.kind != "user":
        raise ForbiddenError("forbidden", "Signed-in users alone have profile files; a token can `DELETE` its own.")
    page = Page(limit, offset)
    return page_response(request, await tokens.of_user(service.pool, caller.chain, int(caller.id), page), page)


@delete("/delta-sharing/profiles/{id:str}")
async def revoke_profile(request: AnyRequest, id: TokenId) -> None:
    """Revoke the token in a profile file of the signed-in user, or the token that asks. It holds within two seconds.

    Addresses of files that it was given end too, except presigned ones of a bucket, which last an hour at most.
    """
    _, caller = service_and_caller(request)
    token = uuid_of(id, "token-not-found")
    async with administration_transaction(request) as (connection, by):
        await profile_tokens.refuse_others(connection, caller, token)
        await tokens.revoke(connection, by, token, caller.chain)


def endpoint(request: AnyRequest) -> str:
    """Return the address that the protocol's paths follow, as clients of the service know it."""
    return f"{base_url(request)}/delta-sharing/"


def _profile_file(request: AnyRequest, bearer: str, expires: datetime | None) -> Response[Profile]:
    _, caller = service_and_caller(request)
    name = f"longshore-{caller.chain}.share"
    profile = Profile(1, endpoint(request), bearer, expires)
    return Response(profile, headers={"Content-Disposition": f'attachment; filename="{name}"'})
