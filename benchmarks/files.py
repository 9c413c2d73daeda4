"""Results of many files: 365 Parquet files beside one, the memory of a worker, and DuckDB as their reader."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.service import Longshore, export_body

from benchmarks import ledger
from benchmarks.duckdb_reader import environment
from benchmarks.options import Options
from benchmarks.table import Case
from longshore.demo.seed import CHAIN

DAYS = 365
MOST = 2.5  # of the seconds of one file, that 365 of them may take
MOST_GROWTH = 60.0  # MB of a worker, beside one file

# The rows of a year, in the order of their time, as a ledger has them.
ONE_YEAR = """
update loyalty.wallet_ledger l
set timestamp = timestamptz '2025-01-01Z' + placed.part * interval '365 days'
from (
    select id, (row_number() over (order by timestamp, id) - 1) / count(*) over ()::float8 as part
    from loyalty.wallet_ledger where chain_id = {chain}
) placed
where l.id = placed.id and l.chain_id = {chain}
"""

READ = """
import sys
import duckdb
found = f"read_parquet('{sys.argv[1]}/**/*.parquet', hive_partitioning = true)"
rows, days = duckdb.sql(f"select count(*), count(distinct timestamp_day) from {found}").fetchone()
print(rows, days)
"""


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Time and memory of 365 Parquet files beside one file of the same rows."""
    rows = 2 * options.rows
    tell(f"writing {rows:,} rows")
    with ledger.service_with(rows) as longshore:
        longshore.sql(ONE_YEAR.format(chain=CHAIN))
        longshore.sql("vacuum analyze loyalty.wallet_ledger")
        ours: list[float] = []
        peer: list[float] = []
        peaks: dict[bool, list[float]] = {True: [], False: []}
        for number in range(1, min(options.rounds, 3) + 1):
            for many, seconds in ((True, ours), (False, peer)):
                worker = longshore.start("worker")
                seconds.append(_export(longshore, rows, many=many))
                peaks[many].append(ledger.peak_of(worker.pid))
                worker.terminate()
                worker.wait()
            tell(f"round {number}: {DAYS} files {ours[-1]:.1f} s, {peaks[True][-1]:.0f} MB")
            tell(f"round {number}: one file {peer[-1]:.1f} s, {peaks[False][-1]:.0f} MB")
    ratio = statistics.median(ours) / statistics.median(peer)
    most, least = max(peaks[True]), min(peaks[False])
    return [
        Case(
            name=f"{rows:,} rows to {DAYS} Parquet files",
            peer_name="itself, one file",
            unit="s",
            chosen=f"median of {len(ours)}",
            ours=statistics.median(ours),
            peer=statistics.median(peer),
            ratio=ratio,
            target=f"at most {MOST}",
            met=ratio <= MOST,
            ours_rounds=ours,
            peer_rounds=peer,
        ),
        Case(
            name=f"peak memory of a worker, {rows:,} rows to {DAYS} Parquet files",
            peer_name="itself, one file",
            unit="MB",
            chosen=f"largest of {len(ours)}, smallest of {len(ours)}",
            ours=most,
            peer=least,
            ratio=most / least,
            target=f"within {MOST_GROWTH:.0f} MB",
            met=most - least <= MOST_GROWTH,
            ours_rounds=peaks[True],
            peer_rounds=peaks[False],
        ),
    ]


def _export(longshore: Longshore, rows: int, *, many: bool) -> float:
    """Export the ledger as one file or as one for each day; return the seconds of the run."""
    body = export_body("parquet")
    if many:
        body["target"]["partition_by"] = [{"field": "timestamp", "by": "day"}]
    found = ledger.exported_as(longshore, rows, body)
    manifest = longshore.data / "results" / found["location"]
    if many:
        assert len(json.loads(manifest.read_text())["files"]) == DAYS
        assert _read(manifest.parent) == [str(rows), str(DAYS)]
    shutil.rmtree(manifest.parent)
    return float(found["seconds"])


def _read(folder: Path) -> list[str]:
    """Return rows and days of the files, as DuckDB reads them with their folders."""
    command = [sys.executable, "-c", READ, str(folder)]
    done = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True)
    return done.stdout.split()
