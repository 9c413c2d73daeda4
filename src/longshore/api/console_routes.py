"""The levels and the checks of the console's pages and forms, a part of the table of `routes`.

Forms call the functions of the endpoints that do the same.
"""

from longshore.access.tokens import Level
from longshore.api.route_entries import CHAIN, OWN_TOKEN, PAGE, Check, Open

READ, WRITE, ADMIN = Level

OWN = "changes the signed-in user alone"

ENDPOINTS: dict[tuple[str, str], Open | tuple[Level, Check | str]] = {
    ("GET", "/"): Open.ANYBODY,
    ("GET", "/sign-in"): Open.ANYBODY,
    ("POST", "/sign-in"): Open.ANYBODY,
    ("POST", "/sign-in/passcode"): Open.ANYBODY,
    ("POST", "/sign-out"): Open.ANYBODY,
    ("GET", "/console/static/{name}"): Open.ANYBODY,
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
    ("POST", "/console/{chain}/forecast"): (WRITE, Check.SEGMENT),
    ("POST", "/console/{chain}/new"): (WRITE, Check.MAKE_TASK),
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
