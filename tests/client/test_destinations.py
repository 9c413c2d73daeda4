"""Destinations through the Python client and the command line."""

import asyncio
import io
import json
import os
import pty
import subprocess
import sys
import termios
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longshore import AsyncLongshore, Longshore
from longshore.access.tokens import Level
from longshore.cli import destinations
from longshore.client import BadRequestError, ConflictError, NotFoundError
from tests import service as services
from tests.client.conftest import Cli
from tests.command import environment
from tests.conftest import SMALL_CHAIN
from tests.destinations.memory import PASSWORD
from tests.waiting import until

SECRET = {"password": PASSWORD}


@pytest.fixture(scope="module")
def admin_token(service: services.Longshore) -> str:
    return service.token(Level.ADMIN, SMALL_CHAIN)


@pytest.fixture
def admin(service: services.Longshore, admin_token: str) -> Iterator[Longshore]:
    with Longshore(service.address, admin_token, chain=SMALL_CHAIN, retry_for=5) as client:
        yield client


@pytest.fixture
def commands(cli: Cli, service: services.Longshore, admin_token: str) -> Cli:
    assert cli("login", "--address", service.address, "--chain", str(SMALL_CHAIN), typed=admin_token)[0] == 0
    return cli


def new_name() -> str:
    return f"shelf-{uuid.uuid4().hex[:12]}"


def test_client_makes_tests_changes_and_deletes_a_destination(admin: Longshore) -> None:
    name = new_name()
    tested = admin.destinations.test_new("memory", {"shelf": "full"}, SECRET)
    assert (tested.ok, tested.steps[-1].detail) == (False, "the shelf is full")
    made = admin.destinations.create(name, "memory", {"shelf": "top"}, SECRET)
    assert (made.name, made.kind, made.settings) == (name, "memory", {"shelf": "top"})
    assert admin.destinations.get(made.id) == made
    assert made in admin.destinations.list(limit=100)
    assert admin.destinations.test(made.id).ok
    assert admin.destinations.change(made.id, settings={"shelf": "top", "prefix": "a"}).settings["prefix"] == "a"
    with pytest.raises(BadRequestError, match="/secret: is required"):
        admin.destinations.change(made.id, settings={"shelf": "low"})
    assert admin.destinations.change(made.id, settings={"shelf": "low"}, secret=SECRET).settings == {"shelf": "low"}
    with pytest.raises(ConflictError):
        admin.destinations.create(name, "memory", {"shelf": "top"}, SECRET)
    admin.destinations.delete(made.id)
    with pytest.raises(NotFoundError):
        admin.destinations.get(made.id)
    assert {"memory", "s3"} <= {kind.kind for kind in admin.destinations.kinds()}


def test_awaited_client_has_the_same_operations(service: services.Longshore, admin_token: str) -> None:
    async def run() -> None:
        async with AsyncLongshore(service.address, admin_token, chain=SMALL_CHAIN) as client:
            made = await client.destinations.create(new_name(), "memory", {"shelf": "top"}, SECRET)
            assert (await client.destinations.test(made.id)).ok
            await client.destinations.delete(made.id)

    asyncio.run(run())


def test_commands_make_test_change_and_delete_a_destination(commands: Cli) -> None:
    name = new_name()
    Path("secret.json").write_text(json.dumps(SECRET), encoding="utf-8-sig")  # as editors of Windows do
    options = ("--kind", "memory", "--set", "shelf=top", "--secret-file", "secret.json")
    assert commands("destinations", "create", name, *options) == (
        0, f"good\tconnect\t\ngood\twrite\t\n{name} is stored; tasks deliver to it by that name\n", "",
    )  # fmt: skip
    [listed] = [one for one in json.loads(commands("destinations", "list", "--json")[1]) if one["name"] == name]
    assert listed["settings"] == {"shelf": "top"}
    assert f"{name}\tmemory\tshelf=top" in commands("destinations", "list")[1]
    assert commands("destinations", "test", name)[0] == 0
    assert commands("destinations", "change", name, "--set", "prefix=loyalty")[0] == 0
    code, _, stderr = commands("destinations", "change", name, "--set", "shelf=low")
    assert (code, "/secret: is required" in stderr) == (2, True)
    assert commands("destinations", "change", name, "--secret-file", "-", typed="wrong\n")[0] == 0
    code, out, _ = commands("destinations", "test", name)
    assert (code, out) == (1, "failed\tconnect\tthe password is wrong\n")
    assert commands("destinations", "delete", name)[0] == 0
    assert commands("destinations", "test", name) == (3, "", f"longshore: the chain has no destination '{name}'\n")


