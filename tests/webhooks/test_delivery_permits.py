"""Permits: a receiver that does not answer delays its own webhook and no other."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_network

import asyncpg
import pytest

from longshore.database.connect import Pool, open_pool
from longshore.settings import Settings
from longshore.tasks.model import ChainId
from longshore.vault import open_vault
from longshore.webhooks import dispatcher
from longshore.webhooks.delivery_permits import MAX_DELIVERIES_OF_CHAIN, MAX_DELIVERIES_OF_WEBHOOK
from longshore.webhooks.dispatcher import DISABLE, NOT_SENT, Dispatcher, MaySeeData
from longshore.webhooks.stored import enable
from tests.receiver import Receiver, receiving
from tests.service import Longshore

SILENT_CHAINS = 20  # more than there are permits for all of them
DELIVERIES = 40  # of each silent webhook

DUE = """
insert into longshore.webhook_deliveries (webhook_id, task_id, event, revision, payload, due_at)
select $1, 1, 'task.done', 1, '{}', now() - interval '1 minute' from generate_series(1, $2)
"""
LEASED = """
select w.chain_id, w.id, count(*) as count
from longshore.webhook_deliveries d join longshore.webhooks w on w.id = d.webhook_id
where d.attempts > 0 group by 1, 2
"""
FAILED = "select count(distinct webhook_id) from longshore.webhook_deliveries where error is not null"
TRIED = """
select state, attempts_since_redelivery, error, due_at > now() from longshore.webhook_deliveries where webhook_id = $1
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a receiver that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


async def may_see_data(*_: object) -> bool:
    return True


@contextlib.asynccontextmanager
async def dispatching(
    service: Longshore, pool: Pool, may_see_data: MaySeeData = may_see_data
) -> AsyncIterator[Dispatcher]:
    """A dispatcher that runs while the context is open; afterwards the webhooks of chains 4999 to 5999 are gone."""
    dispatching = Dispatcher(pool, service.url, service.vault, lambda _: (ip_network("127.0.0.1"),), may_see_data)
    running = asyncio.create_task(dispatching.run())
    try:
        yield dispatching
    finally:
        running.cancel()
        await asyncio.wait({running})
        await pool.execute("delete from longshore.webhooks where chain_id between 4999 and 5999")


async def deliver(service: Longshore, pool: Pool, chain: int, receiver: Receiver) -> None:
    """Make a webhook of a chain at a receiver, with three due messages, and wait until they are there."""
    await pool.execute(DUE, await service.webhook(pool, chain, receiver.url), 3)
    await pool.execute("select pg_notify('longshore_webhook_deliveries', '')")
    for _ in range(3):
        await asyncio.to_thread(receiver.next)


def test_deliveries_to_silent_receivers_of_many_chains_do_not_delay_another_chains(
    idle_service: Longshore, silent: str
) -> None:
    async def run(receiver: Receiver) -> dict[int, list[int]]:
        async with open_pool(idle_service.url, size=8, name="test") as pool:
            for chain in range(SILENT_CHAINS):
                for _ in range(2):
                    await pool.execute(DUE, await idle_service.webhook(pool, 5000 + chain, silent), DELIVERIES)
            async with dispatching(idle_service, pool):
                async with asyncio.timeout(20):
                    while not (leased := await pool.fetch(LEASED)):  # noqa: ASYNC110  # of another connection
                        await asyncio.sleep(0.05)
                await deliver(idle_service, pool, 4999, receiver)
        counts: dict[int, list[int]] = {}
        for row in leased:
            counts.setdefault(row["chain_id"], []).append(row["count"])
        return counts

    with receiving() as receiver:
        counts = asyncio.run(run(receiver))
    assert max(max(each) for each in counts.values()) <= MAX_DELIVERIES_OF_WEBHOOK
    assert max(sum(each) for each in counts.values()) <= MAX_DELIVERIES_OF_CHAIN
    assert len(counts) == SILENT_CHAINS, "each chain had its turn"


