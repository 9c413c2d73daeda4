"""`longshore secrets rotate`: afterwards all that is stored needs the newest secret alone."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from longshore import process_list
from longshore.access import one_time_codes, users
from longshore.access.audit import Actor
from longshore.database.connect import Pool, open_pool
from longshore.database.migrate import connected_if_current
from longshore.destinations.stored import Destinations, NewDestination
from longshore.doctor.examine import check_secrets
from longshore.exports import signing_keys
from longshore.findings import Finding
from longshore.process_list import listed_while_running
from longshore.settings import Settings
from longshore.tasks import requests, task_secrets
from longshore.tasks.model import ChainId
from longshore.tasks.requests import NewTask
from longshore.tasks.schedule import Schedule
from longshore.vault import Vault, open_vault
from longshore.webhooks import stored as stored_webhooks
from longshore.webhooks.stored import WebhookDraft
from tests.command import failed, run, start
from tests.destinations.memory import MemorySecret, MemorySettings
from tests.service import Longshore, database_in, in_own_loop

CHAIN = ChainId(1764)
OLD, NEW = "o" * 32, "n" * 32
BLOCKED = "select exists (select from pg_locks where not granted)"
BYTES = """
select table_name, column_name from information_schema.columns
where table_schema = 'longshore' and data_type = 'bytea'
"""


def vault_of(secret: str) -> Vault:
    return open_vault(Settings(secret=secret, data=Path("nowhere"), database_url="postgresql://db.example.com/x"))


async def fill(url: str, vault: Vault, settings: Settings) -> None:
    """Seal something of every kind."""
    async with open_pool(url, size=2, name="test") as pool, pool.acquire() as connection, connection.transaction():
        new = NewDestination("shelf", "memory", MemorySettings("top"), MemorySecret("hunter2"))
        await Destinations(pool, {}, vault, settings).create(connection, CHAIN, new, "test")
        webhook = await stored_webhooks.create(
            connection, vault, CHAIN, WebhookDraft("http://127.0.0.1/", ["task.done"], "x")
        )
        await stored_webhooks.rotate(connection, vault, CHAIN, webhook)
        actor = Actor("command", "test")
        user = await users.create(connection, actor, "anna", "correct horse battery staple", {})
        await users.set_one_time_codes(connection, actor, user, one_time_codes.seal(vault, user, "SECRET"))
        await signing_keys.rotate(connection, vault)
        at = datetime(2126, 5, 26, tzinfo=UTC)
        task = await requests.create(connection, NewTask(CHAIN, "", "http", "{}", "{}", "", Schedule(once=at)))
        await task_secrets.save(connection, vault, CHAIN, task, {"secret_headers": {"Authorization": "hunter2"}})


def sealed_under(url: str, secret: str) -> dict[str, int]:
    """The number of values in each column that are sealed under a secret."""

    async def count() -> dict[str, int]:
        connection = await asyncpg.connect(url)
        try:
            found = {}
            for row in await connection.fetch(BYTES):
                table, column = row.values()
                text = f"select count(*) from longshore.{table} where substr({column}, 1, 9) = $1"
                found[f"{table}.{column}"] = await connection.fetchval(text, vault_of(secret).newest_prefix)
            return {column: number for column, number in found.items() if number}
        finally:
            await connection.close()

    return in_own_loop(count())


def test_after_a_rotation_the_newest_secret_alone_reads_all_that_is_stored(tmp_path: Path) -> None:
    with database_in(tmp_path / "data") as url:
        in_own_loop(fill(url, vault_of(OLD), Settings()))
        before = sealed_under(url, OLD)
        assert before == {
            "destinations.secret": 1,
            "webhooks.secret": 1,
            "previous_webhook_secrets.secret": 1,
            "users.totp_secret": 1,
            "signing_keys.sealed": 1,
            "task_secrets.sealed": 1,
        }
        failed(run("secrets", "rotate", folder=tmp_path, database_url=url), "LONGSHORE_SECRET is not set")
        done = run("secrets", "rotate", folder=tmp_path, database_url=url, secret=f"{NEW},{OLD}")
        assert done.returncode == 0, done.stderr
        assert "destinations: 1 sealed under the newest secret" in done.stdout
        assert sealed_under(url, OLD) == {}
        assert sealed_under(url, NEW) == before
        again = run("secrets", "rotate", folder=tmp_path, database_url=url, secret=NEW)
        assert "destinations: 0 sealed under the newest secret" in again.stdout


def test_rotation_is_refused_while_a_process_runs_that_lacks_the_newest_secret(tmp_path: Path) -> None:
    rotate = ["secrets", "rotate"]

    async def refused(url: str) -> None:
        async with open_pool(url, size=2, name="test") as pool:
            of_new = listed_while_running(pool, "api", vault_of(f"{NEW},{OLD}").prefixes())
            async with listed_while_running(pool, "worker", vault_of(OLD).prefixes()), of_new:
                await until_listed(pool, 2)
                await asyncio.to_thread(rotated, "is unknown to worker")
                async with pool.acquire() as connection:
                    finding = await check_secrets(connection, vault_of(f"{NEW},{OLD}"))
                assert (finding.level, "is unknown to worker" in finding.what) == ("wrong", True)
            await until_listed(pool, 0)

    def rotated(refusal: str) -> None:
        done = run(*rotate, folder=tmp_path, database_url=url, secret=f"{NEW},{OLD}")
        failed(done, refusal)
        assert "api" not in done.stderr.partition("unknown to")[2]

    with database_in(tmp_path / "data") as url:
        in_own_loop(fill(url, vault_of(OLD), Settings()))
        in_own_loop(refused(url))
        assert len(sealed_under(url, OLD)) == 6
        old = "insert into longshore.processes (id, name, secrets) values (gen_random_uuid(), 'api old:7', '{}')"
        in_own_loop(execute(url, old))
        failed(run(*rotate, folder=tmp_path, database_url=url, secret=f"{NEW},{OLD}"), "unknown to api old:7")
        assert run(*rotate, "--force", folder=tmp_path, database_url=url, secret=f"{NEW},{OLD}").returncode == 0
        in_own_loop(execute(url, "update longshore.processes set seen_at = now() - interval '61 s'"))
        assert run(*rotate, folder=tmp_path, database_url=url, secret=NEW).returncode == 0, "it is gone"


def test_process_leaves_the_list_in_time_though_no_connection_is_free(
    service: Longshore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_list, "LEAVE_SECONDS", 0.1)

    async def leave() -> None:
        async with open_pool(service.url, size=1, name="test") as pool, asyncio.timeout(30):
            list_entry = listed_while_running(pool, "test", [])
            await list_entry.__aenter__()
            async with pool.acquire():
                await list_entry.__aexit__(None, None, None)
            await pool.execute("delete from longshore.processes where name like 'test %'")

    in_own_loop(leave())


async def until_listed(pool: Pool, count: int) -> None:
    async with asyncio.timeout(30):
        while await pool.fetchval("select count(*) from longshore.processes") != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def execute(url: str, statement: str) -> None:
    async with connected_if_current(url) as connection:
        await connection.execute(statement)


def test_processes_of_a_service_list_the_secrets_they_have(service: Longshore) -> None:
    rows = service.sql("select name, secrets from longshore.processes")
    assert {row["name"].partition(" ")[0] for row in rows} == {"api", "worker"}
    vault = open_vault(Settings(data=service.data, database_url=service.url))
    assert {tuple(row["secrets"]) for row in rows} == {tuple(vault.prefixes())}


def test_rotation_that_is_killed_leaves_all_readable_and_is_run_again(tmp_path: Path) -> None:
    with database_in(tmp_path / "data") as url:
        in_own_loop(fill(url, vault_of(OLD), Settings()))
        both = f"{NEW},{OLD}"

        async def kill_at_the_webhooks() -> None:
            connection = await asyncpg.connect(url)
            async with connection.transaction():
                await connection.execute("select from longshore.webhooks for update")
                process = start("secrets", "rotate", folder=tmp_path, database_url=url, secret=both)
                try:
                    async with asyncio.timeout(60):
                        while not await connection.fetchval(BLOCKED):  # of another process
                            assert process.poll() is None
                            await asyncio.sleep(0.05)
                finally:
                    process.kill()
                    process.communicate()
            await connection.close()

        in_own_loop(kill_at_the_webhooks())
        # The server still ends the statement that was blocked.
        assert "destinations.secret" in sealed_under(url, NEW)
        assert sealed_under(url, OLD) | {"webhooks.secret": 1} == {
            "webhooks.secret": 1, "previous_webhook_secrets.secret": 1, "users.totp_secret": 1,
            "signing_keys.sealed": 1, "task_secrets.sealed": 1,
        }  # fmt: skip
        assert run("secrets", "rotate", folder=tmp_path, database_url=url, secret=both).returncode == 0
        assert sealed_under(url, OLD) == {}
        assert len(sealed_under(url, NEW)) == 6


def test_doctor_names_secrets_to_rotate_and_those_that_cannot_be_read(tmp_path: Path) -> None:
    async def findings(url: str, secret: str) -> Finding:
        async with connected_if_current(url) as connection:
            return await check_secrets(connection, vault_of(secret))

    with database_in(tmp_path / "data") as url:
        assert in_own_loop(findings(url, NEW)).level == "ok"
        in_own_loop(fill(url, vault_of(OLD), Settings()))
        assert in_own_loop(findings(url, OLD)).level == "ok"
        older = in_own_loop(findings(url, f"{NEW},{OLD}"))
        assert (older.level, older.what.partition(";")[0]) == ("warning", "6 are sealed under earlier secrets")
        lost = in_own_loop(findings(url, NEW))
        assert lost.level == "wrong"
        assert "LONGSHORE_SECRET does not have" in lost.what
        assert lost.what.endswith("and 5 more")
        assert "LONGSHORE_SECRET is not set" in in_own_loop(findings(url, "")).what


def test_rotation_without_the_earlier_secret_names_what_it_cannot_read(tmp_path: Path) -> None:
    with database_in(tmp_path / "data") as url:
        in_own_loop(fill(url, vault_of(OLD), Settings()))
        done = run("secrets", "rotate", folder=tmp_path, database_url=url, secret=NEW)
        assert done.returncode == 1
        assert "6 could not be read" in done.stderr
        assert "of chain 1764 was sealed under a secret that LONGSHORE_SECRET does not have" in done.stderr
        assert len(sealed_under(url, OLD)) == 6