def test_change_of_one_setting_keeps_a_change_that_another_admin_made_meanwhile(
    admin: Longshore, commands: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = new_name()
    made = admin.destinations.create(name, "memory", {"shelf": "top"}, SECRET)

    def read_while_another_changes(*arguments: Any) -> Any:
        admin.destinations.change(made.id, settings={"shelf": "low"}, secret=SECRET)
        return original(*arguments)

    original = destinations._kind  # between reading the destination and changing it
    monkeypatch.setattr(destinations, "_kind", read_while_another_changes)
    assert commands("destinations", "change", name, "--set", "prefix=loyalty")[0] == 0
    assert admin.destinations.get(made.id).settings == {"shelf": "low", "prefix": "loyalty"}
    assert commands("destinations", "change", name, "--set", "prefix=")[0] == 0
    assert admin.destinations.get(made.id).settings == {"shelf": "low"}
    both = admin.destinations.change(made.id, settings={"prefix": "a"}, merge=True).settings
    assert both == {"shelf": "low", "prefix": "a"}
    admin.destinations.delete(made.id)


def test_destination_whose_test_fails_is_not_stored(commands: Cli) -> None:
    name = new_name()
    create = ("destinations", "create", name, "--kind", "memory", "--set", "shelf=top")
    code, out, _ = commands(*create, typed="not the password")
    assert (code, out) == (1, "failed\tconnect\tthe password is wrong\n")
    assert name not in commands("destinations", "list")[1]
    assert commands(*create, "--untested", typed="not the password")[0] == 0
    assert commands("destinations", "delete", name)[0] == 0


def test_settings_have_the_types_of_the_kind_and_may_come_from_a_file(commands: Cli) -> None:
    Path("shelf.txt").write_text("from a file")
    create = ("destinations", "create", new_name(), "--kind", "memory", "--untested")
    assert commands(*create, "--set", "shelf=@shelf.txt", typed="x")[0] == 0
    assert "shelf=from a file" in commands("destinations", "list")[1]
    for wrong, words in (
        (("--set", "shelf"), "expected KEY=VALUE"),
        (("--set", "shelf=@missing.txt"), "missing.txt cannot be read"),
        (("--set", "shelf=top", "--secret-file", "missing.json"), "missing.json cannot be read"),
        (("--set", "port=x", "--kind", "sftp"), "port: expected integer"),
        (("--set", "path_style=yes", "--kind", "s3"), "path_style: expected boolean"),
        (("--kind", "memori"), "expected one of"),
        (("--set", "shelve=top"), "/settings/shelve: unknown key"),
        (("--kind", "sftp"), "expected a JSON object of password, private_key, passphrase"),
    ):
        code, _, stderr = commands(*create, *wrong, typed="x")
        assert code == 2, stderr
        assert words in " ".join(stderr.replace("│", " ").split()), stderr


def test_kinds_show_their_settings_and_secrets(commands: Cli) -> None:
    assert "memory\tfiles\tshelf, username, prefix, size, key" in commands("destinations", "kinds")[1]
    code, out, _ = commands("destinations", "kinds", "memory")
    assert code == 0
    assert out.splitlines()[0] == "setting\tshelf\trequired\tname of the shelf"
    assert out.splitlines()[-1] == "secret\tpassword\trequired\t"


@pytest.mark.usefixtures("commands")
def test_secret_is_prompted_for_on_a_terminal_and_not_shown(tmp_path: Path) -> None:
    name = new_name()
    near, far = pty.openpty()
    command = [sys.executable, "-m", "longshore", "destinations", "create", name, "--kind", "memory"]
    settings = environment() | {"XDG_CONFIG_HOME": str(tmp_path / "config"), "TERM": "dumb"}
    process = subprocess.Popen([*command, "--set", "shelf=top"], stdin=far, stdout=far, stderr=far, env=settings)
    os.close(far)
    shown = io.BytesIO()
    while b"password" not in shown.getvalue():
        shown.write(os.read(near, 1000))
    until(lambda: not termios.tcgetattr(near)[3] & termios.ECHO, "the terminal to show nothing")
    os.write(near, f"{PASSWORD}\n".encode())
    assert process.wait(60) == 0
    shown.write(os.read(near, 10_000))
    os.close(near)
    assert f"{name} is stored" in shown.getvalue().decode()
    assert PASSWORD not in shown.getvalue().decode()


def test_text_of_a_setting_in_a_file_has_no_newline_of_the_file(commands: Cli) -> None:
    Path("shelf.txt").write_text("top\n", encoding="utf-8")
    name = new_name()
    arguments = ("--kind", "memory", "--set", "shelf=@shelf.txt", "--untested")
    assert commands("destinations", "create", name, *arguments, typed="x")[0] == 0
    [listed] = [one for one in json.loads(commands("destinations", "list", "--json")[1]) if one["name"] == name]
    assert listed["settings"] == {"shelf": "top"}
