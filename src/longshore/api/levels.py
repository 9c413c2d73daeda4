"""Who may call what: one table, which the guard asks, the OpenAPI document shows, and a test walks all routes by.

An endpoint that is not in it is closed to everybody.
"""

from enum import Enum

from longshore.access.tokens import Level


class Open(Enum):
    """What an endpoint needs that needs no level."""

    PROBE = "for machines that watch; no rate limit counts it"
    ANYBODY = "for everybody"
    PERSON = "for whoever has signed in, whatever their levels are"


READ, WRITE, ADMIN = Level

NEEDED: dict[tuple[str, str], Level | Open] = {
    ("GET", "/healthz"): Open.PROBE,
    ("GET", "/readyz"): Open.PROBE,
    ("GET", "/metrics"): Open.PROBE,
    ("GET", "/docs"): Open.ANYBODY,
    ("GET", "/docs/assets/{file_path}"): Open.ANYBODY,
    ("GET", "/openapi.json"): Open.ANYBODY,
    ("GET", "/problems/{kind}"): Open.ANYBODY,
    ("POST", "/auth/login"): Open.ANYBODY,
    ("POST", "/auth/session"): Open.ANYBODY,
    ("GET", "/results/{location}"): Open.ANYBODY,  # its signature is the right
    ("GET", "/auth/sessions"): Open.PERSON,
    ("DELETE", "/auth/sessions/{id}"): Open.PERSON,
    ("POST", "/auth/logout"): Open.PERSON,
    ("POST", "/auth/password"): Open.PERSON,
    ("GET", "/tasks"): READ,
    ("POST", "/tasks"): WRITE,
    ("POST", "/tasks/preview"): READ,
    ("GET", "/tasks/{id}"): READ,
    ("PATCH", "/tasks/{id}"): WRITE,
    ("DELETE", "/tasks/{id}"): WRITE,
    ("POST", "/tasks/{id}/execute"): WRITE,
    ("POST", "/tasks/{id}/cancel"): WRITE,
    ("GET", "/tasks/{id}/progress"): READ,
    ("GET", "/tasks/{id}/events"): READ,
    ("GET", "/tasks/{id}/runs"): READ,
    ("GET", "/tasks/{id}/runs/{run}/manifest"): READ,
    ("POST", "/tasks/{id}/runs/{run}/ack"): WRITE,
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
    ("GET", "/webhooks"): WRITE,
    ("POST", "/webhooks"): WRITE,
    ("DELETE", "/webhooks/{id}"): WRITE,
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
    # The console's pages; all that they change goes to the endpoints above.
    ("GET", "/"): Open.ANYBODY,
    ("GET", "/sign-in"): Open.ANYBODY,
    ("POST", "/sign-in"): Open.ANYBODY,
    ("POST", "/sign-in/passcode"): Open.ANYBODY,
    ("GET", "/console/static/{file_path}"): Open.ANYBODY,
    ("GET", "/console/{chain}"): READ,
    ("GET", "/console/{chain}/tasks"): READ,
    ("GET", "/console/{chain}/tasks/{id}"): READ,
    ("GET", "/console/{chain}/tasks/{id}/events"): READ,
    ("GET", "/console/{chain}/new"): WRITE,
    ("GET", "/console/{chain}/schedules"): READ,
    ("GET", "/console/{chain}/segments"): READ,
    ("GET", "/console/{chain}/access"): READ,
    ("GET", "/console/{chain}/audit"): ADMIN,
    ("GET", "/console/{chain}/system"): READ,
}


def security(method: str, path: str) -> list[dict[str, list[str]]]:
    """What an endpoint needs, for the OpenAPI document: the level stands as the role of each kind of credential.

    https://spec.openapis.org/oas/v3.1.0#security-requirement-object
    """
    needed = NEEDED[method, path]
    if isinstance(needed, Level):
        role = [needed.name.lower()]
        return [{"accessToken": role}, {"sessionUserId": role, "sessionKey": role, "sessionChainId": role}]
    return [{"sessionUserId": [], "sessionKey": []}] if needed is Open.PERSON else []
