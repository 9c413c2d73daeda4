"""Changes: how long it takes to read and merge the keys of a copy, beside a full export, and in what memory."""

import asyncio
import io
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.service import CHAIN, Longshore, ended, export_body

from benchmarks import ledger
from benchmarks.options import Options
from benchmarks.table import Case
from longshore.database.connect import open_pool
from longshore.demo.seed import SMALLER_CHAINS
from longshore.exports import catalog
from longshore.exports.increments import change_writer
from longshore.exports.increments.key_list import KeyListWriter, differences
from longshore.exports.query import ExportRequest, prepare
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections
from longshore.exports.target import IndexTarget
from longshore.tasks.model import ChainId, Interval

MOST_OF_EXPORT = 0.25
MOST_GROWTH = 15.0  # MB of a worker, between a tenth of the rows and all of them
ROUNDS = 3

TARGET = IndexTarget(action="export", export_index="wallet-ledger", export_format="csv", incremental=True, deletes=True)


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Keys beside a full CSV export, and the memory of a worker."""
    rows = options.many_rows
    tell(f"writing {rows:,} rows")
    with ledger.service_with(rows) as longshore:
        worker = longshore.start("worker")
        keys, size = asyncio.run(_merged(longshore.url))
        keys_rounds, full_rounds = [], []
        for number in range(1, min(options.rounds, ROUNDS) + 1):
            keys, size = asyncio.run(_merged(longshore.url))
            keys_rounds.append(keys)
            full_rounds.append(ledger.export(longshore, rows))
            tell(
                f"round {number}: keys {keys:.2f} s, full export {full_rounds[-1]:.2f} s, {size / rows:.2f} bytes a key"
            )
        worker.terminate()
        worker.wait()
        large, small = _peak(longshore, CHAIN), _peak(longshore, SMALLER_CHAINS[0])
        tell(f"peak of a worker: {large:.1f} MB, with a tenth of the rows {small:.1f} MB")
    ours, peer = statistics.median(keys_rounds), statistics.median(full_rounds)
    return [
        Case(
            name=f"{rows:,} keys read and merged",
            peer_name="full CSV export of the rows",
            unit="s",
            chosen=f"median of {len(keys_rounds)}",
            ours=ours,
            peer=peer,
            ratio=ours / peer,
            target=f"at most {MOST_OF_EXPORT}",
            met=ours / peer <= MOST_OF_EXPORT,
            ours_rounds=keys_rounds,
            peer_rounds=full_rounds,
            notes={"bytes a key": size / rows},
        ),
        Case(
            name=f"peak memory of a worker, {rows:,} keys",
            peer_name="itself, a tenth of the keys",
            unit="MB",
            chosen="one",
            ours=large,
            peer=small,
            ratio=large / small,
            target=f"within {MOST_GROWTH:.0f} MB",
            met=abs(large - small) <= MOST_GROWTH,
            ours_rounds=[large],
            peer_rounds=[small],
        ),
    ]


async def _merged(url: str) -> tuple[float, int]:
    """Read all keys into a list and compare it with an equal one. Return the seconds, and the bytes of the list."""
    index = catalog.load()["wallet-ledger"]
    request = ExportRequest(ChainId(CHAIN), TARGET, None, Interval(None, datetime.now(UTC)))
    async with (
        open_pool(url, size=1, name="bench", **EXPORT_SESSION) as pool,
        SourceConnections(pool, 0).snapshot() as (connection, _),
    ):
        query = await prepare(connection, index, request)
        assert query.changes is not None
        began = time.perf_counter()
        file: Any = io.BytesIO()
        written = KeyListWriter(file, "id", integers=query.changes.key.is_integer)
        await change_writer.read_keys(connection, query.changes, written, None)
        equal = await asyncio.to_thread(lambda: list(differences(io.BytesIO(file.getvalue()), file)))
        assert not equal
        return time.perf_counter() - began, file.tell()


def _peak(longshore: Longshore, chain: int) -> float:
    """Return the largest resident set, in MB, of a worker that ran a task with deletes twice."""
    body: Any = export_body(chain=chain)
    body["target"] |= {"incremental": True, "deletes": True}
    worker = longshore.start("worker")
    with longshore.client(chain=chain) as client:
        task = client.post("/tasks", json=body).json()["id"]
        assert ended(client, task, ledger.MAX_EXPORT_SECONDS, every=0.25)["state"]["code"] == "DONE"
        assert client.post(f"/tasks/{task}/execute", timeout=ledger.MAX_EXPORT_SECONDS).json()["code"] == "DONE"
        assert client.delete(f"/tasks/{task}").status_code == 204
    megabytes = ledger.peak_of(worker.pid)
    worker.terminate()
    worker.wait()
    return megabytes
