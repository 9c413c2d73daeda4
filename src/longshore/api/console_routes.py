"""The levels and the rights of the console's pages and forms, a part of the table of `routes`.

Forms call the functions of the endpoints that do the same.
"""

from longshore.access.tokens import Level
from longshore.api.rights import CHAIN, OWN_TOKEN, PAGE, Open, Right

READ, WRITE, ADMIN = Level

OWN = "changes the signed-in user alone"

ENDPOINTS: dict[tuple[str, str], Open | tuple[Level, Right | str]] = {
    ("GET", "/"): Open.ANYBODY,
    ("GET", "/sign-in"): Open.ANYBODY,
    ("POST", "/sign-in"): Open.ANYBODY,
    ("POST", "/sign-in/passcode"): Open.ANYBODY,
    ("POST", "/sign-out"): Open.ANYBODY,
    ("GET", "/console/static/{name}"): Open.ANYBODY,
    ("GET", "/console/{chain}"): (READ, PAGE),
    ("GET", "/console/{chain}/tasks"): (READ, Right.SHOW_TASK),
    ("POST", "/console/{chain}/tasks/selected"): (WRITE, Right.CHANGE_TASK),
    ("GET", "/console/{chain}/tasks/{id}"): (READ, Right.SHOW_TASK),
    ("GET", "/console/{chain}/tasks/{id}/download"): (READ, Right.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}"): (READ, Right.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/rows"): (READ, Right.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/files"): (READ, Right.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/manifest"): (READ, Right.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/runs/{run}/download"): (READ, Right.SEE_RUN),
    ("GET", "/console/{chain}/tasks/{id}/events"): (READ, Right.SHOW_TASK),
    ("POST", "/console/{chain}/tasks/{id}/pause"): (WRITE, Right.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/resume"): (WRITE, Right.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/backfill"): (WRITE, Right.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/backfills/{backfill}/end"): (WRITE, Right.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/links/{link}/revoke"): (WRITE, Right.CHANGE_TASK),
    ("POST", "/console/{chain}/tasks/{id}/runs/{run}/deliver"): (WRITE, Right.CHANGE_TASK),
    ("GET", "/console/{chain}/new"): (WRITE, Right.SHOW_TASK),
    ("POST", "/console/{chain}/forecast"): (WRITE, Right.SEGMENT),
    ("POST", "/console/{chain}/new"): (WRITE, Right.MAKE_TASK),
    ("POST", "/console/{chain}/profile"): (READ, OWN_TOKEN),
    ("GET", "/console/{chain}/schedules"): (READ, "shows descriptions, indexes and times, and no data of the source"),
    ("GET", "/console/{chain}/segments"): (READ, Right.SEGMENT),
    ("POST", "/console/{chain}/segments"): (WRITE, Right.SEGMENT),
    ("POST", "/console/{chain}/segments/{id}/delete"): (WRITE, Right.SEGMENT),
    ("GET", "/console/{chain}/destinations"): (WRITE, Right.SEE_RUN),
    ("GET", "/console/{chain}/destinations/new"): (ADMIN, CHAIN),
    ("POST", "/console/{chain}/destinations/new"): (ADMIN, CHAIN),
    ("GET", "/console/{chain}/destinations/{id}"): (WRITE, Right.SEE_RUN),
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
