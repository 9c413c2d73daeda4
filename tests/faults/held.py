"""A source whose export can be held at any point, so that a fault hits a place that the test knows.

Nothing of the service is changed for it: the catalog is the test's own, its rows pass a function that takes an
advisory lock for each row, and what a test wants to stand still runs into a lock that the test holds.
"""

import asyncio
import csv
import hashlib
import io
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx2

from tests.service import CHAIN, Longshore, downloaded, stored_names
from tests.waiting import until

ROWS = 6_000  # of 2 kB, so that the export is cut into three ranges of 512 blocks
GATE = 1207  # the class of the advisory locks, one for each row

LEDGER = f"""
create table faults.ledger as
select n::bigint as id, {CHAIN}::bigint as chain_id, timestamptz '2026-01-01Z' + n * interval '1 minute' as "timestamp",
       repeat(md5(n::text), 60) || E', "quoted"\\nand on the next line' as note
from generate_series(1, {ROWS}) n
"""

SOURCE = f"""
create schema faults;
{LEDGER};
analyze faults.ledger;
-- Immutable, as it says, so that exports of the table are cut into ranges and shards.
create function faults.passes(id bigint) returns boolean language plpgsql immutable as $$
begin
    perform pg_catalog.pg_advisory_lock_shared({GATE}, id::int);
    perform pg_catalog.pg_advisory_unlock_shared({GATE}, id::int);
    return true;
end
$$;
"""

CATALOG = """
[wallet-ledger]
description = "Rows that can be held."
relation = "faults.ledger"
chain = "chain_id"
time = "timestamp"
prefix = "Wallet"
filter = "faults.passes(id)"

[wallet-ledger.fields]
id = { type = "number", description = "From 1, without a gap." }
timestamp = { type = "date", description = "A minute later in each row." }
note = { type = "text", description = "Long, with quotes and a line feed." }
"""

# The whole log of a run that nothing happened to, and of one whose first worker was lost.
UNDISTURBED = ["READY -> INPROGRESS", "success", "INPROGRESS -> DONE"]
TAKEN_OVER = [
    "READY -> INPROGRESS",
    "worker lost, attempt 2",
    "attempt 2 begins",
    "success",
    "INPROGRESS -> DONE",
]

# A backend that waits for another waiting backend counts as well.
WAITING = """
with recursive waiting(pid) as (
    select $1::int
    union
    select a.pid from pg_stat_activity a join waiting w on w.pid = any(pg_blocking_pids(a.pid))
)
select pid from waiting where pid <> $1
"""

T = TypeVar("T")


def write_source(service: Longshore) -> Path:
    """Write the source's data into the service's database, and give its catalog."""

    async def write() -> None:
        connection = await asyncpg.connect(service.url)
        try:
            await connection.execute(SOURCE)
        finally:
            await connection.close()

    asyncio.run(write())
    return write_catalog(service, CATALOG)


def write_catalog(service: Longshore, text: str) -> Path:
    """Write a catalog of the test's own beside the service's data."""
    path = service.data / "catalog.toml"
    path.write_text(text, encoding="utf-8")
    return path


class Hold:
    """A lock in a transaction of the test's own: a statement that needs it stands still until it is released."""

    def __init__(self, url: str, statement: str, *args: Any) -> None:
        self._url = url
        self._statement = statement
        self._args = args
        self._loop = asyncio.new_event_loop()

    @classmethod
    def row(cls, service: Longshore, row: int) -> "Hold":
        """Hold exports before they give this row."""
        return cls(service.url, "select pg_advisory_xact_lock($1, $2)", GATE, row)

    @classmethod
    def source(cls, service: Longshore) -> "Hold":
        """Hold exports before they see anything of the source."""
        return cls(service.url, "lock table faults.ledger in access exclusive mode")

    @classmethod
    def task(cls, service: Longshore, task: int) -> "Hold":
        """Hold whatever would change the state of a task."""
        return cls(service.url, "select from longshore.tasks where id = $1 for update", task)

    def __enter__(self) -> "Hold":
        async def take() -> None:
            self._connection = await asyncpg.connect(self._url)
            self._pid = self._connection.get_server_pid()
            await self._connection.execute("begin")
            await self._connection.fetch(self._statement, *self._args)

        self._loop.run_until_complete(take())
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._loop.close()

    def _waiters(self) -> list[int]:
        async def ask() -> list[int]:
            connection = await asyncpg.connect(self._url)
            try:
                return [row["pid"] for row in await connection.fetch(WAITING, self._pid)]
            finally:
                await connection.close()

        return self._loop.run_until_complete(ask())

    def reached(self, count: int = 1) -> list[int]:
        """Wait until `count` connections stand still at the lock, and give their server processes."""
        return until(lambda: waiters if len(waiters := self._waiters()) >= count else None, "the hold to be reached")

    def release(self) -> None:
        """Release the lock. A second call, or one after the server has stopped, does nothing."""

        async def close() -> None:
            self._connection.terminate()

        self._loop.run_until_complete(close())


def cut_off(service: Longshore, pids: list[int]) -> None:
    """End connections on the server's side, and wait until they are gone."""
    service.sql("select pg_terminate_backend(pid, 5000) from unnest($1::int[]) pid", pids)


def messages(task: dict[str, Any]) -> list[str]:
    """The texts of a task's log."""
    return [entry["msg"] for entry in task["logs"]]


def files_of(service: Longshore, task: int) -> list[str]:
    """The names of all files that a task has in the results folder, whole or not."""
    return [path.name for path in service.files() if path.is_relative_to(service.data / "results" / f"{CHAIN}/{task}")]


def assert_whole(service: Longshore, client: httpx2.Client, task: dict[str, Any]) -> None:
    """A task is DONE and its file, the only one of it, is exactly the source and what its run recorded."""
    assert task["state"]["code"] == "DONE", task
    run = client.get(f"/tasks/{task['id']}/runs").json()[0]
    assert_complete(task, run, downloaded(client, task["id"]))
    assert sorted(files_of(service, task["id"])) == stored_names(task["result"])


def assert_complete(task: dict[str, Any], run: dict[str, Any], content: bytes, rows: int = ROWS) -> None:
    """The content of a task's result is exactly the source and what its run recorded."""
    assert hashlib.sha256(content).hexdigest() == run["sha256"]
    assert (len(content), run["rows"], run["state"]) == (run["bytes"], rows, "DONE")
    records = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert [int(record["id"]) for record in records] == list(range(1, rows + 1))
    assert all(record["note"].endswith(', "quoted"\nand on the next line') for record in records)
    summary = next(entry for entry in task["logs"] if entry["msg"] == "success")
    assert (summary["total"], summary["success"]) == (rows, rows)
