"""A task that has run for years: the cleanup of its files does not take longer the more runs it had."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from longshore.database.connect import Pool
from longshore.results.local import LocalStore
from longshore.results.store import AttemptFiles
from longshore.tasks.model import ChainId, TaskId
from longshore.worker.cleanup import Cleanup

CHAIN = ChainId(501)
RUNS, STORED, ABANDONED = 100_000, 20, 500
MAX_STALL_SECONDS = 0.5  # of the event loop, on a machine that others use too
TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, attempt, run,
                             attempt_began_at)
values ($1, '', 'wait', '{}', '{}', '', 'DONE', $2, $2, now()) returning id
"""
FILL = """
insert into longshore.runs (task_id, run, state, first_attempt, attempt, began_at, attempt_began_at, progress_at,
                            location, expires_at)
select $1, n, 'DONE', n, n, now(), now(), now(), $2::text || n || '/a.csv',
       case when n > $3::int - $4::int then now() + interval '1 day' end
from generate_series(1, $3::int) n
"""


async def longest_stall() -> float:
    """Return the longest time in which the event loop did nothing else, until cancelled."""
    longest, last = 0.0, time.monotonic()
    try:
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        return longest


def test_cleanup_of_a_task_of_a_hundred_thousand_runs_does_not_block_the_event_loop(run: Any, tmp_path: Path) -> None:
    async def test(pool: Pool) -> None:
        task = TaskId(await pool.fetchval(TASK, CHAIN, RUNS))
        await pool.execute(FILL, task, f"{CHAIN}/{task}/", RUNS, STORED)
        stored = [f"{CHAIN}/{task}/{n}/a.csv" for n in range(RUNS - STORED + 1, RUNS + 1)]
        left = [f"{AttemptFiles(CHAIN, task, RUNS + n).prefix}a.csv" for n in range(1, ABANDONED + 1)]
        for location in (*stored, *left):
            path = tmp_path / location
            path.parent.mkdir(parents=True)
            path.write_text("x")
            for old in (path, path.parent):
                os.utime(old, (1, 1))
        watch = asyncio.create_task(longest_stall())
        await Cleanup(pool, LocalStore(tmp_path), timedelta(days=365)).run(None)  # type: ignore[arg-type]
        watch.cancel()
        assert await watch < MAX_STALL_SECONDS
        kept = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]  # noqa: ASYNC240
        assert sorted(kept) == sorted(stored)

    run(test)
