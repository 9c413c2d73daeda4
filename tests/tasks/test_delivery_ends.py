"""Deliveries in the database: for how long one is tried, and what a task says whose deliveries failed."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from pgqueuer import Job

from longshore.client.errors import TaskFailedError
from longshore.client.model import LogEntry, State, TaskData
from longshore.database.connect import Pool
from longshore.destinations.kind import DestinationUnavailableError, File, OpenDestination
from longshore.exports.manifest import Manifest
from longshore.results.local import LocalStore
from longshore.tasks import cancellation, deliveries, delivery_ends
from longshore.tasks.model import ChainId, Interval, TaskId
from longshore.tasks.queue import DeliveryMessage
from longshore.worker.delivery_runner import DeliveryRunner, Open
from longshore.worker.running_attempts import RunningAttempts
from tests.destinations.folder import FAULTS, Faults, FilesFolder
from tests.service import Longshore

CHAIN = ChainId(501)
TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, attempt, attempt_began_at,
                             run, delivering)
values ($1, '', 'export', '{}', '{}', '', 'INPROGRESS', 2, now(), 1, true) returning id
"""
RUN = """
insert into longshore.runs (task_id, run, first_attempt, attempt, began_at, attempt_began_at, progress_at, result,
                            location, sha256, manifest)
values ($1, 1, 1, 1, now(), now(), now(), 'a.csv', $2, '\\x00', $3)
"""
DELIVERY = """
insert into longshore.run_deliveries (task_id, run, number, chain_id, destination, place, entry)
values ($1, 1, $2, $3, $4, '{name}', json_build_object('destination', $4::text))
"""
PAUSED = """
with task as (update longshore.tasks set log_length = log_length + 1 where id = $1 returning id, log_length)
insert into longshore.task_logs (task_id, seq, at, msg) select id, log_length - 1, now(), 'paused by user 7' from task
"""
NOW = datetime.now(UTC)
MANIFEST = Manifest(
    file="a.csv", size=3, sha256="00" * 32, rows=1, chain=CHAIN, task=1, run=1, due=None, interval=Interval(None, NOW),
    index="ledger", format="csv", fields=(), schema="", segment=None, snapshot=NOW, previous=None,
).encoded().decode()  # fmt: skip


async def sent(pool: Pool, *names: str, chain: ChainId = CHAIN) -> list[DeliveryMessage]:
    """The messages of the first attempts of a run's deliveries to destinations."""
    task = await pool.fetchval(TASK, chain)
    await pool.execute(RUN, task, f"{chain}/{task}/1/a.csv", MANIFEST)
    for number, name in enumerate(names, 1):
        await pool.execute(DELIVERY, task, number, chain, name)
    async with pool.acquire() as connection, connection.transaction():
        await deliveries.send_due_deliveries(connection, chain)
    return [DeliveryMessage(TaskId(task), 1, number, 1) for number in range(1, len(names) + 1)]


async def attempt(pool: Pool, open_destination: Open, folder: Path, message: DeliveryMessage) -> None:
    """Make an attempt of a delivery as a worker does; its store is the folder."""
    runner = DeliveryRunner(RunningAttempts(pool, 1.0), pool, open_destination, LocalStore(folder))
    await runner.handle(Job.model_construct(payload=msgspec.json.encode(message)))


async def cancel(pool: Pool, message: DeliveryMessage) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(deliveries.LOCK_TASK, message.task)
        await cancellation.cancel(connection, CHAIN, message.task, "token x")


async def begin(pool: Pool, message: DeliveryMessage) -> deliveries.DeliveryAttempt:
    begun = await deliveries.begin(pool, message, uuid4())
    assert begun is not None
    return begun


def test_delivery_is_tried_for_six_hours_however_long_it_has_waited_for_its_turn(run: Any) -> None:
    async def test(pool: Pool) -> None:
        (first,) = await sent(pool, "warehouse")
        await pool.execute("update longshore.run_deliveries set created_at = now() - interval '7 hours'")
        assert (await begin(pool, first)).seconds_left == 6 * 3600
        assert await delivery_ends.retry_or_fail_lost(pool, first)
        await pool.execute(
            "update longshore.run_deliveries set due_at = now(), first_began_at = now() - interval '5 hours'"
        )
        await deliveries.send_all_due_deliveries(pool)
        second = msgspec.structs.replace(first, attempt=2)
        assert 3590 < (await begin(pool, second)).seconds_left <= 3600, "the time runs from the first attempt on"
        await pool.execute("update longshore.run_deliveries set first_began_at = now() - interval '6 hours'")
        assert await delivery_ends.retry_or_fail_lost(pool, second)
        assert await pool.fetchval("select state from longshore.run_deliveries") == "failed"

    run(test)


