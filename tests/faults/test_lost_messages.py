"""A message that is lost is sent again, and an attempt without one is not forgotten (promises 1 and 7)."""

import asyncio

import asyncpg
import httpx2

from longshore.database.pinned_settings import PINNED_SETTINGS
from longshore.tasks import requests
from tests.faults.attempts import new_task
from tests.faults.conftest import Create
from tests.faults.held import ROWS, TAKEN_OVER, UNDISTURBED, Hold, assert_whole, messages
from tests.service import Longshore, ended

LOSE = "delete from longshore.pgqueuer where dedupe_key like $1 || ':%' returning id"


def test_a_waiting_task_whose_message_is_lost_runs_as_soon_as_a_worker_starts(
    service: Longshore, client: httpx2.Client, create: Create
) -> None:
    task = create()
    assert len(service.sql(LOSE, str(task))) == 1
    worker = service.start("worker")
    found = ended(client, task)
    assert messages(found) == UNDISTURBED
    assert_whole(service, client, found)
    worker.terminate()
    assert worker.wait(20) == 0


def test_a_waiting_task_whose_message_is_lost_is_found_by_a_worker_that_runs(
    service: Longshore, client: httpx2.Client, create: Create
) -> None:
    async def create_without_message() -> int:
        connection = await asyncpg.connect(service.url, server_settings=PINNED_SETTINGS)
        try:
            async with connection.transaction():
                task = await requests.create(connection, new_task())
                assert await connection.fetchval(LOSE, str(task)) is not None
        finally:
            await connection.close()
        return task

    worker = service.start("worker")
    ended(client, create())  # the worker has had its first look around
    task = asyncio.run(create_without_message())
    found = ended(client, task)
    assert messages(found) == UNDISTURBED
    assert_whole(service, client, found)
    worker.terminate()
    assert worker.wait(20) == 0


def test_running_task_without_worker_and_message_is_taken_over(
    service: Longshore, client: httpx2.Client, create: Create
) -> None:
    killed = service.start("worker")
    with Hold.row(service, ROWS // 2) as hold:
        task = create()
        hold.reached()
        killed.kill()
        killed.wait()
    assert len(service.sql(LOSE, str(task))) == 1
    worker = service.start("worker")
    found = ended(client, task)
    assert messages(found) == TAKEN_OVER
    assert_whole(service, client, found)
    worker.terminate()
    assert worker.wait(20) == 0
