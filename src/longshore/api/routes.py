"""The table of routes: the level of each endpoint, and its check of what the caller may see.

The guard, the OpenAPI document and a test read it. An endpoint that is not in the table is closed.
"""

from enum import Enum
from types import ModuleType

from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope

from longshore.access.tokens import Level
from longshore.api.sharing_errors import is_sharing

READ, WRITE, ADMIN = Level


class NoLevel(Enum):
    """The requirement of an endpoint that needs no level."""

    PROBE = "monitoring; without rate limits"
    PUBLIC = "no credential"
    USER = "a signed-in user of any level"


class Check(Enum):
    """The check of `visibility_checks` that an endpoint makes of the task, run or segment."""

    SEE_RUN = "`refuse_hidden_run`: 403 where the credential may not see all that the run has read"
    SEE_TABLE = "`may_see`: not listed, and 404, where the credential may not see all that the version's run has read"
    SHOW_TASK = "`visible_task`: without the rules, counts and messages that it may not see"
    CHANGE_TASK = "`changeable_task`: 403 where it may not see all that the task requests and has read"
    MAKE_TASK = "`refuse_hidden_definition`: 403 where the task requests data that is hidden from it"
    SEGMENT = "`refuse_hidden_segment` or `visible_segment`: without rules of columns that it may not see"
    INDEX = "`visible_catalog`: the part of the catalog that it may see"


CHAIN = "an admin of the chain, whose tokens have no limits"
SERVICE = "has nothing of the data that tasks read"
OWN_TOKEN = "makes a read token, which sees no more than the user"  # noqa: S105
SHARE = "names the chains of the token alone"
PAGE = "scripts and forms; their requests go to endpoints of this table"
OWN = "changes the signed-in user alone"


