"""Six hosts, each cut off from the others while 20 exports run: all end well once it is back (promises 1, 2, 3, 7)."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore.database.connect import Pool
from longshore.results.bucket import BucketStore
from longshore.worker import cleanup
from tests.faults.attempts import with_pool
from tests.faults.held import messages
from tests.faults.hosts import BUCKET, HEARTBEAT_TIMEOUT, HOSTS, LONG_ROWS, RESULTS, RUNNING, WORKERS, Hosts, six_hosts
from tests.faults.retrying_client import RetryingClient
from tests.service import stored_names

SEED = int(os.environ.get("FAULT_SEED", random.randrange(2**32)))
CUT = 3  # of the exports that run are cut into shards
# At random, after one of each host in turn; `make faults` asks for more.
CUTS = int(os.environ.get("FAULT_CUTS", "2"))
# Seconds: longer than it takes to count as lost, and at most so long that connections are given up and cannot be made.
LONG = (HEARTBEAT_TIMEOUT + 1, 14.0)
SHORT = (0.3, HEARTBEAT_TIMEOUT - 2)
PAUSE = (1.0, 4.0)  # seconds between two cuts
MOST = 200 + 40 * CUTS  # seconds
START = 150  # seconds, of six programs on a busy machine

# A run may fail twice. What one that has depends on is left alone until it is over: it is the service that must not
# give up, not the test.
LAST_ATTEMPTS = "select count(*) from longshore.runs where state = 'INPROGRESS' and failures = 2"

TROUBLE = "select regexp_replace(msg, 'in \\d+ s', '') as msg from longshore.task_logs where msg ~ 'lost|failed|given'"

RUNS = """
select r.task_id, r.run, r.state, r.location
from longshore.runs r
join longshore.tasks t on t.id = r.task_id
where t.chain_id <> 0
"""


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    with six_hosts(tmp_path) as made:
        for name, value in made.cloud.items():
            monkeypatch.setenv(name, value)
        yield made


async def cut_off(hosts: Hosts, names: list[str], seconds: float) -> None:
    """Cut hosts off for a while, those that runs depend on once none would be given up for it."""
    spared = {"api", "store"}.issuperset(names)
    while not spared and hosts.sql(LAST_ATTEMPTS)[0][0]:  # noqa: ASYNC110  # the database says it, by being asked
        await asyncio.sleep(0.5)
    print(f"{time.monotonic():.1f} {' and '.join(names)} cut off for {seconds:.1f} s")
    for name in names:
        hosts.network.cut(name)
    await asyncio.sleep(seconds)
    for name in names:
        hosts.network.mend(name)


async def cuts(hosts: Hosts, over: asyncio.Event) -> None:
    """Each host in turn, for long, then at random."""
    chance = random.Random(SEED)
    turns = [([name], LONG) for name in chance.sample(HOSTS, len(HOSTS))]
    turns += [(chance.sample(HOSTS, chance.choice((1, 2))), chance.choice((SHORT, LONG))) for _ in range(CUTS)]
    for names, span in turns:
        await asyncio.sleep(chance.uniform(*PAUSE))
        await cut_off(hosts, names, chance.uniform(*span))
    over.set()


async def keep_exporting(client: RetryingClient, over: asyncio.Event) -> None:
    while not over.is_set():
        await client.export()


async def under_load(hosts: Hosts, answers: Counter[str]) -> list[dict[str, Any]]:
    """Cut hosts off while RUNNING exports run at any time, and give all tasks that there were, as they look now."""
    bearer = {"Authorization": f"Bearer {hosts.token()}"}
    over = asyncio.Event()
    async with httpx2.AsyncClient(base_url=hosts.address, headers=bearer) as http, asyncio.timeout(MOST):
        clients = [RetryingClient(http, answers, "transactions", LONG_ROWS) for _ in range(CUT)]
        clients += [RetryingClient(http, answers) for _ in range(RUNNING - CUT)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(keep_exporting(client, over))
            group.create_task(cuts(hosts, over))
        for client in clients:
            for task in client.finished:
                assert await client.task(task["id"]) == task, "it has changed after its end"
    return [task for client in clients for task in client.finished]


def swept(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the objects in the bucket after a cleanup an hour later."""
    monkeypatch.setattr(cleanup, "MIN_FILE_AGE_SECONDS", -60.0)

    async def sweep(pool: Pool) -> None:
        begun: Any = None  # it does not matter to the sweep who asks for it
        await cleanup.Cleanup(pool, BucketStore(RESULTS), timedelta(days=365)).run(begun)

    with_pool(hosts, sweep)
    pages = hosts.bucket().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {found["Key"].removeprefix("exports/") for page in pages for found in page.get("Contents", [])}


@pytest.mark.timeout(START + MOST)
def test_every_export_ends_as_done_after_any_host_was_cut_off(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    print(f"FAULT_SEED={SEED}")
    answers: Counter[str] = Counter()
    try:
        tasks = asyncio.run(under_load(hosts, answers))
    finally:
        print(f"answers {dict(answers)}")
        troubles = Counter(row["msg"] for row in hosts.sql(TROUBLE))
        print(f"logs {dict(troubles)}")
    shards = sum(hosts.log_of(name).read_text().count('"event":"shard done"') for name in WORKERS)
    print(f"{len(tasks)} exports, {shards} shards")
    assert shards >= 3 * CUT
    assert [name for name, process in hosts.network.started.items() if process.poll() is not None] == []
    for task in tasks:
        assert messages(task).count("INPROGRESS -> DONE") == 1
        assert messages(task).count("success") == 1
    runs = hosts.sql(RUNS)
    assert sorted((row["task_id"], row["run"], row["state"]) for row in runs) == sorted(
        (task["id"], 1, "DONE") for task in tasks
    )
    assert swept(hosts, monkeypatch) == {name for row in runs for name in stored_names(row["location"])}
