"""Scale: what a pick-up, `GET /tasks/{id}` and `GET /tasks` cost with many tasks waiting, beside a few of them.

All tasks wait for a time far away. A pick-up is the time from a task's creation to its run's beginning, both by the
clock of the database.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import httpx2
from tests.service import CHAIN, Longshore, database_in, ended, export_body

from benchmarks.options import Options
from benchmarks.table import Case
from longshore.demo.seed import seed

FEW = 1_000
MOST_RATIO = 2.0
SAMPLES = 40  # of each figure in a round

FILL = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, due_at)
select $1, 'waits', 'export', '{"once":"2126-05-26T12:00:00Z"}',
       '{"action":"export","export_index":"wallet-ledger","export_format":"csv"}', '', '2126-05-26T12:00:00Z'
from generate_series(1, $2::bigint)
"""

PICKED_UP = """
select extract(epoch from r.began_at - t.created_at)::float8 as seconds
from longshore.tasks t
join longshore.runs r on r.task_id = t.id and r.run = 1
where t.id = any($1::bigint[])
"""


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Measure one service with few tasks, then with many."""
    many = options.waiting
    rounds = min(options.rounds, 3)
    figures: list[list[dict[str, float]]] = []
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        data = Path(folder)
        with database_in(data) as url:
            asyncio.run(seed(url, 1_000, lambda _: None))
            longshore = Longshore(data, url, chain_stored_tasks=str(2 * options.waiting))
            try:
                longshore.start("worker")
                longshore.start_api(api_processes="1")
                for missing in (FEW, many - FEW):
                    tell(f"writing {missing:,} tasks that wait")
                    asyncio.run(_fill(url, missing))
                    figures.append([_round(longshore) for _ in range(rounds)])
                    tell(", ".join(f"{name} {value:.2f} ms" for name, value in figures[-1][-1].items()))
            finally:
                longshore.stop()
    few, full = figures
    return [_case(name, many, [f[name] for f in full], [f[name] for f in few]) for name in few[0]]


def _case(name: str, many: int, ours: list[float], peer: list[float]) -> Case:
    ratio = min(ours) / min(peer)
    return Case(
        name=f"{name}, {many:,} tasks waiting",
        peer_name=f"itself, {FEW:,} waiting",
        unit="ms, median",
        chosen=f"best of {len(ours)}",
        ours=min(ours),
        peer=min(peer),
        ratio=ratio,
        target=f"at most {MOST_RATIO:g}",
        met=ratio <= MOST_RATIO,
        ours_rounds=ours,
        peer_rounds=peer,
    )


def _round(longshore: Longshore) -> dict[str, float]:
    """The median of each figure in milliseconds."""
    with longshore.client() as client:
        picked = []
        for _ in range(SAMPLES):
            picked.append(client.post("/tasks", json=export_body()).json()["id"])
            ended(client, picked[-1])
        seconds = [float(row["seconds"]) for row in longshore.sql(PICKED_UP, picked)]
        assert len(seconds) == SAMPLES
        return {
            "pick-up": statistics.median(seconds) * 1e3,
            "GET /tasks/{id}": _get(client, f"/tasks/{picked[0]}"),
            "GET /tasks": _get(client, "/tasks"),
        }


def _get(client: httpx2.Client, path: str) -> float:
    taken = []
    for _ in range(SAMPLES):
        began = time.perf_counter()
        answer = client.get(path)
        taken.append(time.perf_counter() - began)
        assert answer.status_code == 200, answer.text
    return statistics.median(taken) * 1e3


async def _fill(url: str, tasks: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(FILL, CHAIN, tasks, timeout=None)
        await connection.execute("vacuum analyze longshore.tasks")
    finally:
        await connection.close()
