"""A source on a server of its own: an outage of the service's database does not end a copy."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg

from longshore.database.connect import Pool, open_pool
from longshore.exports import catalog
from longshore.exports.exporter import Exporter
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections, SourceDatabases
from longshore.results.local import LocalStore
from longshore.tasks import attempts, run_ends
from longshore.tasks.attempts import Attempt, RunResult, StaleAttemptError
from longshore.tasks.model import TaskId
from longshore.tasks.queue import Message
from tests.faults.test_lost_database import without_database
from tests.service import CHAIN, Longshore

INSERT_TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug)
values (1764, '', 'export', '{}',
        '{"action": "export", "export_index": "products", "export_format": "csv"}', '')
returning id
"""

WAITS = "select 1 from pg_stat_activity where application_name = 'the source' and wait_event_type = 'Lock'"


async def begun(pool: Pool) -> Attempt:
    task = TaskId(await pool.fetchval(INSERT_TASK))
    found = await attempts.begin(pool, Message(task, 1))
    assert found is not None
    return found


@asynccontextmanager
async def held(state: Pool, source: str, folder: Path, attempt: Attempt) -> AsyncIterator[asyncio.Task[RunResult]]:
    """Run an export that no longer needs the service's database, and waits for its table until this block ends."""
    lock = await asyncpg.connect(source)
    async with open_pool(source, size=2, name="the source", **EXPORT_SESSION) as readers:
        exporter = Exporter(state, SourceDatabases(SourceConnections(readers, 0)), catalog.load(), LocalStore(folder))
        async with lock.transaction():
            await lock.execute("lock table loyalty.products in access exclusive mode")
            running = asyncio.create_task(exporter.run(attempt))
            while not await lock.fetchval(WAITS):
                assert not running.done(), running
                # Within a transaction PostgreSQL lists the sessions of its first look, and that of the source is newer.
                await lock.execute("select pg_stat_clear_snapshot()")
                await asyncio.sleep(0.02)
            yield running
        await lock.close()
        await asyncio.wait({running})


def test_a_copy_goes_on_during_an_outage_of_the_services_database_and_ends_when_it_is_outdated(
    service: Longshore, new_service: Callable[..., Longshore], tmp_path: Path
) -> None:
    state = new_service()
    rows = service.sql("select count(*) from loyalty.products where chain_id = 1764")[0][0]

    async def steps() -> None:
        async with open_pool(state.url, size=3, name="test") as pool:
            attempt = await begun(pool)
            async with AsyncExitStack() as away, held(pool, service.url, tmp_path / "results", attempt) as running:
                away.enter_context(without_database(state, signal.SIGQUIT))
            assert running.result().success == rows
            await run_ends.finish(pool, attempt.message, running.result(), timedelta(days=7))

            attempt = await begun(pool)
            async with held(pool, service.url, tmp_path / "results", attempt) as running:
                await attempts.retry(pool, attempt.message, "thought lost", 0, counts_as_failure=True)
            assert isinstance(running.exception(), StaleAttemptError)
            assert not (tmp_path / "results" / str(CHAIN) / str(attempt.message.task) / "1").exists()

    asyncio.run(steps())
