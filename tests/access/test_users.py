"""Users as the admins of a chain see them, and as the command line makes them."""

import os
import subprocess
import sys
import unicodedata
import uuid
from pathlib import Path
from typing import Any

import httpx2
import pyotp
import pytest

from longshore.access.tokens import Level
from tests.access.users import User, headers_of, new_user
from tests.answers import problem, violations
from tests.command import environment, failed, run
from tests.service import Longshore

NO_WORK = {"tasks": [], "webhooks": [], "stopped": False}


def body(name: str | None = None, level: str = "read") -> dict[str, Any]:
    return {"username": name or f"bert-{uuid.uuid4()}", "password": "correct horse battery staple", "level": level}


def listed(client: httpx2.Client) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    while page := client.get("/users", params={"limit": 100, "offset": len(found)}).json():
        found |= {user["id"]: user for user in page}
    return found


def test_admin_creates_a_user_who_can_sign_in_and_changes_the_level(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    wanted = body()
    made = idle_client.post("/users", json=wanted)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"/users/{made.json()['id']}"
    user = made.json()
    assert {**user, "created": ""} == {
        "id": user["id"], "name": wanted["username"], "level": "read", "enabled": True, "passcode": False, "created": ""
    }  # fmt: skip
    assert listed(idle_client)[user["id"]] == user
    headers = headers_of(User(idle_service, user["id"], wanted["username"], wanted["password"], None).sign_in().json())
    with httpx2.Client(base_url=idle_service.address, headers=headers) as theirs:
        path = f"/users/{user['id']}"
        assert theirs.get("/tasks").status_code == 200
        problem(theirs.get("/users"), "forbidden")
        assert idle_client.patch(path, json={"level": "admin"}).json()["level"] == "admin"
        assert theirs.get("/users").status_code == 200
        off = {**user, "level": "admin", "enabled": False, "ongoing": NO_WORK}
        assert idle_client.patch(path, json={"enabled": False}).json() == off
        problem(theirs.get("/tasks"), "forbidden")
        assert idle_client.patch(path, json={"enabled": True}).status_code == 200
        removed = idle_client.delete(path)
        assert (removed.status_code, removed.json()) == (200, NO_WORK)
        problem(theirs.get("/tasks"), "forbidden")
        assert user["id"] not in listed(idle_client)
        problem(idle_client.delete(path), "user-not-found")


def test_an_admin_sees_and_changes_nothing_of_other_chains(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    both, theirs = new_user(idle_service, _1764=Level.READ, _1765=Level.ADMIN), new_user(idle_service, _1765=Level.READ)
    assert listed(idle_client)[both.id]["level"] == "read"
    assert theirs.id not in listed(idle_client)
    before = idle_service.sql("select * from longshore.user_levels where chain_id = 1765 order by user_id")
    for id in (theirs.id, 10**9, 2**63):
        problem(idle_client.patch(f"/users/{id}", json={"level": "admin"}), "user-not-found")
        problem(idle_client.delete(f"/users/{id}"), "user-not-found")
    idle_client.patch(f"/users/{both.id}", json={"level": "write", "enabled": False})
    idle_client.delete(f"/users/{both.id}")
    assert idle_service.sql("select * from longshore.user_levels where chain_id = 1765 order by user_id") == before
    assert httpx2.get(f"{idle_service.address}/users", headers=both.session(1765)).status_code == 200


def test_admin_cannot_take_away_their_own_level(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    user = new_user(idle_service, _1764=Level.ADMIN)
    path = f"/users/{user.id}"
    with user.client() as own:
        for change in ({"level": "read"}, {"enabled": False}, {"level": "admin", "enabled": False}):
            problem(own.patch(path, json=change), "own-level")
        problem(own.delete(path), "own-level")
        assert own.patch(path, json={"level": "admin", "enabled": True}).status_code == 200
        assert idle_client.patch(path, json={"level": "read"}).status_code == 200
        problem(own.patch(path, json={"level": "admin"}), "forbidden")


def test_violations_of_a_user_body_are_named_and_user_names_are_unique(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    count = idle_service.sql("select count(*) from longshore.users")[0][0]
    bad = idle_client.post("/users", json={"username": " x", "password": "short", "level": "read"})
    assert set(violations(bad)) == {"/username", "/password"}
    assert "short" not in bad.text.replace("at least", "")
    assert set(violations(idle_client.post("/users", json=body(level="owner")))) == {"/level"}
    assert idle_service.sql("select count(*) from longshore.users")[0][0] == count
    wanted = body()
    assert idle_client.post("/users", json=wanted).status_code == 201
    problem(idle_client.post("/users", json=body(wanted["username"].upper())), "name-taken")


@pytest.fixture
def database(idle_service: Longshore) -> dict[str, str]:
    return {"database_url": idle_service.url, "data": str(idle_service.data)}


def typed(password: str, *arguments: str, folder: Path, **settings: str) -> Any:
    """Run a command that reads a password from standard input."""
    command = [sys.executable, "-m", "longshore", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(**settings), input=password + "\n", capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["two\nlines", "an\u200bna", "an\u202ena", "an\x85na"])
def test_name_that_no_user_can_have_is_refused_before_a_password_is_prompted_for(tmp_path: Path, name: str) -> None:
    failed(typed("", "user", "create", name, folder=tmp_path), "expected a name of 1 to 200 characters")


@pytest.mark.parametrize("half", [("--chain", "1764"), ("--level", "admin")])
def test_user_is_not_created_with_a_chain_or_a_level_alone(half: tuple[str, str], tmp_path: Path) -> None:
    refused = typed("correct horse battery staple", "user", "create", "half", *half, folder=tmp_path)
    assert (refused.returncode, "--chain and --level go together" in refused.stderr) == (2, True), refused.stderr


def test_first_admin_is_created_by_the_command_line(
    idle_service: Longshore, database: dict[str, str], tmp_path: Path
) -> None:
    name, password, new = f"first-{uuid.uuid4()}", "correct horse battery staple", "another horse, another staple"
    options = {"folder": tmp_path, **database}
    failed(typed("short", "user", "create", name, folder=tmp_path, **database), "12 to 1024 characters")
    made = typed(password, "user", "create", name, "--chain", "1764", "--level", "admin", folder=tmp_path, **database)
    assert made.returncode == 0, made.stderr
    user = User(idle_service, int(made.stdout.split()[1].rstrip(":")), name, password, None)
    with user.client() as client:
        assert client.get("/users").status_code == 200
        assert typed(new, "user", "password", name, folder=tmp_path, **database).returncode == 0
        assert client.get("/users").status_code == 401
    user.password = new
    on = run("user", "totp", name, "on", **options)  # type: ignore[arg-type]
    secret = pyotp.parse_uri(on.stdout.strip()).secret
    attempt = user.sign_in().json()["attempt_id"]
    sent = {"attempt_id": attempt, "passcode": pyotp.TOTP(secret).now()}
    assert httpx2.post(f"{idle_service.address}/auth/session", json=sent).status_code == 200
    assert run("user", "level", name, "--chain", "1765", "read", **options).returncode == 0  # type: ignore[arg-type]
    line = next(line for line in run("user", "list", **options).stdout.splitlines() if name in line)  # type: ignore[arg-type]
    assert line.endswith(f"{name}  1764: admin, 1765: read  passcode")
    failed(run("user", "disable", "nobody", **options), "there is no user 'nobody'")  # type: ignore[arg-type]
    done = idle_service.sql("select action from longshore.audit where object = $1 and chain_id = 1764 order by id",
                    f"user {user.id}")  # fmt: skip
    assert [row["action"] for row in done] == [
        "user.create", "login.success", "user.password", "user.totp_on", "login.success"
    ]  # fmt: skip


def test_command_line_records_the_removal_of_a_level_as_the_api_does(
    idle_service: Longshore, idle_client: httpx2.Client, tmp_path: Path
) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    for level in ("write", "none"):
        done = run("user", "level", user.name, "--chain", "1764", level, folder=tmp_path, database_url=idle_service.url)
        assert done.returncode == 0, done.stderr
    entries = idle_client.get("/audit", params={"object": f"user {user.id}"}).json()
    assert [(each["action"], each["details"]) for each in reversed(entries)] == [
        ("user.change", {"level": "write"}), ("user.remove", None),
    ]  # fmt: skip


def test_audit_entries_of_a_user_have_the_fields_of_the_request_but_the_password(idle_client: httpx2.Client) -> None:
    wanted = body()
    id = idle_client.post("/users", json=wanted).json()["id"]
    idle_client.patch(f"/users/{id}", json={"level": "write"})
    idle_client.patch(f"/users/{id}", json={"enabled": False})
    entries = idle_client.get("/audit", params={"object": f"user {id}"}).json()
    assert [entry["details"] for entry in reversed(entries)] == [
        {"username": wanted["username"], "level": "read"}, {"level": "write"}, {"enabled": False}
    ]  # fmt: skip


def test_audit_entry_of_a_new_user_has_the_name_as_it_is_stored(idle_client: httpx2.Client) -> None:
    stored = f"amélie-{uuid.uuid4()}"
    made = idle_client.post("/users", json=body(unicodedata.normalize("NFD", stored))).json()
    (entry,) = idle_client.get("/audit", params={"object": f"user {made['id']}"}).json()
    assert (made["name"], entry["details"]["username"]) == (stored, stored)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become another user")
def test_system_user_without_a_name_is_recorded_by_its_number() -> None:
    code = "import os, pwd; from longshore.cli.database import system_user; os.setuid(12345); print(system_user())"
    variables = {name: value for name, value in os.environ.items() if name not in ("LOGNAME", "USER", "LNAME")}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.stdout == "uid 12345\n", done.stderr