def test_silent_webhooks_of_a_chain_do_not_delay_a_healthy_one_of_the_same_chain(
    idle_service: Longshore, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "TIMEOUT_SECONDS", 2.0)

    async def run(receiver: Receiver) -> float:
        async with open_pool(idle_service.url, size=8, name="test") as pool:
            for _ in range(2):
                await pool.execute(DUE, await idle_service.webhook(pool, 5000, silent), DELIVERIES)
            async with dispatching(idle_service, pool):
                async with asyncio.timeout(30):
                    while await pool.fetchval(FAILED) < 2:  # noqa: ASYNC110  # of another connection
                        await asyncio.sleep(0.05)
                began = time.monotonic()
                await deliver(idle_service, pool, 5000, receiver)
                return time.monotonic() - began

    with receiving() as receiver:
        assert asyncio.run(run(receiver)) < 3, "more than one timeout of the silent webhooks"


def test_database_error_before_a_message_is_sent_is_no_fault_of_its_receiver(idle_service: Longshore) -> None:
    asked = asyncio.Event()

    async def away(*_: object) -> bool:
        asked.set()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    async def run(receiver: Receiver) -> None:
        async with open_pool(idle_service.url, size=4, name="test") as pool:
            webhook = await idle_service.webhook(pool, 5000, receiver.url)
            await pool.execute(DUE, webhook, 1)
            async with dispatching(idle_service, pool, away) as running, asyncio.timeout(10):
                await asked.wait()
                while running._permits.tasks():  # noqa: ASYNC110  # another's
                    await asyncio.sleep(0.01)
                assert running._permits.unhealthy() == []
                row = await pool.fetchrow(TRIED, webhook)
                assert row is not None
                assert tuple(row) == ("pending", 0, None, True), "it is due when its lease is over"

    with receiving() as receiver:
        asyncio.run(run(receiver))


def test_secret_that_cannot_be_read_is_no_fault_of_its_receiver(idle_service: Longshore) -> None:
    async def run(receiver: Receiver) -> None:
        async with open_pool(idle_service.url, size=4, name="test") as pool:
            webhook = await idle_service.webhook(pool, 5000, receiver.url)
            other = open_vault(Settings(secret="x" * 32)).seal(5000, f"webhook {webhook}", b"x")
            await pool.execute("update longshore.webhooks set secret = $2 where id = $1", webhook, other)
            await pool.execute(DUE, webhook, 1)
            async with dispatching(idle_service, pool) as running, asyncio.timeout(10):
                while not await pool.fetchval(FAILED):  # noqa: ASYNC110  # of another connection
                    await asyncio.sleep(0.05)
                while running._permits.tasks():  # noqa: ASYNC110  # another's
                    await asyncio.sleep(0.01)
                assert running._permits.unhealthy() == []
                row = await pool.fetchrow(TRIED, webhook)
                assert row is not None
                assert (row["state"], row["attempts_since_redelivery"]) == ("pending", 0)
                assert "set LONGSHORE_SECRET" in row["error"]
                await pool.execute(  # a secret that never can be read does not keep its messages for ever
                    "update longshore.webhook_deliveries set created_at = now() - interval '31 days', due_at = now()"
                    " where webhook_id = $1",
                    webhook,
                )
                running._wake.set()
                while row["state"] != "failed":
                    await asyncio.sleep(0.05)
                    row = await pool.fetchrow(TRIED, webhook)
                    assert row is not None

    with receiving() as receiver:
        asyncio.run(run(receiver))


