"""A running task that is cancelled stops at once, wherever its export stands, and leaves nothing behind."""

import asyncio
import contextlib
from datetime import timedelta

import httpx2
import pytest

from longshore.database.connect import Pool
from longshore.tasks import attempts
from longshore.tasks.queue import ShardMessage, send
from longshore.worker.runner import Runner
from longshore.worker.running_attempts import RunningAttempts
from tests.faults.attempts import created, taken, with_pool
from tests.faults.conftest import Create
from tests.faults.held import ROWS, Hold, files_of, messages
from tests.service import Longshore, ended
from tests.waiting import until

BUSY = "select pid from pg_stat_activity where application_name = 'longshore export' and state <> 'idle'"


@pytest.mark.parametrize("row", [1, ROWS // 2, ROWS])
def test_a_running_export_that_is_cancelled_stops_and_its_query_too(
    service: Longshore, client: httpx2.Client, create: Create, row: int
) -> None:
    worker = service.start("worker")
    with Hold.row(service, row) as hold:
        task = create()
        hold.reached()
        cancelled = client.post(f"/tasks/{task}/cancel")
        assert cancelled.status_code == 200, cancelled.text
        assert cancelled.json()["state"]["code"] == "ERROR"
        until(lambda: not service.sql(BUSY), "the query to end")
        until(lambda: not files_of(service, task), "the partial file to go")
    first, expected_message, last = messages(client.get(f"/tasks/{task}").json())
    assert (first, last) == ("READY -> INPROGRESS", "INPROGRESS -> ERROR")
    assert expected_message.startswith("cancelled by token ")
    # The worker goes on with the next one, and the same task can be run again.
    assert client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
    assert ended(client, task)["logs"][-1]["msg"] == "INPROGRESS -> DONE"
    worker.terminate()
    assert worker.wait(20) == 0


def test_attempt_that_begins_during_a_check_for_cancelled_ones_goes_on(by_hand: Longshore) -> None:
    async def run(pool: Pool) -> None:
        message = await created(pool)
        assert await attempts.begin(pool, message)
        shard, begun, goes_on = ShardMessage(message.task, message.attempt, 0), asyncio.Event(), asyncio.Event()
        async with pool.acquire() as connection, connection.transaction():
            await send(connection, [shard])
        job = await taken(pool, shard)

        async def work(_message: ShardMessage) -> None:
            begun.set()
            await goes_on.wait()

        worker = Runner(RunningAttempts(pool, 0), pool, {}, lambda _: timedelta(days=1), work)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(pool.get_max_size()):
                await stack.enter_async_context(pool.acquire())
            worker.running.check_all()
            await asyncio.sleep(0)  # the check has begun, and waits for a connection
            working = asyncio.create_task(worker.handle_shard(job))
            await begun.wait()
        await pool.fetchval("select 1")
        await asyncio.sleep(0.1)
        goes_on.set()
        await working

    with_pool(by_hand, run)
