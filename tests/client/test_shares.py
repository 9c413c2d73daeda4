"""Results as tables through the Python client and the command line."""

import asyncio
import json
from pathlib import Path

import pytest

from longshore import AsyncLongshore, Longshore
from longshore.access.tokens import Level
from longshore.client import ForbiddenError, NotFoundError, UnauthorizedError
from tests import service as services
from tests.access.users import new_user
from tests.client.conftest import Cli
from tests.conftest import SMALL_CHAIN

PREFIX = "from_client_"


@pytest.fixture(scope="module")
def tables(service: services.Longshore) -> list[str]:
    """More tables than one page of the service has by default."""
    names = [f"{PREFIX}{number}" for number in range(3)]
    with Longshore(service.address, service.token(Level.WRITE, SMALL_CHAIN), chain=SMALL_CHAIN) as client:
        for name in names:
            client.exports.create("products", format="parquet", share_as=name).wait()
    return names


def test_client_lists_the_tables_of_its_chain(longshore: Longshore, tables: list[str]) -> None:
    found = [table for table in longshore.shares.list() if table.name.startswith(PREFIX)]
    assert sorted(table.name for table in found) == tables
    assert found[0].full_name == f"{SMALL_CHAIN}.exports.{found[0].name}"


def test_awaited_client_gives_the_profile_file_of_its_token(service: services.Longshore) -> None:
    token = service.token(Level.READ, SMALL_CHAIN)

    async def profile() -> str:
        async with AsyncLongshore(service.address, token, chain=SMALL_CHAIN) as client:
            return (await client.shares.profile()).bearer_token

    assert asyncio.run(profile()) == token


def test_errors_of_the_protocols_paths_are_the_clients_own(service: services.Longshore) -> None:
    for token, error in (
        (service.token(Level.READ, 9), (NotFoundError, ForbiddenError)),
        ("00000000-0000-0000-0000-000000000000:x", (UnauthorizedError,)),
    ):
        with Longshore(service.address, token, chain=SMALL_CHAIN) as client, pytest.raises(error):
            client.shares.list()


def test_command_lists_tables_one_a_line(logged_in: Cli, tables: list[str]) -> None:
    code, out, _ = logged_in("shares", "list")
    names = [line for line in out.splitlines() if PREFIX in line]
    assert (code, names) == (0, [f"{SMALL_CHAIN}.exports.{name}" for name in tables])
    listed = json.loads(logged_in("shares", "list", "--json")[1])
    assert {"share": str(SMALL_CHAIN), "schema": "exports", "name": tables[0]} in listed


def test_profile_file_is_for_its_owner_alone(logged_in: Cli, token: str, tmp_path: Path) -> None:
    file = tmp_path / "here" / "longshore.share"
    file.write_text("an older one")
    file.chmod(0o644)
    assert logged_in("shares", "profile", "-o", "longshore.share", "--clobber")[:2] == (0, "longshore.share\n")
    assert file.stat().st_mode & 0o777 == 0o600
    written = json.loads(file.read_text())
    assert (written["shareCredentialsVersion"], written["bearerToken"]) == (1, token)
    assert json.loads(logged_in("shares", "profile")[1]) == written
    assert list(file.parent.iterdir()) == [file]
    assert logged_in("shares", "profile", "-o", ".")[1] == f"longshore-{SMALL_CHAIN}.share\n"
    code, out, stderr = logged_in("shares", "profile", "-o", ".")
    assert (code, out, "exists; --clobber replaces it" in stderr) == (1, "", True)


def test_profile_file_in_a_folder_that_is_missing_is_an_error(logged_in: Cli) -> None:
    code, _, stderr = logged_in("shares", "profile", "-o", "nowhere/longshore.share")
    assert (code, "nowhere" in stderr) == (2, True)


def test_command_revokes_a_profile_file_of_a_user_without_a_login(
    service: services.Longshore, logged_in: Cli, token: str, tmp_path: Path
) -> None:
    reader = new_user(service, _1765=Level.READ)
    with reader.client(chain=SMALL_CHAIN) as session:
        made = session.post("/delta-sharing/profile").json()
        (tmp_path / "here" / "anna.share").write_text(json.dumps(made))
        id = made["bearerToken"].partition(":")[0]
        assert logged_in("shares", "revoke", "anna.share")[:2] == (0, f"revoked {id}\n")
        assert [(each["id"], each["state"]) for each in session.get("/delta-sharing/profiles").json()] == [
            (id, "revoked")
        ]
    (tmp_path / "here" / "service.share").write_text(json.dumps({**made, "bearerToken": token}))
    (tmp_path / "here" / "broken.share").write_text("{")
    for file, message in (("service.share", "service clients"), ("broken.share", "cannot be read"), ("none", "none")):
        code, _, stderr = logged_in("shares", "revoke", file)
        assert code != 0 and message in stderr, (file, stderr)
