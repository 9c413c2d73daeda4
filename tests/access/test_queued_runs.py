"""Credentials that end or lose rights between the request for a run and its beginning."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import httpx2
import pytest

from longshore.access.tokens import Level, Scope
from tests.access.users import new_user
from tests.service import Longshore, database_in, ended

CHAIN, OTHER_CHAIN = 1764, 9
HIDDEN = ["users.phone_number"]
FUTURE = "2126-05-26T12:00:00Z"

REVOKE = "update longshore.access_tokens set revoked_at = now() where id = $1"
EXPIRE = "update longshore.access_tokens set expires_at = now() where id = $1"
LOWER = "update longshore.access_tokens set level = 'read' where id = $1"
HIDE = "update longshore.access_tokens set hidden_columns = hidden_columns || '{users.username}' where id = $1"
LEAVE = "update longshore.access_tokens set more_chains = '{}' where id = $1"
DISABLE = """
update longshore.service_clients set enabled = false
where id = (select client_id from longshore.access_tokens where id = $1)
"""
LOWER_USER = "update longshore.user_levels set level = 'write' where user_id = $1"
DISABLE_USER = "update longshore.users set disabled_at = now() where id = $1"

ENDED = "which asked for this run, has been revoked, has expired or was disabled"
LOWERED = "which asked for this run, has a lower level now"
BEYOND = "which asked for this run, may not see"

USERS = {"action": "export", "export_index": "users", "export_format": "csv", "fields": ["id", "username"]}
AUDIT = {"action": "export", "export_index": "audit", "export_format": "csv"}

# By name: what the credential was limited to when it asked, what became of it then, and what the log says; none where
# the run goes on, as a credential without limits asks for nothing that others of the chain may not see.
OF_TOKENS: dict[str, tuple[Scope | None, str, str]] = {
    "revoked": (Scope(hidden_columns=HIDDEN), REVOKE, ENDED),
    "revoked, limited by index": (Scope(indexes=["users"]), REVOKE, ENDED),
    "expired": (Scope(hidden_columns=HIDDEN), EXPIRE, ENDED),
    "disabled": (Scope(hidden_columns=HIDDEN), DISABLE, ENDED),
    "lowered": (Scope(hidden_columns=HIDDEN), LOWER, LOWERED),
    "narrowed": (Scope(hidden_columns=HIDDEN), HIDE, BEYOND),
    "narrowed from none": (None, HIDE, BEYOND),
    "unlimited and revoked": (None, REVOKE, ""),
    "unlimited and lowered": (None, LOWER, ""),
    "limited and unchanged": (Scope(hidden_columns=HIDDEN), "select $1::uuid", ""),
}
OF_USERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "lowered": (AUDIT, LOWER_USER, LOWERED),
    "disabled": (AUDIT, DISABLE_USER, ENDED),
    "disabled, of an index for everybody": (USERS, DISABLE_USER, ""),
}


def body(target: dict[str, Any], chain: int = CHAIN) -> dict[str, Any]:
    return {"chain": chain, "desc": "", "target": target, "trigger": {"once": FUTURE}}


def requested(owner: httpx2.Client, asking: httpx2.Client, target: dict[str, Any], chain: int = CHAIN) -> int:
    """A task that the owner defined, and that the other one asked to run."""
    task = owner.post("/tasks", json=body(target, chain)).json()["id"]
    answer = asking.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return int(task)


def token_id(client: httpx2.Client) -> UUID:
    return UUID(client.headers["authorization"].removeprefix("Bearer ").split(":")[0])


@pytest.fixture(scope="module")
def log_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, str]]]:
    """By name of the case: how the run ended, and the log entry before that. No worker runs until all have changed."""
    data = tmp_path_factory.mktemp("queued")
    with ExitStack() as stack:
        url = stack.enter_context(database_in(data, 100))
        service = Longshore(data, url, chain_tasks="20")
        stack.callback(service.stop)
        service.start_api()
        admin = stack.enter_context(service.client(Level.ADMIN))
        elsewhere = stack.enter_context(service.client(Level.ADMIN, OTHER_CHAIN))
        queued: dict[str, tuple[httpx2.Client, int]] = {}
        changes: list[tuple[str, Any]] = []
        for name, (scope, change, _) in OF_TOKENS.items():
            token = service.token(Level.WRITE, CHAIN, scope)
            if change is DISABLE:  # a client of its own, as the tests' tokens share one
                owner = admin.post("/service_clients", json={"name": name}).json()["id"]
                service.sql("update longshore.access_tokens set client_id = $1 where id = $2", owner, UUID(token[:36]))
            headers = {"Authorization": f"Bearer {token}"}
            asking = stack.enter_context(httpx2.Client(base_url=service.address, headers=headers, timeout=60))
            queued[f"token {name}"] = admin, requested(admin, asking, USERS)
            changes.append((change, token_id(asking)))
        shared = stack.enter_context(
            service.client(Level.WRITE, CHAIN, Scope(more_chains=[OTHER_CHAIN], hidden_columns=HIDDEN))
        )
        shared.headers["X-Session-Chain-Id"] = str(OTHER_CHAIN)
        queued["token of a chain that left"] = elsewhere, requested(elsewhere, shared, USERS, OTHER_CHAIN)
        changes.append((LEAVE, token_id(shared)))
        for name, (target, change, _) in OF_USERS.items():
            user = new_user(service, _1764=Level.ADMIN)
            asking = stack.enter_context(user.client())
            queued[f"user {name}"] = admin, requested(admin, asking, target)
            changes.append((change, user.id))
        for change, whose in changes:
            service.sql(change, whose)
        service.start("worker")
        found = {}
        for name, (reader, task) in queued.items():
            last = ended(reader, task)
            found[name] = last["state"]["code"], last["logs"][-2]["msg"]
        yield found


def outcome(expected_message: str) -> str:
    return "ERROR" if expected_message else "DONE"


@pytest.mark.parametrize("name", OF_TOKENS)
def test_queued_run_ends_in_error_when_the_limited_token_that_asked_for_it_lost_its_rights(
    log_of: dict[str, tuple[str, str]], name: str
) -> None:
    expected_message = OF_TOKENS[name][2]
    state, message = log_of[f"token {name}"]
    assert state == outcome(expected_message), message
    assert expected_message in message
    assert "username" not in message
    assert "phone_number" not in message


def test_queued_run_ends_in_error_when_its_chain_left_the_scope_of_the_token_that_asked_for_it(
    log_of: dict[str, tuple[str, str]],
) -> None:
    state, message = log_of["token of a chain that left"]
    assert (state, ENDED in message) == ("ERROR", True), message


@pytest.mark.parametrize("name", OF_USERS)
def test_queued_run_of_an_index_for_admins_ends_in_error_when_the_user_who_asked_for_it_is_no_admin_now(
    log_of: dict[str, tuple[str, str]], name: str
) -> None:
    expected_message = OF_USERS[name][2]
    state, message = log_of[f"user {name}"]
    assert state == outcome(expected_message), message
    assert expected_message in message
