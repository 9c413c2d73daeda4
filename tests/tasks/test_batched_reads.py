"""Polls that share a statement, on the real database: each gets its own answer, whatever happens to the others."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from longshore.database.connect import Connection, Pool, open_pool
from longshore.database.retry import is_transient
from longshore.errors import NotFoundError
from longshore.tasks import requests
from longshore.tasks.batched_reads import BatchedReads
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queries import PolledStatus, PolledTask
from longshore.tasks.requests import NewTask
from longshore.tasks.schedule import Schedule
from tests.service import Longshore

CHAIN, OTHER = ChainId(601), ChainId(602)
NAME = "polls under test"
MISSING = TaskId(2**62)

BACKENDS = "select pid from pg_stat_activity where application_name = $1 and pid <> pg_backend_pid()"
BLOCKED = "select count(*) from pg_locks where not granted and locktype = 'relation' and pid = any($1::int[])"
CHANGE = "update longshore.tasks set revision = revision + 1 where id = $1 returning revision"
LOCK = "lock table longshore.tasks in access exclusive mode"


async def created(pool: Pool, chain: ChainId = CHAIN) -> TaskId:
    async with pool.acquire() as connection, connection.transaction():
        schedule = Schedule(once=datetime(2099, 1, 1, tzinfo=UTC))
        return await requests.create(connection, NewTask(chain, "a test", "export", "{}", "{}", "", schedule))


def with_polls(idle_service: Longshore, test: Callable[[Pool, BatchedReads], Awaitable[None]]) -> None:
    """Run a test with a pool of its own to prepare things, and one of two connections that answers the polls."""

    async def run() -> None:
        async with (
            open_pool(idle_service.url, size=2, name="test") as own,
            open_pool(idle_service.url, size=2, name=NAME) as pool,
        ):
            await pool.execute("select 1")  # a transaction sees no session that begins after its first look at them
            async with asyncio.timeout(100):
                await test(own, BatchedReads(pool))

    asyncio.run(run())


async def blocked(own: Connection, many: int) -> list[int]:
    """The processes of PostgreSQL that answer the polls, once so many of them wait for a lock."""
    while True:
        backends = [row["pid"] for row in await own.fetch(BACKENDS, NAME)]
        if await own.fetchval(BLOCKED, backends) >= many:
            return backends
        await asyncio.sleep(0.01)


def test_polls_for_many_tasks_of_many_chains_at_once_each_get_their_own_answer(idle_service: Longshore) -> None:
    async def test(own: Pool, polls: BatchedReads) -> None:
        ours = [await created(own) for _ in range(20)]
        theirs = [await created(own, OTHER) for _ in range(20)]
        revisions = {}
        for number, task in enumerate(ours + theirs):
            for _ in range(number % 5 + 1):
                revisions[task] = await own.fetchval(CHANGE, task)
        asked = [(chain, task) for task in [*ours, *theirs, MISSING] for chain in (CHAIN, OTHER)] * 3
        answers = await asyncio.gather(*(polls.status(*each) for each in asked), return_exceptions=True)
        for (chain, task), answer in zip(asked, answers, strict=True):
            if task in (ours if chain == CHAIN else theirs):
                assert isinstance(answer, PolledStatus), answer
                assert answer.version.revision == revisions[task]
                assert not isinstance(answer, PolledTask)
            else:
                assert isinstance(answer, NotFoundError), answer

    with_polls(idle_service, test)


def test_answer_is_never_older_than_its_poll(idle_service: Longshore) -> None:
    async def test(own: Pool, polls: BatchedReads) -> None:
        tasks = [await created(own) for _ in range(8)]
        over = asyncio.Event()

        async def poll_on(task: TaskId) -> None:
            while not over.is_set():
                await polls.status(CHAIN, task)

        crowd = [asyncio.create_task(poll_on(task)) for task in tasks * 4]
        for _ in range(50):
            for task in tasks:
                revision = await own.fetchval(CHANGE, task)
                assert (await polls.status(CHAIN, task)).version.revision == revision
        over.set()
        await asyncio.gather(*crowd)

    with_polls(idle_service, test)


def test_cancelled_poll_does_not_disturb_polls_that_share_its_statement(idle_service: Longshore) -> None:
    async def test(own: Pool, polls: BatchedReads) -> None:
        tasks = [await created(own) for _ in range(4)]
        async with own.acquire() as connection, connection.transaction():
            await connection.execute(LOCK)
            asked = [asyncio.create_task(polls.status(CHAIN, task)) for task in tasks * 2]
            await blocked(connection, 1)
            for leaver in asked[::3]:
                leaver.cancel()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, asyncio.CancelledError) for answer in answers[::3]] == [True] * 3
        stayed = [answer for number, answer in enumerate(answers) if number % 3]
        assert [isinstance(answer, PolledStatus) for answer in stayed] == [True] * 5

    with_polls(idle_service, test)


def test_lost_connection_fails_the_polls_of_its_statement_and_no_later_one(idle_service: Longshore) -> None:
    async def test(own: Pool, polls: BatchedReads) -> None:
        tasks = [await created(own) for _ in range(4)]
        async with own.acquire() as connection, connection.transaction():
            await connection.execute(LOCK)
            asked = [asyncio.create_task(polls.status(CHAIN, task)) for task in [*tasks, MISSING]]
            for backend in await blocked(connection, 1):
                await connection.execute("select pg_terminate_backend($1)", backend)
            answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, Exception) and is_transient(answer) for answer in answers), answers
        assert (await polls.status(CHAIN, tasks[0])).version.revision == 1

    with_polls(idle_service, test)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="stops a process of PostgreSQL for a while")
def test_connection_that_hangs_delays_the_polls_of_its_statement_alone(idle_service: Longshore) -> None:
    async def test(own: Pool, polls: BatchedReads) -> None:
        task = await created(own)
        await polls.status(CHAIN, task)
        (backend,) = [row["pid"] for row in await own.fetch(BACKENDS, NAME)]
        os.kill(backend, signal.SIGSTOP)
        try:
            held_up = asyncio.create_task(polls.status(CHAIN, task))
            await asyncio.sleep(0.01)  # the only connection so far is asked
            async with asyncio.timeout(30):
                assert (await polls.status(CHAIN, task)).version.revision == 1
            assert not held_up.done()
        finally:
            os.kill(backend, signal.SIGCONT)
        assert (await held_up).version.revision == 1

    with_polls(idle_service, test)
