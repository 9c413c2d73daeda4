"""The table of routes: the level of each endpoint, and its check of what the caller may see.

The guard, the OpenAPI document and a test read it. An endpoint that is not in the table is closed.
"""

from longshore.access.tokens import Level
from longshore.api import console_routes
from longshore.api.route_entries import CHAIN, OWN_TOKEN, SERVICE, SHARE, Check, Open
from longshore.api.sharing_errors import is_sharing

READ, WRITE, ADMIN = Level

ENDPOINTS: dict[tuple[str, str], Open | tuple[Level, Check | str]] = {
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
    ("GET", "/credential"): (READ, "tells a credential of itself, without the names of what is hidden from it"),
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
    **console_routes.ENDPOINTS,
}
"""What each endpoint needs: a level with the check beyond it, or the reason why there is none; or an `Open`."""

NEEDED: dict[tuple[str, str], Level | Open] = {
    endpoint: needed if isinstance(needed, Open) else needed[0] for endpoint, needed in ENDPOINTS.items()
}
CHECKS: dict[tuple[str, str], Check | str] = {
    endpoint: needed[1] for endpoint, needed in ENDPOINTS.items() if not isinstance(needed, Open)
}


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
