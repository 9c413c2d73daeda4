"""Versions of a task with thousands of runs are found in the index: neither statement reads the rows of all runs."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx2

from longshore.tasks.shared_tables import FIRST_VERSION_FROM, VERSION
from tests.service import CHAIN, Longshore
from tests.sharing.conftest import Reader, new_name, shared, table_body

RUNS = 3000
MAX_BUFFERS = 150  # pages of 8 KiB; the rows of all runs have more than 1,000
START = datetime(2001, 1, 1, tzinfo=UTC)


async def add_runs(connection: asyncpg.Connection, task: int) -> None:
    """Add a run for each hour since START, each of which ends five minutes after its interval."""
    columns = "select attname from pg_attribute where attrelid = 'longshore.runs'::regclass and attnum > 0"
    names = [row[0] for row in await connection.fetch(f"{columns} and not attisdropped and attgenerated = ''")]
    ends = f"'{START.isoformat()}'::timestamptz + n * interval '1 hour'"
    values = {
        "run": "n", "location": "r.location || n", "interval_end": ends, "ended_at": f"{ends} + interval '5 minutes'"
    }  # fmt: skip
    selected = ", ".join(values.get(name, f"r.{name}") for name in names)
    await connection.execute(
        f"insert into longshore.runs ({', '.join(names)}) select {selected} "
        "from longshore.runs r, generate_series(2, $1::int) n where r.task_id = $2 and r.run = 1",
        RUNS, task,
    )  # fmt: skip
    await connection.execute("vacuum analyze longshore.runs")


async def buffers(connection: asyncpg.Connection, statement: str, *args: Any) -> int:
    """Return the pages that a statement reads."""
    plan = await connection.fetchval(f"explain (analyze, buffers, format json) {statement}", *args)
    return int(json.loads(plan)[0]["Plan"]["Shared Hit Blocks"] + json.loads(plan)[0]["Plan"]["Shared Read Blocks"])


def test_version_of_a_time_is_found_among_thousands_of_runs_in_the_index(
    service: Longshore, client: httpx2.Client, reader: Reader
) -> None:
    id, name = shared(client, table_body(new_name(), fields=["id"]))

    async def measured() -> list[int]:
        connection = await asyncpg.connect(service.url)
        try:
            await add_runs(connection, id)
            key, early = name.lower(), START + timedelta(hours=100)
            return [
                await buffers(connection, VERSION, CHAIN, key, None, None),
                await buffers(connection, VERSION, CHAIN, key, 50, None),
                await buffers(connection, VERSION, CHAIN, key, None, early),
                await buffers(connection, FIRST_VERSION_FROM, CHAIN, key, early),
            ]
        finally:
            await connection.close()

    try:
        found = asyncio.run(measured())
        assert max(found) < MAX_BUFFERS, found
        times = {"2001-01-05T04:04:59Z": "99", "2001-01-05T04:05:00Z": "100"}
        got = {
            text: reader.get(name, "metadata", params={"timestamp": text}).headers["delta-table-version"]
            for text in times
        }
        assert got == times
        since = reader.get(name, "version", params={"startingTimestamp": "2001-01-05T04:04:59Z"})
        assert since.headers["delta-table-version"] == "100"
    finally:
        service.sql("delete from longshore.runs where task_id = $1 and run > 1", id)