ENDPOINTS: dict[tuple[str, str], NoLevel | tuple[Level, Check | str]] = {
    ("GET", "/healthz"): NoLevel.PROBE,
    ("GET", "/readyz"): NoLevel.PROBE,
    ("GET", "/metrics"): NoLevel.PROBE,
    ("GET", "/docs"): NoLevel.PUBLIC,
    ("GET", "/docs/assets/{name}"): NoLevel.PUBLIC,
    ("GET", "/openapi.json"): NoLevel.PUBLIC,
    ("GET", "/problems/{kind}"): NoLevel.PUBLIC,
    ("GET", "/.well-known/longshore-keys.json"): NoLevel.PUBLIC,
    ("POST", "/auth/login"): NoLevel.PUBLIC,
    ("POST", "/auth/session"): NoLevel.PUBLIC,
    ("GET", "/results/{location}"): NoLevel.PUBLIC,  # the signature of its address is the right
    ("GET", "/auth/sessions"): NoLevel.USER,
    ("DELETE", "/auth/sessions/{id}"): NoLevel.USER,
    ("POST", "/auth/logout"): NoLevel.USER,
    ("POST", "/auth/password"): NoLevel.USER,
    ("GET", "/credential"): (
        READ,
        "describes the credential of the request, without the names of what is hidden from it",
    ),
    ("GET", "/tasks"): (READ, Check.SHOW_TASK),
    ("POST", "/tasks"): (WRITE, Check.MAKE_TASK),
    ("POST", "/tasks/preview"): (READ, "computes times from the body alone"),
    ("GET", "/tasks/{id}"): (READ, Check.SHOW_TASK),
    ("PATCH", "/tasks/{id}"): (WRITE, Check.CHANGE_TASK),
    ("DELETE", "/tasks/{id}"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/tasks/{id}/execute"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/tasks/{id}/cancel"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/tasks/{id}/pause"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/tasks/{id}/resume"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/tasks/{id}/backfill"): (WRITE, Check.CHANGE_TASK),
    ("GET", "/tasks/{id}/backfills"): (READ, Check.SEE_RUN),
    ("DELETE", "/tasks/{id}/backfills/{backfill}"): (WRITE, Check.CHANGE_TASK),
    ("GET", "/tasks/{id}/progress"): (READ, Check.SEE_RUN),
    ("GET", "/tasks/{id}/events"): (READ, Check.SHOW_TASK),
    ("GET", "/tasks/{id}/runs"): (READ, Check.SEE_RUN),
    ("GET", "/tasks/{id}/runs/{run}"): (READ, Check.SEE_RUN),
    ("GET", "/tasks/{id}/runs/{run}/manifest"): (READ, Check.SEE_RUN),
    ("GET", "/tasks/{id}/runs/{run}/manifest.jws"): (READ, Check.SEE_RUN),
    ("GET", "/tasks/{id}/runs/{run}/files"): (READ, Check.SEE_RUN),
    ("POST", "/tasks/{id}/runs/{run}/ack"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/tasks/{id}/runs/{run}/deliver"): (WRITE, Check.CHANGE_TASK),
    ("GET", "/tasks/{id}/runs/{run}/deliveries"): (READ, Check.SEE_RUN),
    ("GET", "/tasks/{id}/download_url"): (READ, Check.SEE_RUN),
    ("GET", "/tasks/{id}/runs/{run}/download_url"): (READ, Check.SEE_RUN),
    ("GET", "/tasks/{id}/links"): (READ, Check.CHANGE_TASK),
    ("DELETE", "/tasks/{id}/links/{link}"): (WRITE, Check.CHANGE_TASK),
    ("GET", "/indexes"): (READ, Check.INDEX),
    ("GET", "/indexes/{name}"): (READ, Check.INDEX),
    ("GET", "/segments"): (READ, Check.SEGMENT),
    ("POST", "/segments"): (WRITE, Check.SEGMENT),
    ("POST", "/segments/preview"): (READ, Check.SEGMENT),
    ("GET", "/segments/{id}"): (READ, Check.SEGMENT),
    ("PUT", "/segments/{id}"): (WRITE, Check.SEGMENT),
    ("DELETE", "/segments/{id}"): (WRITE, Check.SEGMENT),
    ("GET", "/destinations"): (WRITE, SERVICE),
    ("POST", "/destinations"): (ADMIN, CHAIN),
    ("POST", "/destinations/test"): (ADMIN, CHAIN),
    ("GET", "/destinations/{id}"): (WRITE, SERVICE),
    ("PATCH", "/destinations/{id}"): (ADMIN, CHAIN),
    ("DELETE", "/destinations/{id}"): (ADMIN, CHAIN),
    ("POST", "/destinations/{id}/test"): (ADMIN, CHAIN),
    ("GET", "/destination_kinds"): (WRITE, SERVICE),
    ("GET", "/webhooks"): (WRITE, SERVICE),
    ("POST", "/webhooks"): (WRITE, SERVICE),
    ("DELETE", "/webhooks/{id}"): (WRITE, SERVICE),
    ("POST", "/webhooks/{id}/secret"): (WRITE, SERVICE),
    ("POST", "/webhooks/{id}/enable"): (WRITE, SERVICE),
    ("GET", "/webhooks/{id}/deliveries"): (WRITE, SERVICE),
    ("POST", "/webhooks/{id}/deliveries/{delivery}/redeliver"): (WRITE, SERVICE),
    ("GET", "/users"): (ADMIN, CHAIN),
    ("POST", "/users"): (ADMIN, CHAIN),
    ("PATCH", "/users/{id}"): (ADMIN, CHAIN),
    ("DELETE", "/users/{id}"): (ADMIN, CHAIN),
    ("GET", "/service_clients"): (ADMIN, CHAIN),
    ("POST", "/service_clients"): (ADMIN, CHAIN),
    ("GET", "/service_clients/{id}"): (ADMIN, CHAIN),
    ("PATCH", "/service_clients/{id}"): (ADMIN, CHAIN),
    ("GET", "/access_tokens"): (ADMIN, CHAIN),
    ("POST", "/access_tokens"): (ADMIN, CHAIN),
    ("GET", "/access_tokens/{id}"): (ADMIN, CHAIN),
    ("DELETE", "/access_tokens/{id}"): (ADMIN, CHAIN),
    ("GET", "/audit"): (ADMIN, CHAIN),
    ("GET", "/delta-sharing/profile"): (READ, "returns the token of the request"),
    ("POST", "/delta-sharing/profile"): (READ, OWN_TOKEN),
    ("GET", "/delta-sharing/profiles"): (READ, "returns tokens of the user, without secrets"),
    ("DELETE", "/delta-sharing/profiles/{id}"): (READ, "ends a token of the user, or the one of the request"),
    # The Delta Sharing protocol: bearer tokens alone, each request for the chain that is its share.
    ("GET", "/delta-sharing/shares"): (READ, SHARE),
    ("GET", "/delta-sharing/shares/{share}"): (READ, SHARE),
    ("GET", "/delta-sharing/shares/{share}/schemas"): (READ, SHARE),
    ("GET", "/delta-sharing/shares/{share}/all-tables"): (READ, Check.SEE_TABLE),
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables"): (READ, Check.SEE_TABLE),
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}"): (READ, Check.SEE_TABLE),
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/version"): (READ, Check.SEE_TABLE),
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/metadata"): (READ, Check.SEE_TABLE),
    ("POST", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/query"): (READ, Check.SEE_TABLE),
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/changes"): (READ, Check.SEE_TABLE),
    # The console: forms call the functions of the endpoints that do the same.
    ("GET", "/"): NoLevel.PUBLIC,
    ("GET", "/sign-in"): NoLevel.PUBLIC,
    ("POST", "/sign-in"): NoLevel.PUBLIC,
    ("POST", "/sign-in/passcode"): NoLevel.PUBLIC,
    ("POST", "/sign-out"): NoLevel.PUBLIC,
    ("GET", "/console/static/{name}"): NoLevel.PUBLIC,
    ("GET", "/console/{chain}"): (READ, PAGE),
    ("GET", "/console/{chain}/tasks"): (READ, Check.SHOW_TASK),
    ("POST", "/console/{chain}/tasks/selected"): (WRITE, Check.CHANGE_TASK),
    ("GET", "/console/{chain}/tasks/{id}"): (READ, Check.SHOW_TASK),
    ("GET", "/console/{chain}/tasks/{id}/download"): (READ, Check.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}"): (READ, Check.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/rows"): (READ, Check.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/files"): (READ, Check.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/manifest"): (READ, Check.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/download"): (READ, Check.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/events"): (READ, Check.SHOW_TASK),
    ("POST", "/console/{chain}/tasks/{id}/pause"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/resume"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/backfill"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/backfills/{backfill}/end"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/links/{link}/revoke"): (WRITE, Check.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/runs/{run}/deliver"): (WRITE, Check.CHANGE_TASK),
    ("GET", "/console/{chain}/new"): (WRITE, Check.SHOW_TASK),
    ("POST", "/console/{chain}/new"): (WRITE, Check.MAKE_TASK),
    ("POST", "/console/{chain}/new/preview"): (WRITE, Check.SEGMENT),
    ("POST", "/console/{chain}/profile"): (READ, OWN_TOKEN),
    ("GET", "/console/{chain}/schedules"): (READ, "shows descriptions, indexes and times, and no data of the source"),
    ("GET", "/console/{chain}/segments"): (READ, Check.SEGMENT),
    ("POST", "/console/{chain}/segments"): (WRITE, Check.SEGMENT),
    ("POST", "/console/{chain}/segments/{id}/delete"): (WRITE, Check.SEGMENT),
    ("GET", "/console/{chain}/destinations"): (WRITE, Check.SEE_RUN),
    ("GET", "/console/{chain}/destinations/new"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/destinations/new"): (ADMIN, CHAIN),
    ("GET", "/console/{chain}/destinations/{id}"): (WRITE, Check.SEE_RUN),
    ("POST", "/console/{chain}/destinations/{id}/test"): (ADMIN, CHAIN),
    ("GET", "/console/{chain}/destinations/{id}/change"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/destinations/{id}/change"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/destinations/{id}/delete"): (ADMIN, CHAIN),
    ("GET", "/console/{chain}/access"): (READ, PAGE),
    ("POST", "/console/{chain}/access/clients"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/access/clients/{id}"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/access/tokens"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/access/tokens/{id}/revoke"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/access/profiles/{id}/revoke"): (READ, OWN),
    ("POST", "/console/{chain}/access/users"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/access/users/{id}"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/access/sessions/{id}/end"): (READ, OWN),
    ("POST", "/console/{chain}/access/password"): (READ, OWN),
    ("GET", "/console/{chain}/audit"): (ADMIN, CHAIN),
    ("GET", "/console/{chain}/system"): (READ, "shows sums over all tasks of the chain"),
}
"""The requirement of each endpoint: a level with the check beyond it, or the reason for none; or a `NoLevel`."""

NEEDED: dict[tuple[str, str], Level | NoLevel] = {
    endpoint: needed if isinstance(needed, NoLevel) else needed[0] for endpoint, needed in ENDPOINTS.items()
}


def level_needed(scope: HTTPScope) -> Level:
    """Return the level that the endpoint of a request needs."""
    needed = NEEDED[scope["method"], scope["path_template"]]
    assert isinstance(needed, Level)
    return needed


def security(method: str, path: str) -> list[dict[str, list[str]]]:
    """Return an endpoint's requirement for the OpenAPI document: the level is the role of each kind of credential.

    https://spec.openapis.org/oas/v3.1.0#security-requirement-object
    """
    needed = NEEDED[method, path]
    if isinstance(needed, Level):
        if is_sharing(path):
            return [{"accessToken": [needed.name.lower()]}]
        role = [needed.name.lower()]
        return [{"accessToken": role}, {"sessionUserId": role, "sessionKey": role, "sessionChainId": role}]
    return [{"sessionUserId": [], "sessionKey": []}] if needed is NoLevel.USER else []


def endpoints_of(*modules: ModuleType) -> list[HTTPRouteHandler]:
    """Return the endpoints that are defined in modules, in their order."""
    found = [each for module in modules for each in vars(module).values() if isinstance(each, HTTPRouteHandler)]
    names = {module.__name__ for module in modules}
    return [each for each in found if each.fn.__module__ in names]
