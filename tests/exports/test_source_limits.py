"""Limits that protect the source are not exceeded, and the task's log names them."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from longshore.doctor.databases import check_source
from longshore.errors import LongshoreError, TransientError
from longshore.exports.catalog import FieldType
from longshore.exports.increments import transactions
from longshore.exports.source_limits import SourceLimits, Throttle
from longshore.settings_sources import load
from tests.exports.engine import index_over
from tests.exports.test_standby import WAIT, pair, replayed
from tests.service import Longshore, database_in, ended, export_body

__all__ = ["pair"]  # the fixture of a primary with its standby

LOCK = "lock table loyalty.wallet_ledger in access exclusive mode"


ROWS = 30_000


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """Yield a service without a worker."""
    data = tmp_path_factory.mktemp("limits")
    with database_in(data, ROWS) as url:
        service = Longshore(data, url)
        try:
            service.start_api()
            yield service
        finally:
            service.stop()


@contextlib.contextmanager
def worker_of(service: Longshore, **settings: str) -> Iterator[None]:
    """Run a worker with these settings."""
    worker = service.start("worker", **settings)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait()


@pytest.mark.parametrize(
    ("setting", "message"),
    [("source_snapshot_seconds", "held its snapshot of the source for 1 s"), ("source_statement_seconds", "timeout")],
)
def test_an_export_that_holds_its_snapshot_too_long_ends_in_error(api: Longshore, setting: str, message: str) -> None:
    with worker_of(api, **{setting: "1"}), api.client() as client, psycopg.connect(api.url) as connection:
        connection.execute(LOCK)
        task = ended(client, client.post("/tasks", json=export_body()).json()["id"])
        connection.rollback()
        assert task["state"]["code"] == "ERROR"
        assert message in task["logs"][-2]["msg"]
        held = "select 1 from pg_stat_activity where application_name = 'longshore export' and xact_start is not null"
        deadline = time.monotonic() + WAIT
        while api.sql(held):
            assert time.monotonic() < deadline, "the source is still held"
        # The limit is meant for minutes; on a busy machine an export may take its second for other reasons.
        states = (
            ended(client, client.post("/tasks", json=export_body()).json()["id"])["state"]["code"] for _ in range(5)
        )
        assert "DONE" in states


def test_an_export_is_held_to_its_bytes_per_second(api: Longshore) -> None:
    with worker_of(api, export_megabytes_per_second="3"), api.client() as client:
        task = ended(client, client.post("/tasks", json=export_body()).json()["id"])
        assert task["logs"][1]["success"] == ROWS
        run = client.get(f"/tasks/{task['id']}/runs").json()[0]
    assert run["seconds"] > 0.8 * run["bytes"] / 3e6 > 0.5


def test_a_paused_export_catches_up_with_one_second_of_bytes_at_most() -> None:
    async def seconds() -> float:
        pace = Throttle(1000)
        await pace.keep(0)
        await asyncio.sleep(3)
        began = time.monotonic()
        for _ in range(4):  # a second of it is free
            await pace.keep(500)
        return time.monotonic() - began

    assert asyncio.run(seconds()) > 0.9


def test_a_standby_that_lags_too_far_is_not_read(pair: tuple[str, object]) -> None:
    url, folder = pair

    async def steps() -> None:
        primary = await asyncpg.connect(url)
        standby = await asyncpg.connect(user="postgres", database="postgres", host=str(folder.parent))  # type: ignore[attr-defined]  # a Path
        limits = SourceLimits(lag_seconds=1)
        await primary.execute("create table entries (id bigint)")
        await replayed(primary, standby)
        await asyncio.sleep(1.2)
        await limits.refuse_lagging(primary)
        await limits.refuse_lagging(standby)  # a quiet primary is no lag
        await standby.execute("select pg_wal_replay_pause()")
        await primary.execute("insert into entries values (1)")
        deadline = time.monotonic() + WAIT
        while True:
            try:
                await limits.refuse_lagging(standby)
            except TransientError as error:
                assert "may be 1 s" in str(error)
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        await SourceLimits().refuse_lagging(standby)
        await standby.execute("select pg_wal_replay_resume()")
        await replayed(primary, standby)
        await limits.refuse_lagging(standby)
        for connection in (primary, standby):
            await connection.close()

    asyncio.run(steps())


# Aurora refuses functions of the write-ahead log, with SQLSTATE 0A000.
AURORA = """
create schema aurora;
create function aurora.pg_is_in_recovery() returns boolean language sql as 'select true';
create function aurora.pg_last_wal_receive_lsn() returns pg_lsn language plpgsql as $$
    begin raise 'Function pg_last_wal_receive_lsn() is currently not supported for Aurora' using errcode = '0A000'; end
$$;
create function aurora.pg_last_wal_replay_lsn() returns pg_lsn language plpgsql as $$
    begin raise 'Function pg_last_wal_replay_lsn() is currently not supported for Aurora' using errcode = '0A000'; end
$$;
create table aurora.entries (id bigint, chain_id bigint, at timestamptz)
"""


def test_a_source_that_refuses_functions_of_the_log_names_the_setting(idle_service: Longshore) -> None:
    async def steps() -> None:
        connection = await asyncpg.connect(idle_service.url, server_settings={"search_path": "aurora, pg_catalog"})
        await connection.execute(AURORA)
        try:
            with pytest.raises(LongshoreError, match=r"not supported for Aurora\); set LONGSHORE_SOURCE_LAG_SECONDS=0"):
                await SourceLimits(lag_seconds=1).refuse_lagging(connection)
            await SourceLimits().refuse_lagging(connection)
            index = index_over("aurora.entries", id=FieldType.NUMBER)
            with pytest.raises(LongshoreError, match=r"not supported for Aurora\); set wal_level = logical"):
                await transactions.position(connection, index)
            settings = load({"LONGSHORE_SOURCE_LAG_SECONDS": "1"}).settings
            found = [finding async for finding in check_source(settings, connection, {})]
            assert [(each.level, each.where) for each in found[1:3]] == [("wrong", "source"), ("warning", "source")], (
                found
            )
        finally:
            await connection.execute("drop schema aurora cascade")
            await connection.close()

    asyncio.run(steps())
