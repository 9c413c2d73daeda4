"""Backup and restore as docs/operations.md has them, with the roles and databases of docs/databases.md.

The service has a database of its own, or a schema in that of a retailer, whose tables stay as they are.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest

from longshore.access.tokens import Level
from longshore.database.embedded import embedded_server
from longshore.database.embedded_server import programs
from longshore.database.migrate import migrate
from longshore.demo.seed import seed
from tests.service import Longshore, ended, export_body, in_own_loop

DOCS = Path(__file__).parents[1] / "docs"

ROWS = "select count(*) from loyalty.wallet_ledger where chain_id = 1764"


class Addresses(msgspec.Struct, frozen=True):
    """Addresses of the service's database."""

    superuser: str
    admin: str
    """Of the one who restores."""
    service: str
    """`LONGSHORE_DATABASE_URL`."""


def as_role(url: str, role: str, database: str) -> str:
    """Return the address of a database of the embedded server `url` for a role."""
    return f"postgresql://{role}@/{database}?{url.partition('?')[2]}"


def psql(url: str, *statements: str) -> None:
    commands = [part for statement in statements for part in ("--command", statement)]
    subprocess.run([programs() / "psql", "--quiet", "--set=ON_ERROR_STOP=on", *commands, url], check=True)


@contextmanager
def server(folder: Path, *, shared: bool) -> Iterator[Addresses]:
    """A server on which an administrator has done what docs/databases.md says, with 1,000 rows of sample data."""
    made, schema, *_ = re.findall(r"```sql\n(.*?)```", (DOCS / "databases.md").read_text(), re.S)
    roles, database = made[: made.index("create database")], made[made.index("create database") :]
    with embedded_server(folder) as url:
        psql(url, roles)
        if shared:
            psql(url, "create role shop login; grant longshore to shop")
            psql(url, "create database shop owner shop locale 'C.UTF-8' template template0")
            psql(as_role(url, "shop", "shop"), schema)
        else:
            psql(url, database)
        name = "shop" if shared else "longshore"
        superuser = as_role(url, url.partition("//")[2].partition("@")[0] or "postgres", name)
        in_own_loop(seed(superuser, 1000, lambda _: None))
        admin = as_role(url, "shop", name) if shared else superuser
        yield Addresses(superuser, admin, as_role(url, "longshore", name))


def test_embedded_database_starts_from_a_copy_of_its_data_folder(tmp_path: Path) -> None:
    copy, original = tmp_path / "copy", tmp_path / "original"
    copy.mkdir()
    with embedded_server(original) as url:
        psql(url, "create table kept (id int)")
    archive = tmp_path / "longshore.tar"
    subprocess.run(["tar", "--create", f"--file={archive}", f"--directory={original}", "."], check=True)
    extract = ["tar", "--extract", "--same-owner", f"--file={archive}", f"--directory={copy}"]
    subprocess.run(extract, check=True)
    with embedded_server(copy) as url:
        psql(url, "select * from kept")


def run(addresses: Addresses, folder: Path, *lines: str) -> None:
    """Run commands of the page."""
    environment = {
        "PATH": f"{programs()}:/usr/bin:/bin",
        "LONGSHORE_DATABASE_URL": addresses.service,
        "ADMIN_URL": addresses.admin,
    }
    for line in lines:
        done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True)
        assert done.returncode == 0, (line, done.stderr)


@pytest.mark.parametrize("shared", [False, True], ids=["own database", "shared database"])
def test_a_service_goes_on_from_its_backup_on_its_server_and_on_another_one(tmp_path: Path, *, shared: bool) -> None:
    dump, *restore = re.findall(r"^ {4,7}((?:pg_dump|psql|pg_restore) .+)$", (DOCS / "operations.md").read_text(), re.M)
    with server(tmp_path / "first", shared=shared) as addresses:
        in_own_loop(migrate(addresses.service))
        service = Longshore(tmp_path / "first", addresses.superuser, database_url=addresses.service)
        try:
            service.start("worker")
            service.start_api()
            token = service.token(Level.ADMIN)
            bearer = {"Authorization": f"Bearer {token}"}
            with httpx2.Client(base_url=service.address, headers=bearer, timeout=60) as client:
                task = client.post("/tasks", json=export_body()).json()["id"]
                before = ended(client, task)
                client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z"))
                listed, audit = client.get("/tasks").json(), client.get("/audit").json()
                signature = client.get(f"/tasks/{task}/runs/1/manifest.jws").text
                keys = client.get("/.well-known/longshore-keys.json").json()
                assert signature
                assert keys["keys"]
                run(addresses, tmp_path, dump)
                lost = client.post("/tasks", json=export_body()).json()["id"]
                assert ended(client, lost)["state"]["code"] == "DONE"
        finally:
            service.stop()
        service.sql("delete from loyalty.wallet_ledger where chain_id = 1764 and id % 2 = 0")
        (left,) = service.sql(ROWS)[0]
        assert 0 < left < 1000
        service.sql("create table longshore.of_a_newer_version (id bigint references longshore.tasks)")
        run(addresses, tmp_path, *restore)
        assert service.sql(ROWS)[0][0] == left, "a restore leaves the retailer's tables alone"
        assert service.sql("select to_regclass('longshore.of_a_newer_version')")[0][0] is None
    with server(tmp_path / "other", shared=shared) as addresses:
        run(addresses, tmp_path, *restore)
        assert in_own_loop(migrate(addresses.service)) == []
        restored = Longshore(service.data, addresses.superuser, database_url=addresses.service)
        try:
            restored.start("worker")
            restored.start_api()
            with httpx2.Client(base_url=restored.address, headers=bearer, timeout=60) as client:
                assert client.get(f"/tasks/{task}", params={"log_limit": 1000}).json() == before
                assert client.get("/tasks").json() == listed
                assert client.get("/audit").json() == audit
                assert client.get(f"/tasks/{task}/runs/1/manifest.jws").text == signature
                assert client.get("/.well-known/longshore-keys.json").json() == keys
                again = client.post("/tasks", json=export_body()).json()["id"]
                assert again > task
                assert again == lost, "a restored service gives the numbers of lost tasks out again"
                assert ended(client, again)["logs"][1]["success"] == 1000
        finally:
            restored.stop()