def test_reason_of_a_failed_task_is_never_a_delivery_that_succeeded(idle_service: Longshore, run: Any) -> None:
    async def test(pool: Pool) -> None:
        hook = await idle_service.webhook(pool, CHAIN, "https://127.0.0.1:9/")
        await pool.execute("update longshore.webhooks set events = '{task.error}' where id = $1", hook)
        bad, good = await sent(pool, "bad", "good")
        await begin(pool, bad)
        await delivery_ends.fail(pool, bad, "no right")
        await pool.execute(PAUSED, bad.task)
        await begin(pool, good)
        await deliveries.retry(pool, good, "it is away", 0.0)
        again = msgspec.structs.replace(good, attempt=2)
        await begin(pool, again)
        await delivery_ends.finish(pool, again, "s3://x/y", "{}")
        rows = await pool.fetch("select msg from longshore.task_logs where task_id = $1 order by seq", bad.task)
        log = [row["msg"] for row in rows]
        assert log[-2:] == ["delivered to good: s3://x/y", "INPROGRESS -> ERROR"]
        for statement in ("tasks where id = $1", "runs where task_id = $1"):
            reason = await pool.fetchval(f"select reason from longshore.{statement}", bad.task)
            assert reason == "delivery to bad failed: no right", statement
        query = "select payload from longshore.webhook_deliveries where webhook_id = $1 and event = 'task.error'"
        assert json.loads(await pool.fetchval(query, hook))["data"]["reason"] == "delivery to bad failed: no right"
        entries = [LogEntry(msg=msg) for msg in log]
        task = TaskData(bad.task, CHAIN, "", State("ERROR", None, NOW, NOW), {}, {}, entries)
        assert str(TaskFailedError(task)).endswith("is ERROR: delivery to bad failed: no right")

    try:
        run(test)
    finally:
        idle_service.sql("delete from longshore.webhooks where chain_id = 501")


def test_cancel_between_the_claim_of_a_delivery_and_its_first_step_stops_it(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FAULTS).write_bytes(msgspec.json.encode(Faults(hangs=True)))
    opened = []

    @contextlib.asynccontextmanager
    async def place(_chain: ChainId, name: str) -> AsyncIterator[OpenDestination]:
        opened.append(name)
        folder = FilesFolder(tmp_path)
        if len(opened) == 1:
            await folder.step()
        yield folder

    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "slow")
        claim = deliveries.begin

        async def begin_and_cancel(*args: Any) -> Any:
            begun = await claim(*args)
            await cancel(pool, message)
            return begun

        monkeypatch.setattr(deliveries, "begin", begin_and_cancel)
        async with asyncio.timeout(10):
            await attempt(pool, place, tmp_path, message)
        assert opened == ["slow", "slow"], "it was stopped, and what it had written is removed"
        assert await pool.fetchval("select state from longshore.run_deliveries") == "cancelled"

    run(test)


def test_delivery_under_way_at_the_end_of_its_time_says_that_it_took_too_long(run: Any, tmp_path: Path) -> None:
    opened: list[str] = []

    @contextlib.asynccontextmanager
    async def place(_chain: ChainId, name: str) -> AsyncIterator[OpenDestination]:
        opened.append(name)
        if len(opened) == 1:
            await asyncio.sleep(60)
        yield FilesFolder(tmp_path)

    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "slow")
        await pool.execute("update longshore.run_deliveries set first_began_at = now() - interval '21599.5 seconds'")
        async with asyncio.timeout(10):
            await attempt(pool, place, tmp_path, message)
        ended = await pool.fetchrow("select state, error from longshore.run_deliveries")
        assert ended is not None
        assert tuple(ended) == ("failed", "the delivery has taken too long")

    run(test)


class PanicException(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), PanicException("x")], ids=repr)
def test_kind_that_exits_interrupts_itself_or_panics_ends_its_delivery_and_not_the_worker(
    run: Any, tmp_path: Path, error: BaseException
) -> None:
    @contextlib.asynccontextmanager
    async def place(_chain: ChainId, _name: str) -> AsyncIterator[OpenDestination]:
        await asyncio.sleep(0)
        raise error
        yield FilesFolder(tmp_path)

    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "exits")
        await attempt(pool, place, tmp_path, message)
        ended = await pool.fetchrow("select state, error from longshore.run_deliveries")
        assert ended is not None
        assert (ended["state"], ended["error"].partition(":")[0]) == ("failed", type(error).__name__)

    run(test)


