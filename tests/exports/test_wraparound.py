"""Transaction numbers have 32 bits on disk: increments go on after a wraparound, with rows frozen or not."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

from longshore.database.connect import Connection
from longshore.database.embedded import embedded_server
from longshore.database.embedded_server import programs
from longshore.exports.catalog import Field, FieldType
from longshore.exports.increments import transactions
from tests.exports.engine import index_over
from tests.exports.incremental import taken

INDEX = index_over("public.entries", id=Field(type=FieldType.NUMBER, description=""))
SEGMENT = 1 << 20  # transactions in a file of pg_xact, two bits each


def test_increments_go_on_after_a_wraparound_of_transaction_numbers(tmp_path: Path) -> None:
    marks: list[str] = []

    async def take(connection: Connection, start: str | None) -> list[int]:
        ids, end = await taken(connection, INDEX, start)
        marks.append(end)
        return ids

    async def first(connection: Connection) -> None:
        await connection.execute("create table entries (id bigint, chain_id bigint default 1764, at timestamptz)")
        await connection.execute("insert into entries values (1), (2)")
        assert await take(connection, None) == [1, 2]

    async def middle(connection: Connection) -> None:
        await connection.execute("insert into entries values (3)")

    async def shortly_before(connection: Connection) -> None:
        await connection.execute("insert into entries values (4)")
        assert await take(connection, marks[0]) == [3, 4]  # 3 is frozen by now, and 2^31 transactions old
        for id in range(5, 105):  # each in a transaction of its own
            await connection.execute(f"insert into entries values ({id})")
        assert await connection.fetchval("select pg_current_xact_id()::text::bigint") > transactions.XID_MODULUS
        assert await take(connection, marks[1]) == list(range(5, 105))
        await connection.execute("vacuum freeze entries")
        assert await take(connection, marks[1]) == list(range(5, 105))
        assert await take(connection, None) == list(range(1, 105))
        await connection.execute("update entries set at = now() where id = 1")
        assert await take(connection, marks[2]) == [1]

    at(tmp_path, first)
    jump(tmp_path, 2_140_000_000)
    at(tmp_path, middle)
    jump(tmp_path, 4_280_000_000)
    at(tmp_path, freeze_only)
    jump(tmp_path, transactions.XID_MODULUS - 60)
    at(tmp_path, shortly_before)


async def freeze_only(_: Connection) -> None:
    """Run `at` alone."""


def at(data: Path, steps: Callable[[Connection], Awaitable[None]]) -> None:
    """Run `at` on the server, then freeze every row in it, so that a jump of the numbers loses none."""
    with embedded_server(data) as url:
        asyncio.run(_work(url, steps))


async def _work(url: str, steps: Callable[[Connection], Awaitable[None]]) -> None:
    connection = await asyncpg.connect(url)
    await steps(connection)
    await connection.execute("alter database template0 with allow_connections true")
    await connection.close()
    for database in ("postgres", "template1", "template0"):
        connection = await asyncpg.connect(url, database=database)
        await connection.execute("vacuum freeze")
        await connection.close()


def jump(data: Path, number: int) -> None:
    """Set the number of the stopped server's next transaction."""
    cluster = data / "postgres"
    owner = cluster.stat()
    command = [str(programs() / "pg_resetwal"), "-x", str(number), str(cluster)]
    subprocess.run(command, check=True, capture_output=True, user=owner.st_uid, group=owner.st_gid)
    status = cluster / "pg_xact" / f"{number // SEGMENT:04X}"
    if not status.exists():
        status.write_bytes(bytes(SEGMENT // 4))
        os.chown(status, owner.st_uid, owner.st_gid)
