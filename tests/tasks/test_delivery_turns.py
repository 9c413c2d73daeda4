"""Turns of deliveries on one worker: chains whose destinations hang leave room for others."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from longshore.database.connect import Pool
from longshore.destinations.kind import DestinationError, OpenDestination
from longshore.results.local import LocalStore
from longshore.tasks.model import ChainId
from longshore.tasks.queue import Consumer, DeliveryMessage
from longshore.worker.delivery_runner import CONCURRENCY, DeliveryRunner
from longshore.worker.running_attempts import RunningAttempts
from tests.service import Longshore
from tests.tasks.test_delivery_ends import sent

HANGING = [ChainId(501), ChainId(502), ChainId(503)]
QUICK = ChainId(504)
STATE = "select state from longshore.run_deliveries where task_id = $1"


def test_chains_whose_destinations_hang_delay_no_delivery_of_another_chain(
    idle_service: Longshore, run: Any, tmp_path: Path
) -> None:
    opened: Counter[ChainId] = Counter()

    @contextlib.asynccontextmanager
    async def place(chain: ChainId, _name: str) -> AsyncIterator[OpenDestination]:
        opened[chain] += 1
        if chain in HANGING:
            await asyncio.sleep(60)
        raise DestinationError("it fails at once")
        yield

    async def test(pool: Pool) -> None:
        for chain in HANGING:
            await sent(pool, "a", "b", "c", "d", chain=chain)
        runner = DeliveryRunner(RunningAttempts(pool, 0.1), pool, place, LocalStore(tmp_path))
        heartbeat = timedelta(seconds=30)
        consumer = Consumer(pool, idle_service.url, DeliveryMessage.entrypoint, runner.handle, CONCURRENCY, heartbeat)
        consuming = asyncio.create_task(consumer.run())
        try:
            async with asyncio.timeout(20):
                while not all(opened[chain] for chain in HANGING):  # noqa: ASYNC110  # another's
                    await asyncio.sleep(0.01)
            (message,) = await sent(pool, "quick", chain=QUICK)
            async with asyncio.timeout(20):
                while await pool.fetchval(STATE, message.task) != "failed":  # noqa: ASYNC110  # another's
                    await asyncio.sleep(0.05)
            assert sum(opened[chain] for chain in HANGING) < CONCURRENCY
        finally:
            consumer.stop()
            runner.running.stop()
            await consuming

    try:
        run(test)
    finally:
        idle_service.sql("delete from longshore.tasks where chain_id in (503, 504)")
