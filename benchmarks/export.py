"""Exports: how long the whole service takes beside `psql \\copy` of the same query, and what memory a worker needs.

An export's time is the service's own record of the run, from INPROGRESS to DONE: the copy, its hash, the flush to disk
and the change of state. psql's is that of its process, and it neither hashes nor flushes.
"""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
from tests.service import Longshore, database_in, ended, export_body

from benchmarks.options import Options
from benchmarks.table import Case
from longshore.database.embedded import programs
from longshore.demo.seed import CHAIN, SMALLER_CHAINS, seed
from longshore.exports import catalog, formats
from longshore.exports.columns import choices, columns_of
from longshore.exports.formats.dialect import PROFILES

MOST_TIME = 1.1  # of psql's
MOST_GROWTH = 10.0  # MB between a tenth of the rows and all of them
FORMAT = "csv"
PATIENCE = 600.0  # seconds for one export

RUN = """
select extract(epoch from ended_at - began_at)::float8 as seconds, rows, bytes, location
from longshore.runs where task_id = $1
"""


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Seed a service of its own and measure speed and memory."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        data = Path(folder)
        with database_in(data) as url:
            tell(f"writing {options.rows:,} rows")
            asyncio.run(seed(url, options.rows, lambda _: None))
            longshore = Longshore(data, url)
            try:
                longshore.start_api()
                return [_speed(longshore, options, tell), _memory(longshore, options, tell)]
            finally:
                longshore.stop()


def _speed(longshore: Longshore, options: Options, tell: Callable[[str], None]) -> Case:
    worker = longshore.start("worker")
    # The first of each warms the caches of the database and the disk and is not counted.
    ours, peer = [_export(longshore, CHAIN, options.rows)], [_psql(longshore, options.rows)]
    for number in range(1, options.rounds + 1):
        ours.append(_export(longshore, CHAIN, options.rows))
        peer.append(_psql(longshore, options.rows))
        tell(f"round {number}: ours {ours[-1]:.2f} s, psql {peer[-1]:.2f} s")
    worker.terminate()
    worker.wait()
    ours, peer = ours[1:], peer[1:]
    ratio = min(ours) / min(peer)
    return Case(
        name=f"export of {options.rows:,} rows to CSV",
        peer_name="psql \\copy, same query",
        unit="s",
        chosen=f"best of {options.rounds}",
        ours=min(ours),
        peer=min(peer),
        ratio=ratio,
        target=f"at most {MOST_TIME}",
        met=ratio <= MOST_TIME,
        ours_rounds=ours,
        peer_rounds=peer,
    )


def _memory(longshore: Longshore, options: Options, tell: Callable[[str], None]) -> Case:
    small_chain, small_rows = SMALLER_CHAINS[0], options.rows // 10
    large, small = [], []
    rounds = min(options.rounds, 3)  # memory is no matter of luck
    for number in range(1, rounds + 1):
        large.append(_peak(longshore, CHAIN, options.rows))
        small.append(_peak(longshore, small_chain, small_rows))
        tell(f"peak {number}: {large[-1]:.1f} MB, with a tenth of the rows {small[-1]:.1f} MB")
    # The least favourable pair: the largest peak of all with the smallest with few rows.
    most, least = max(large), min(small)
    return Case(
        name=f"peak memory of a worker, {options.rows:,} rows",
        peer_name=f"itself, {small_rows:,} rows",
        unit="MB",
        chosen=f"largest of {rounds}, smallest of {rounds}",
        ours=most,
        peer=least,
        ratio=most / least,
        target=f"within {MOST_GROWTH:.0f} MB",
        met=abs(most - least) <= MOST_GROWTH,
        ours_rounds=large,
        peer_rounds=small,
    )


def _export(longshore: Longshore, chain: int, rows: int) -> float:
    """Export a chain through the service, see that all rows are there, and give the run's seconds."""
    with longshore.client(chain=chain) as client:
        created = client.post("/tasks", json=export_body(FORMAT, chain))
        assert created.status_code == 201, created.text
        task = ended(client, created.json()["id"], PATIENCE)
    assert task["state"]["code"] == "DONE", task
    (run,) = longshore.sql(RUN, task["id"])
    file = longshore.data / "results" / run["location"]
    assert run["rows"] == rows, run
    assert run["bytes"] == file.stat().st_size, run
    file.unlink()
    return float(run["seconds"])


def _psql(longshore: Longshore, rows: int) -> float:
    """The same query by psql into a file on the same disk; gives the seconds of its process."""
    file = longshore.data / "psql.csv"
    query = asyncio.run(_query(longshore.url, CHAIN))
    copy = f"\\copy ({query}) to '{file}' with (format csv, header)"
    command = [str(programs() / "psql"), "--no-psqlrc", "--dbname", longshore.url, "--command", copy]
    began = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    assert done.stdout.strip() == f"COPY {rows}", done
    file.unlink()
    return seconds


async def _query(url: str, chain: int) -> str:
    """The query that an export of the whole chain copies, with the chain in place of its parameter."""
    index = catalog.load()["wallet-ledger"]
    connection = await asyncpg.connect(url)
    try:
        columns = await columns_of(connection, index, choices(None, index))
    finally:
        await connection.close()
    return formats.make(FORMAT, columns, PROFILES["rfc4180"], None).query(index.rows.replace("$1", str(chain)))


def _peak(longshore: Longshore, chain: int, rows: int) -> float:
    """The largest resident set, in MB, of a worker that was started for one export."""
    worker = longshore.start("worker")
    _export(longshore, chain, rows)
    status = Path(f"/proc/{worker.pid}/status").read_text()
    worker.terminate()
    worker.wait()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
