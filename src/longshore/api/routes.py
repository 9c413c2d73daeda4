"""The level that each endpoint needs: the table behind the guard, the OpenAPI document and a test of all routes.

An endpoint that is not in the table is closed.
"""

from enum import Enum

from longshore.access.tokens import Level
from longshore.api.sharing_errors import is_sharing


class Open(Enum):
    """The requirement of an endpoint that needs no level."""

    PROBE = "monitoring; without rate limits"
    ANYBODY = "no credential"
    USER = "a signed-in user of any level"


READ, WRITE, ADMIN = Level

NEEDED: dict[tuple[str, str], Level | Open] = {
    ("GET", "/healthz"): Open.PROBE,
    ("GET", "/readyz"): Open.PROBE,
    ("GET", "/metrics"): Open.PROBE,
    ("GET", "/docs"): Open.ANYBODY,
    ("GET", "/docs/assets/{name}"): Open.ANYBODY,
    ("GET", "/openapi.json"): Open.ANYBODY,
    ("GET", "/problems/{kind}"): Open.ANYBODY,
    ("GET", "/.well-known/longshore-keys.json"): Open.ANYBODY,
    ("POST", "/auth/login"): Open.ANYBODY,
    ("POST", "/auth/session"): Open.ANYBODY,
    ("GET", "/results/{location}"): Open.ANYBODY,  # the signature of its address is the right
    ("GET", "/auth/sessions"): Open.USER,
    ("DELETE", "/auth/sessions/{id}"): Open.USER,
    ("POST", "/auth/logout"): Open.USER,
    ("POST", "/auth/password"): Open.USER,
    ("GET", "/credential"): READ,
    ("GET", "/tasks"): READ,
    ("POST", "/tasks"): WRITE,
    ("POST", "/tasks/preview"): READ,
    ("GET", "/tasks/{id}"): READ,
    ("PATCH", "/tasks/{id}"): WRITE,
    ("DELETE", "/tasks/{id}"): WRITE,
    ("POST", "/tasks/{id}/execute"): WRITE,
    ("POST", "/tasks/{id}/cancel"): WRITE,
    ("POST", "/tasks/{id}/pause"): WRITE,
    ("POST", "/tasks/{id}/resume"): WRITE,
    ("POST", "/tasks/{id}/backfill"): WRITE,
    ("GET", "/tasks/{id}/backfills"): READ,
    ("DELETE", "/tasks/{id}/backfills/{backfill}"): WRITE,
    ("GET", "/tasks/{id}/progress"): READ,
    ("GET", "/tasks/{id}/events"): READ,
    ("GET", "/tasks/{id}/runs"): READ,
    ("GET", "/tasks/{id}/runs/{run}"): READ,
    ("GET", "/tasks/{id}/runs/{run}/manifest"): READ,
    ("GET", "/tasks/{id}/runs/{run}/manifest.jws"): READ,
    ("GET", "/tasks/{id}/runs/{run}/files"): READ,
    ("POST", "/tasks/{id}/runs/{run}/ack"): WRITE,
    ("POST", "/tasks/{id}/runs/{run}/deliver"): WRITE,
    ("GET", "/tasks/{id}/runs/{run}/deliveries"): READ,
    ("GET", "/tasks/{id}/download_url"): READ,
    ("GET", "/tasks/{id}/runs/{run}/download_url"): READ,
    ("GET", "/tasks/{id}/links"): READ,
    ("DELETE", "/tasks/{id}/links/{link}"): WRITE,
    ("GET", "/indexes"): READ,
    ("GET", "/indexes/{name}"): READ,
    ("GET", "/segments"): READ,
    ("POST", "/segments"): WRITE,
    ("POST", "/segments/preview"): READ,
    ("GET", "/segments/{id}"): READ,
    ("PUT", "/segments/{id}"): WRITE,
    ("DELETE", "/segments/{id}"): WRITE,
    ("GET", "/destinations"): WRITE,
    ("POST", "/destinations"): ADMIN,
    ("POST", "/destinations/test"): ADMIN,
    ("GET", "/destinations/{id}"): WRITE,
    ("PATCH", "/destinations/{id}"): ADMIN,
    ("DELETE", "/destinations/{id}"): ADMIN,
    ("POST", "/destinations/{id}/test"): ADMIN,
    ("GET", "/destination_kinds"): WRITE,
    ("GET", "/webhooks"): WRITE,
    ("POST", "/webhooks"): WRITE,
    ("DELETE", "/webhooks/{id}"): WRITE,
    ("POST", "/webhooks/{id}/secret"): WRITE,
    ("POST", "/webhooks/{id}/enable"): WRITE,
    ("GET", "/webhooks/{id}/deliveries"): WRITE,
    ("POST", "/webhooks/{id}/deliveries/{delivery}/redeliver"): WRITE,
    ("GET", "/users"): ADMIN,
    ("POST", "/users"): ADMIN,
    ("PATCH", "/users/{id}"): ADMIN,
    ("DELETE", "/users/{id}"): ADMIN,
    ("GET", "/service_clients"): ADMIN,
    ("POST", "/service_clients"): ADMIN,
    ("GET", "/service_clients/{id}"): ADMIN,
    ("PATCH", "/service_clients/{id}"): ADMIN,
    ("GET", "/access_tokens"): ADMIN,
    ("POST", "/access_tokens"): ADMIN,
    ("GET", "/access_tokens/{id}"): ADMIN,
    ("DELETE", "/access_tokens/{id}"): ADMIN,
    ("GET", "/audit"): ADMIN,
    ("GET", "/delta-sharing/profile"): READ,
    ("POST", "/delta-sharing/profile"): READ,
    ("GET", "/delta-sharing/profiles"): READ,
    ("DELETE", "/delta-sharing/profiles/{id}"): READ,
    # The Delta Sharing protocol: bearer tokens alone, each request for the chain that is its share.
    ("GET", "/delta-sharing/shares"): READ,
    ("GET", "/delta-sharing/shares/{share}"): READ,
    ("GET", "/delta-sharing/shares/{share}/schemas"): READ,
    ("GET", "/delta-sharing/shares/{share}/all-tables"): READ,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables"): READ,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}"): READ,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/version"): READ,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/metadata"): READ,
    ("POST", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/query"): READ,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/changes"): READ,
    # Pages of the console; their changes go to the endpoints above, or call them.
    ("GET", "/"): Open.ANYBODY,
    ("GET", "/sign-in"): Open.ANYBODY,
    ("POST", "/sign-in"): Open.ANYBODY,
    ("POST", "/sign-in/passcode"): Open.ANYBODY,
    ("POST", "/sign-out"): Open.ANYBODY,
    ("GET", "/console/static/{name}"): Open.ANYBODY,
    ("GET", "/console/{chain}"): READ,
    ("GET", "/console/{chain}/tasks"): READ,
    ("POST", "/console/{chain}/tasks/selected"): WRITE,
    ("GET", "/console/{chain}/tasks/{id}"): READ,
    ("GET", "/console/{chain}/tasks/{id}/download"): READ,
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}"): READ,
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/rows"): READ,
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/manifest"): READ,
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/download"): READ,
    ("GET", "/console/{chain}/tasks/{id}/events"): READ,
    ("POST", "/console/{chain}/tasks/{id}/pause"): WRITE,
    ("POST", "/console/{chain}/tasks/{id}/resume"): WRITE,
    ("POST", "/console/{chain}/tasks/{id}/backfill"): WRITE,
    ("GET", "/console/{chain}/new"): WRITE,
    ("POST", "/console/{chain}/forecast"): WRITE,
    ("POST", "/console/{chain}/new"): WRITE,
    ("POST", "/console/{chain}/profile"): READ,
    ("GET", "/console/{chain}/schedules"): READ,
    ("GET", "/console/{chain}/segments"): READ,
    ("GET", "/console/{chain}/destinations"): WRITE,
    ("GET", "/console/{chain}/destinations/new"): ADMIN,
    ("POST", "/console/{chain}/destinations/new"): ADMIN,
    ("GET", "/console/{chain}/destinations/{id}"): WRITE,
    ("POST", "/console/{chain}/destinations/{id}/test"): ADMIN,
    ("GET", "/console/{chain}/destinations/{id}/change"): ADMIN,
    ("POST", "/console/{chain}/destinations/{id}/change"): ADMIN,
    ("POST", "/console/{chain}/destinations/{id}/delete"): ADMIN,
    ("GET", "/console/{chain}/access"): READ,
    ("GET", "/console/{chain}/audit"): ADMIN,
    ("GET", "/console/{chain}/system"): READ,
}


