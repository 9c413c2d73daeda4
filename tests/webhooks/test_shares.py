"""Shares: a receiver that does not answer delays its own webhook and nobody else's."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from longshore.database.connect import open_pool
from longshore.webhooks.dispatcher import AT_ONCE_OF_CHAIN, AT_ONCE_OF_WEBHOOK, run_dispatcher
from tests.receiver import Receiver, receiving
from tests.service import Longshore

SILENT_CHAINS = 20  # more than there are places for all of them
DELIVERIES = 40  # of each silent webhook

WEBHOOK = """
insert into longshore.webhooks (chain_id, url, events, secret) values ($1, $2, '{task.done}', 'secret') returning id
"""
DUE = """
insert into longshore.deliveries (webhook_id, task_id, event, revision, payload, due_at)
select $1, 1, 'task.done', 1, '{}', now() - interval '1 minute' from generate_series(1, $2)
"""
TAKEN = """
select w.chain_id, w.id, count(*) as count
from longshore.deliveries d join longshore.webhooks w on w.id = d.webhook_id
where d.attempts > 0 group by 1, 2
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a receiver that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_deliveries_to_silent_receivers_of_many_chains_do_not_delay_another_chains(
    idle: Longshore, silent: str
) -> None:
    async def run(receiver: Receiver) -> dict[int, list[int]]:
        async with open_pool(idle.url, size=8, name="test") as pool:
            for chain in range(SILENT_CHAINS):
                for _ in range(2):
                    await pool.execute(DUE, await pool.fetchval(WEBHOOK, 5000 + chain, silent), DELIVERIES)
            allow = (ip_network("127.0.0.1"),)
            courier = asyncio.create_task(run_dispatcher(pool, idle.url, allow))
            try:
                async with asyncio.timeout(20):
                    while not (taken := await pool.fetch(TAKEN)):  # noqa: ASYNC110  # of another connection
                        await asyncio.sleep(0.05)
                webhook = await pool.fetchval(WEBHOOK, 4999, receiver.url)
                await pool.execute(DUE, webhook, 3)
                await pool.execute("select pg_notify('longshore_deliveries', '')")
                for _ in range(3):
                    await asyncio.to_thread(receiver.next)
            finally:
                courier.cancel()
                await asyncio.wait({courier})
                await pool.execute("delete from longshore.webhooks where chain_id between 4999 and 5999")
        counts: dict[int, list[int]] = {}
        for row in taken:
            counts.setdefault(row["chain_id"], []).append(row["count"])
        return counts

    with receiving() as receiver:
        counts = asyncio.run(run(receiver))
    assert max(max(each) for each in counts.values()) <= AT_ONCE_OF_WEBHOOK
    assert max(sum(each) for each in counts.values()) <= AT_ONCE_OF_CHAIN
    assert len(counts) == SILENT_CHAINS, "each chain had its turn"