def test_unhealthy_webhooks_without_a_message_to_send_are_forgotten(
    idle_service: Longshore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "FORGET_EVERY_SECONDS", 0)

    async def run(receiver: Receiver) -> None:
        for _ in range(2):
            receiver.answers.put(500)
        async with open_pool(idle_service.url, size=4, name="test") as pool:
            kept, deleted = [await idle_service.webhook(pool, 5000, receiver.url) for _ in range(2)]
            for webhook in (kept, deleted):
                await pool.execute(DUE, webhook, 1)
            async with dispatching(idle_service, pool) as running, asyncio.timeout(15):
                while len(running._permits.unhealthy()) < 2:  # noqa: ASYNC110  # another's
                    await asyncio.sleep(0.01)
                await pool.execute("delete from longshore.webhooks where id = $1", deleted)
                while running._permits.unhealthy() != [kept]:
                    running._wake.set()
                    await asyncio.sleep(0.01)

    with receiving() as receiver:
        asyncio.run(run(receiver))


@pytest.mark.parametrize("ended_by", ["enable", "the dispatcher"])
def test_message_of_a_transaction_that_was_open_while_its_webhook_was_disabled_fails_and_is_never_sent(
    idle_service: Longshore, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    monkeypatch.setattr(dispatcher, "FORGET_EVERY_SECONDS", 0)
    state = "select state, error, due_at from longshore.webhook_deliveries where webhook_id = $1"

    async def run(receiver: Receiver) -> None:
        async with open_pool(idle_service.url, size=8, name="test") as pool:
            webhook = await idle_service.webhook(pool, 5000, receiver.url)
            async with pool.acquire() as late:
                async with late.transaction():
                    await late.execute(DUE, webhook, 1)
                    await pool.execute(DISABLE, webhook, "the receiver answered 410")
                if ended_by == "enable":
                    await enable(late, ChainId(5000), webhook)
            async with dispatching(idle_service, pool) as running, asyncio.timeout(10):
                while tuple(await pool.fetchrow(state, webhook) or ()) != ("failed", "the receiver answered 410", None):
                    running._wake.set()
                    await asyncio.sleep(0.05)
                if ended_by == "enable":
                    await pool.execute(DUE, webhook, 1)
                    running._wake.set()
                    await asyncio.to_thread(receiver.next)
        assert receiver.received.empty()

    with receiving() as receiver:
        asyncio.run(run(receiver))


@pytest.mark.parametrize("status", [204, 500])
def test_worker_that_stops_records_the_answer_to_a_message_that_is_under_way(
    new_service: Callable[..., Longshore], status: int
) -> None:
    service = new_service(outbound_allow="127.0.0.1")

    async def prepare(receiver: Receiver) -> None:
        async with open_pool(service.url, size=2, name="test") as pool:
            await pool.execute(DUE, await service.webhook(pool, 5000, receiver.url), 1)
            await pool.execute("update longshore.webhook_deliveries set payload = '{\"data\": {}}'")

    with receiving() as receiver:
        receiver.seconds = 1.5
        receiver.answers.put(status)
        asyncio.run(prepare(receiver))
        worker = service.start("worker")
        receiver.next()
        worker.terminate()
        assert worker.wait(20) == 0
    (delivery,) = service.sql("select attempts, status from longshore.webhook_deliveries")
    assert tuple(delivery) == (1, status)


def test_delivery_that_failed_with_its_webhook_before_it_was_sent_stays_failed(idle_service: Longshore) -> None:
    async def run(receiver: Receiver) -> None:
        async with open_pool(idle_service.url, size=2, name="test") as pool:
            webhook = await idle_service.webhook(pool, 5000, receiver.url)
            await pool.execute(DUE, webhook, 1)
            leased = "update longshore.webhook_deliveries set attempts = 1, attempts_since_redelivery = 1 returning id"
            delivery = await pool.fetchval(leased)
            await pool.execute(DISABLE, webhook, "gone")
            await pool.execute(NOT_SENT, delivery, 1, "set LONGSHORE_SECRET")
            row = await pool.fetchrow("select state, due_at, error from longshore.webhook_deliveries")
            assert row is not None
            assert tuple(row) == ("failed", None, "gone")
            await pool.execute("delete from longshore.webhooks where id = $1", webhook)

    with receiving() as receiver:
        asyncio.run(run(receiver))
