"""The fair pool: requests of one chain that wait for a lock leave connections to the requests of other chains."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from longshore.api.service import POOL_LIMITS, POOL_SIZE
from longshore.database.connect import Pool, connected, open_fair_pool
from longshore.database.fair_pool import use_connections_of
from longshore.errors import OverloadError
from longshore.fair_queue import QueueLimits
from tests.service import Longshore, export_body

LIMITS = QueueLimits(running=3, running_of_key=2, waiting=4, waiting_of_key=3, seconds=10.0)
BUSY = 8811
WAITING = f"""
select count(*) >= {POOL_LIMITS.running_of_key} from pg_stat_activity
where wait_event_type = 'Lock' and query like '%insert into longshore.tasks%'
"""
LOCK = "select pg_advisory_lock(1), pg_advisory_unlock(1)"


async def ask(pool: Pool, chain: int | None, statement: str = "select 1") -> None:
    use_connections_of(chain)  # of this task alone, as each has a context of its own
    await pool.fetch(statement)


def test_chain_whose_statements_wait_for_a_lock_leaves_connections_to_other_chains(idle_service: Longshore) -> None:
    async def run() -> None:
        async with open_fair_pool(idle_service.url, LIMITS, size=4, name="test") as pool, pool.acquire() as holder:
            await holder.execute("select pg_advisory_lock(1)")
            waiting = [asyncio.create_task(ask(pool, 1, LOCK)) for _ in range(6)]
            async with asyncio.timeout(10):
                refused, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.create_task(ask(pool, 2))
                await asyncio.create_task(ask(pool, None))
            with pytest.raises(OverloadError, match="Too many requests of this chain wait already"):
                await refused.pop()
            assert sum(not task.done() for task in waiting) == LIMITS.running_of_key + LIMITS.waiting_of_key
            await holder.execute("select pg_advisory_unlock(1)")
            async with asyncio.timeout(10):
                await asyncio.gather(*(task for task in waiting if not task.done()))

    asyncio.run(run())


def test_request_that_holds_a_connection_gets_a_second_one_without_waiting_for_its_own_share(
    idle_service: Longshore,
) -> None:
    async def nested(pool: Pool, all_hold: asyncio.Barrier) -> None:
        use_connections_of(1)
        async with pool.acquire() as connection:
            await all_hold.wait()
            await pool.fetch("select 1")
            await connection.fetch("select 1")

    async def run() -> None:
        async with open_fair_pool(idle_service.url, LIMITS, size=4, name="test") as pool, asyncio.timeout(10):
            all_hold = asyncio.Barrier(LIMITS.running_of_key)
            await asyncio.gather(*(nested(pool, all_hold) for _ in range(LIMITS.running_of_key)))

    asyncio.run(run())


def test_tasks_of_a_chain_that_wait_for_each_other_do_not_keep_another_chain_from_its_list(
    idle_service: Longshore,
) -> None:
    async def run(busy: httpx2.Client, other: httpx2.Client) -> None:
        assert busy.post("/tasks", json=export_body(chain=BUSY)).status_code == 201
        async with connected(idle_service.url, "test") as connection, connected(idle_service.url, "test") as watcher:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("select from longshore.chain_usage where chain_id = $1 for update", BUSY)
            with ThreadPoolExecutor(POOL_SIZE + 1) as threads:
                made = [threads.submit(busy.post, "/tasks", json=export_body(chain=BUSY)) for _ in range(POOL_SIZE + 1)]
                try:
                    while not await watcher.fetchval(WAITING):  # noqa: ASYNC110  # in other sessions
                        await asyncio.sleep(0.02)
                    assert other.get("/tasks", timeout=5).status_code == 200
                finally:
                    await transaction.rollback()
                assert {answer.result().status_code for answer in made} == {201}

    with idle_service.client(chain=BUSY) as busy, idle_service.client(chain=BUSY + 1) as other:
        asyncio.run(run(busy, other))
    idle_service.sql("delete from longshore.tasks where chain_id = $1", BUSY)