class Right(Enum):
    """The check of `scopes` that an endpoint makes of the task, run or segment."""

    SEE_RUN = "`may_see_run`: 403 where the credential may not see all that the run has read"
    SEE_TABLE = "`sees`: not listed, and 404, where the credential may not see all that the version's run has read"
    SHOW_TASK = "`shown_task`: without the rules, counts and messages that it may not see"
    CHANGE_TASK = "`may_change_task`: 403 where it may not see all that the task requests and has read"
    MAKE_TASK = "`may_have`: 403 where the task requests data that is hidden from it"
    SEGMENT = "`may_see_segment` or `shown_segment`: without rules of columns that it may not see"
    INDEX = "`seen`: the part of the catalog that it may see"


CHAIN = "an admin of the chain, whose tokens have no limits"
SERVICE = "has nothing of the data that tasks read"
OWN_TOKEN = "makes a read token, which sees no more than the user"  # noqa: S105
SHARE = "names the chains of the token alone"
PAGE = "scripts and forms; their requests go to endpoints of this table"

RIGHTS: dict[tuple[str, str], Right | str] = {
    ("GET", "/credential"): "tells a credential of itself, without the names of what is hidden from it",
    ("GET", "/tasks"): Right.SHOW_TASK,
    ("POST", "/tasks"): Right.MAKE_TASK,
    ("POST", "/tasks/preview"): "computes times from the body alone",
    ("GET", "/tasks/{id}"): Right.SHOW_TASK,
    ("PATCH", "/tasks/{id}"): Right.CHANGE_TASK,
    ("DELETE", "/tasks/{id}"): Right.CHANGE_TASK,
    ("POST", "/tasks/{id}/execute"): Right.CHANGE_TASK,
    ("POST", "/tasks/{id}/cancel"): Right.CHANGE_TASK,
    ("POST", "/tasks/{id}/pause"): Right.CHANGE_TASK,
    ("POST", "/tasks/{id}/resume"): Right.CHANGE_TASK,
    ("POST", "/tasks/{id}/backfill"): Right.CHANGE_TASK,
    ("GET", "/tasks/{id}/backfills"): Right.SEE_RUN,
    ("DELETE", "/tasks/{id}/backfills/{backfill}"): Right.CHANGE_TASK,
    ("GET", "/tasks/{id}/progress"): Right.SEE_RUN,
    ("GET", "/tasks/{id}/events"): Right.SHOW_TASK,
    ("GET", "/tasks/{id}/runs"): Right.SEE_RUN,
    ("GET", "/tasks/{id}/runs/{run}"): Right.SEE_RUN,
    ("GET", "/tasks/{id}/runs/{run}/manifest"): Right.SEE_RUN,
    ("GET", "/tasks/{id}/runs/{run}/manifest.jws"): Right.SEE_RUN,
    ("GET", "/tasks/{id}/runs/{run}/files"): Right.SEE_RUN,
    ("POST", "/tasks/{id}/runs/{run}/ack"): Right.CHANGE_TASK,
    ("POST", "/tasks/{id}/runs/{run}/deliver"): Right.CHANGE_TASK,
    ("GET", "/tasks/{id}/runs/{run}/deliveries"): Right.SEE_RUN,
    ("GET", "/tasks/{id}/download_url"): Right.SEE_RUN,
    ("GET", "/tasks/{id}/runs/{run}/download_url"): Right.SEE_RUN,
    ("GET", "/tasks/{id}/links"): Right.CHANGE_TASK,
    ("DELETE", "/tasks/{id}/links/{link}"): Right.CHANGE_TASK,
    ("GET", "/indexes"): Right.INDEX,
    ("GET", "/indexes/{name}"): Right.INDEX,
    ("GET", "/segments"): Right.SEGMENT,
    ("POST", "/segments"): Right.SEGMENT,
    ("POST", "/segments/preview"): Right.SEGMENT,
    ("GET", "/segments/{id}"): Right.SEGMENT,
    ("PUT", "/segments/{id}"): Right.SEGMENT,
    ("DELETE", "/segments/{id}"): Right.SEGMENT,
    ("GET", "/destinations"): SERVICE,
    ("POST", "/destinations"): CHAIN,
    ("POST", "/destinations/test"): CHAIN,
    ("GET", "/destinations/{id}"): SERVICE,
    ("PATCH", "/destinations/{id}"): CHAIN,
    ("DELETE", "/destinations/{id}"): CHAIN,
    ("POST", "/destinations/{id}/test"): CHAIN,
    ("GET", "/destination_kinds"): SERVICE,
    ("GET", "/webhooks"): SERVICE,
    ("POST", "/webhooks"): SERVICE,
    ("DELETE", "/webhooks/{id}"): SERVICE,
    ("POST", "/webhooks/{id}/secret"): SERVICE,
    ("POST", "/webhooks/{id}/enable"): SERVICE,
    ("GET", "/webhooks/{id}/deliveries"): SERVICE,
    ("POST", "/webhooks/{id}/deliveries/{delivery}/redeliver"): SERVICE,
    ("GET", "/users"): CHAIN,
    ("POST", "/users"): CHAIN,
    ("PATCH", "/users/{id}"): CHAIN,
    ("DELETE", "/users/{id}"): CHAIN,
    ("GET", "/service_clients"): CHAIN,
    ("POST", "/service_clients"): CHAIN,
    ("GET", "/service_clients/{id}"): CHAIN,
    ("PATCH", "/service_clients/{id}"): CHAIN,
    ("GET", "/access_tokens"): CHAIN,
    ("POST", "/access_tokens"): CHAIN,
    ("GET", "/access_tokens/{id}"): CHAIN,
    ("DELETE", "/access_tokens/{id}"): CHAIN,
    ("GET", "/audit"): CHAIN,
    ("GET", "/delta-sharing/profile"): "returns the token of the request",
    ("POST", "/delta-sharing/profile"): OWN_TOKEN,
    ("GET", "/delta-sharing/profiles"): "returns tokens of the user, without secrets",
    ("DELETE", "/delta-sharing/profiles/{id}"): "ends a token of the user, or the one of the request",
    ("GET", "/delta-sharing/shares"): SHARE,
    ("GET", "/delta-sharing/shares/{share}"): SHARE,
    ("GET", "/delta-sharing/shares/{share}/schemas"): SHARE,
    ("GET", "/delta-sharing/shares/{share}/all-tables"): Right.SEE_TABLE,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables"): Right.SEE_TABLE,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}"): Right.SEE_TABLE,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/version"): Right.SEE_TABLE,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/metadata"): Right.SEE_TABLE,
    ("POST", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/query"): Right.SEE_TABLE,
    ("GET", "/delta-sharing/shares/{share}/schemas/{schema}/tables/{table}/changes"): Right.SEE_TABLE,
    ("GET", "/console/{chain}"): PAGE,
    ("GET", "/console/{chain}/tasks"): Right.SHOW_TASK,
    ("POST", "/console/{chain}/tasks/selected"): Right.CHANGE_TASK,
    ("GET", "/console/{chain}/tasks/{id}"): Right.SHOW_TASK,
    ("GET", "/console/{chain}/tasks/{id}/download"): Right.SEE_RUN,
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}"): Right.SEE_RUN,
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/rows"): Right.SEE_RUN,
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/manifest"): Right.SEE_RUN,
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/download"): Right.SEE_RUN,
    ("GET", "/console/{chain}/tasks/{id}/events"): Right.SHOW_TASK,
    ("POST", "/console/{chain}/tasks/{id}/pause"): Right.CHANGE_TASK,
    ("POST", "/console/{chain}/tasks/{id}/resume"): Right.CHANGE_TASK,
    ("POST", "/console/{chain}/tasks/{id}/backfill"): Right.CHANGE_TASK,
    ("GET", "/console/{chain}/new"): Right.SHOW_TASK,
    ("POST", "/console/{chain}/forecast"): Right.SEGMENT,
    ("POST", "/console/{chain}/new"): Right.MAKE_TASK,
    ("POST", "/console/{chain}/profile"): OWN_TOKEN,
    ("GET", "/console/{chain}/schedules"): "shows descriptions, indexes and times, and no data of the source",
    ("GET", "/console/{chain}/segments"): Right.SEGMENT,
    ("GET", "/console/{chain}/destinations"): Right.SEE_RUN,
    ("GET", "/console/{chain}/destinations/new"): CHAIN,
    ("POST", "/console/{chain}/destinations/new"): CHAIN,
    ("GET", "/console/{chain}/destinations/{id}"): Right.SEE_RUN,
    ("POST", "/console/{chain}/destinations/{id}/test"): CHAIN,
    ("GET", "/console/{chain}/destinations/{id}/change"): CHAIN,
    ("POST", "/console/{chain}/destinations/{id}/change"): CHAIN,
    ("POST", "/console/{chain}/destinations/{id}/delete"): CHAIN,
    ("GET", "/console/{chain}/access"): PAGE,
    ("GET", "/console/{chain}/audit"): CHAIN,
    ("GET", "/console/{chain}/system"): "shows sums over all tasks of the chain",
}
"""The check of each endpoint that needs a level beyond that level, or the reason why there is none."""


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
    return [{"sessionUserId": [], "sessionKey": []}] if needed is Open.USER else []