def test_delivery_whose_evidence_cannot_be_stored_fails_and_says_so(run: Any, tmp_path: Path) -> None:
    class PathFolder(FilesFolder):
        def address(self, path: str) -> Any:
            return tmp_path / path

        async def write(self, path: str, file: File, write_id: str, *, overwrite: bool) -> Any:
            del path, write_id, overwrite
            return file.sha256

    @contextlib.asynccontextmanager
    async def place(_chain: ChainId, _name: str) -> AsyncIterator[Any]:
        yield PathFolder(tmp_path)

    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "paths")
        await attempt(pool, place, tmp_path, message)
        ended = await pool.fetchrow("select state, error from longshore.run_deliveries")
        assert ended is not None
        assert ended["state"] == "failed"
        assert ended["error"].startswith("the evidence of the delivery cannot be stored: ")
        assert "expected str, got " in ended["error"]

    run(test)


def test_cancel_in_the_pause_between_two_attempts_removes_what_the_first_one_left(run: Any, tmp_path: Path) -> None:
    opened: list[str] = []

    @contextlib.asynccontextmanager
    async def place(_chain: ChainId, name: str) -> AsyncIterator[OpenDestination]:
        opened.append(name)
        if opened == ["away"]:
            raise DestinationUnavailableError("it is away")
        yield FilesFolder(tmp_path)

    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "away")
        left = [tmp_path / f".a.csv.{message.task}-1-1-{lost}.part" for lost in (0, 1)]
        await begin(pool, message)
        await deliveries.retry(pool, message, "the worker was lost", 600.0, is_lost=True)
        for path in left:
            path.touch()
        assert await deliveries.begin_discard(pool) is None, "it is tried again, and may go on with them"
        await cancel(pool, message)
        runner = DeliveryRunner(RunningAttempts(pool, 1.0), pool, place, LocalStore(tmp_path))
        discarding = asyncio.create_task(runner.run_discards())
        try:
            async with asyncio.timeout(10):
                while not opened:  # noqa: ASYNC110  # another's
                    await asyncio.sleep(0.01)
            pause = "select extract(epoch from discard_at - now())::float8 from longshore.run_deliveries"
            assert 50 < await pool.fetchval(pause) <= 60
            assert all(path.exists() for path in left)
        finally:
            discarding.cancel()
            await asyncio.wait({discarding})
        await pool.execute("update longshore.run_deliveries set discard_at = now()")
        discarding = asyncio.create_task(runner.run_discards())
        try:
            async with asyncio.timeout(10):
                while await pool.fetchval(pause) is not None:  # noqa: ASYNC110  # another's
                    await asyncio.sleep(0.01)
        finally:
            discarding.cancel()
            await asyncio.wait({discarding})
        assert not any(path.exists() for path in left)
        assert opened == ["away", "away"]

    run(test)


def test_temporary_files_of_an_ended_delivery_are_no_longer_looked_for_after_six_hours(run: Any) -> None:
    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "away")
        await begin(pool, message)
        await cancel(pool, message)
        assert await deliveries.begin_discard(pool) is None, "the worker that has it under way removes it"
        due = "update longshore.run_deliveries set discard_at = now(), ended_at = now() - $1::int * interval '1 minute'"
        for minutes, pause in ((2, 120), (170, 170 * 60), (181, None)):
            await pool.execute(due, minutes)
            found = await deliveries.begin_discard(pool)
            assert found is not None
            assert found.message == message
            left = "select extract(epoch from discard_at - now())::float8 from longshore.run_deliveries"
            assert await pool.fetchval(left) == (None if pause is None else pytest.approx(pause, abs=5))
        await deliveries.discarded(pool, message)

    run(test)


def test_discard_waits_for_a_later_delivery_to_the_same_place(run: Any) -> None:
    async def test(pool: Pool) -> None:
        (message,) = await sent(pool, "away")
        delivery = await begin(pool, message)
        await cancel(pool, message)
        await pool.execute("update longshore.run_deliveries set ended_at = now() - interval '2 minutes'")
        await pool.execute(DELIVERY, message.task, 2, CHAIN, "away")
        assert await deliveries.begin_discard(pool) is None
        assert await deliveries.postpone_discard(pool, delivery)
        await pool.execute("delete from longshore.run_deliveries where number = 2")
        assert not await deliveries.postpone_discard(pool, delivery)
        assert await deliveries.begin_discard(pool) is None, "it is tried in a minute, whatever time has passed"
        await pool.execute("update longshore.run_deliveries set discard_at = now()")
        found = await deliveries.begin_discard(pool)
        assert found is not None
        assert found.message == message

    run(test)
