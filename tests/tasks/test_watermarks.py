"""When the watermark of a task moves, and acknowledgements that are refused: the answer names the reason."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from longshore.database.connect import Pool
from longshore.errors import ProblemError
from longshore.tasks import attempts, deliveries, delivery_ends, run_ends, watermarks
from longshore.tasks.attempts import RunResult
from longshore.tasks.model import ChainId, NewDelivery, TaskId
from longshore.tasks.queue import DeliveryMessage, Message
from longshore.tasks.watermarks import Increment

CHAIN = ChainId(501)
TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, watermark, run)
values ($1, '', 'export', '{}', $2, '', 'DONE', '2', 1) returning id
"""
RUN = """
insert into longshore.runs (task_id, run, state, first_attempt, attempt, began_at, attempt_began_at, progress_at,
                            watermark_from, watermark_to, acknowledged)
values ($1, 1, 'DONE', 1, 1, now(), now(), now(), '1', $2, $3)
"""


async def refusal(pool: Pool, incremental: object, end: str | None, *, acknowledged: bool | None, full: bool) -> str:
    task = TaskId(await pool.fetchval(TASK, CHAIN, json.dumps({"incremental": incremental})))
    await pool.execute(RUN, task, end, acknowledged)
    if full:
        async with pool.acquire() as connection:
            await watermarks.reset(connection, CHAIN, task, "user 7")
    with pytest.raises(ProblemError) as refused:
        await watermarks.acknowledge(pool, CHAIN, task, 1)
    assert refused.value.kind == "nothing-to-acknowledge"
    return refused.value.detail or ""


def test_refused_acknowledgement_names_the_true_reason(run: Any) -> None:
    async def test(pool: Pool) -> None:
        reset = await refusal(pool, "on_ack", "3", acknowledged=False, full=True)
        assert "a full run was requested after it" in reset
        moved = await refusal(pool, "on_ack", "3", acknowledged=False, full=False)
        assert moved == "Run 1 waits no more: another run has moved the watermark."
        never = await refusal(pool, True, "3", acknowledged=None, full=False)
        assert "the target has no `incremental: on_ack`" in never
        whole = await refusal(pool, "on_ack", None, acknowledged=None, full=False)
        assert whole == "Run 1 is no increment: it ran before the target had `incremental`."

    run(test)


UNDELIVERED = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, run, attempt)
values ($1, '', 'export', '{}', '{}', '', 'ERROR', 1, 3) returning id
"""
UNDELIVERED_RUN = """
insert into longshore.runs (task_id, run, state, first_attempt, attempt, began_at, attempt_began_at, progress_at,
                            result, watermark_to, acknowledged)
values ($1, 1, 'ERROR', 1, 1, now(), now(), now(), 'a.csv', '1', $2)
"""
AGAIN = """
insert into longshore.run_deliveries (task_id, run, number, round, chain_id, destination, place, entry)
values ($1, 1, 1, 1, $2, 'bucket', 'a/{name}', '{}')
"""


async def undelivered(pool: Pool, *, acknowledged: bool | None = None) -> TaskId:
    """A task whose first run, from the beginning to the watermark 1, was not delivered; its next run is queued."""
    task = TaskId(await pool.fetchval(UNDELIVERED, CHAIN))
    await pool.execute(UNDELIVERED_RUN, task, acknowledged)
    return task


async def begin_delivery(pool: Pool, task: TaskId, run: int = 1) -> DeliveryMessage:
    async with pool.acquire() as connection, connection.transaction():
        await deliveries.send_due_deliveries(connection, CHAIN)
    message = DeliveryMessage(task, run, 1, 1)
    assert await deliveries.begin(pool, message, uuid4()) is not None
    return message


async def deliver_again(pool: Pool, task: TaskId) -> DeliveryMessage:
    await pool.execute(AGAIN, task, CHAIN)
    return await begin_delivery(pool, task)


async def finish_export(pool: Pool, task: TaskId, attempt: int, end: str, *, on_ack: bool = False) -> None:
    """End the export of the next run, which began at the beginning; it is to be delivered."""
    result = RunResult(
        result="a.csv", location=f"{CHAIN}/{task}/{attempt}/a.csv", total=0, success=0, size=0, sha256=b"",
        snapshot_at=None, manifest=None, increment=Increment(None, end, on_ack),
        deliveries=[NewDelivery("warehouse", "b/{name}", "{}")],
    )  # fmt: skip
    await run_ends.finish(pool, Message(task, attempt), result, timedelta(days=1))


async def watermark(pool: Pool, task: TaskId) -> str | None:
    found: str | None = await pool.fetchval("select watermark from longshore.tasks where id = $1", task)
    return found


@pytest.mark.parametrize("acknowledged", [None, False])
@pytest.mark.parametrize("under_way", [False, True])
def test_run_delivered_after_all_rows_were_requested_leaves_the_watermark_removed(
    run: Any, acknowledged: bool | None, under_way: bool
) -> None:
    async def test(pool: Pool) -> None:
        task = await undelivered(pool, acknowledged=acknowledged)
        message = await deliver_again(pool, task) if under_way else None
        async with pool.acquire() as connection:
            await watermarks.reset(connection, CHAIN, task, "user 7")
        message = message or await deliver_again(pool, task)
        await delivery_ends.finish(pool, message, "s3://x/y", "{}")
        assert await pool.fetchval("select state from longshore.runs where task_id = $1", task) == "DONE"
        assert await watermark(pool, task) is None, "the full run would begin there"
        assert await attempts.begin(pool, Message(task, 3)) is not None
        await finish_export(pool, task, 3, "2")
        await delivery_ends.finish(pool, await begin_delivery(pool, task, 2), "s3://x/y", "{}")
        assert await watermark(pool, task) == "2"

    run(test)


@pytest.mark.parametrize("older_first", [True, False])
def test_watermark_moves_to_the_end_of_the_newer_of_two_runs_from_one_start(run: Any, older_first: bool) -> None:
    async def test(pool: Pool) -> None:
        task = await undelivered(pool)
        assert await attempts.begin(pool, Message(task, 3)) is not None
        older = await deliver_again(pool, task)
        if older_first:
            await delivery_ends.finish(pool, older, "s3://x/y", "{}")
            assert await watermark(pool, task) is None
        await finish_export(pool, task, 3, "2")
        await delivery_ends.finish(pool, await begin_delivery(pool, task, 2), "s3://x/y", "{}")
        if not older_first:
            assert await watermark(pool, task) == "2"
            await delivery_ends.finish(pool, older, "s3://x/y", "{}")
        assert await watermark(pool, task) == "2", "its rows come once"

    run(test)


def test_run_with_another_increment_than_the_one_acknowledged_meanwhile_is_not_acknowledged(run: Any) -> None:
    async def test(pool: Pool) -> None:
        task = await undelivered(pool, acknowledged=False)
        assert await attempts.begin(pool, Message(task, 3)) is not None
        await delivery_ends.finish(pool, await deliver_again(pool, task), "s3://x/y", "{}")
        assert await watermark(pool, task) == "1", "as if the client had acknowledged it"
        await finish_export(pool, task, 3, "2", on_ack=True)
        query = "select acknowledged from longshore.runs where task_id = $1 and run = 2"
        assert await pool.fetchval(query, task) is False

    run(test)
