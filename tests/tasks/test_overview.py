"""The console's list of tasks: what it finds, in which order, how many, and what that costs."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from longshore.access.tokens import Level
from longshore.client.errors import TaskFailedError
from longshore.client.model import TaskData
from longshore.database.connect import Pool, open_pool
from longshore.database.rows import Page
from longshore.tasks import overview, queries, run_queries
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.overview import Order, TaskList, TaskSearch
from tests.run_steps import play
from tests.service import Longshore, export_body

CHAIN = ChainId(501)
MANY_CHAIN = ChainId(502)
MANY = 100_000
MAX_MILLISECONDS = 100

Run = Callable[[Callable[[Pool], Awaitable[None]]], None]

INSERT = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, result, last_run_at, due_at,
                             run, attempt_began_at)
values ($1, $2, 'export', '{}', $3, '', $4, $5, now() - $6 * interval '1 minute', $7, 1, now())
returning id
"""

FILL = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, result, last_run_at, run,
                             attempt_began_at)
select $1, 'Export of the ledger for branch ' || n, 'export', '{"once":"2026-01-01T00:00:00Z"}',
       '{"action":"export","export_index":"wallet-ledger","export_format":"csv","fields":["id","amount","timestamp"]}',
       repeat('x', 100), case when n % 5000 = 0 then 'ERROR' else 'DONE' end, 'Wallet_Export-' || n || '.csv',
       now() - n * interval '1 second', 1, now()
from generate_series(1, $2) n
"""


async def listed(pool: Pool, order: Order = "newest", chain: ChainId = CHAIN, **conditions: object) -> TaskList:
    return await overview.search(pool, chain, TaskSearch(**conditions), order, Page(25))  # type: ignore[arg-type]


async def add(
    pool: Pool,
    desc: str,
    index: str = "users",
    state: str = "DONE",
    result: str = "",
    ran: float = 1,
    due: object = None,
) -> int:
    target = f'{{"action":"export","export_index":"{index}"}}'
    return int(await pool.fetchval(INSERT, CHAIN, desc, target, state, result, ran, due))


def test_tasks_are_found_by_parts_of_description_index_and_result_in_any_case(run: Run) -> None:
    async def test(pool: Pool) -> None:
        nightly = await add(pool, "Nightly LEDGER, für Käufer", "wallet-ledger", result="Wallet_Export-7.csv")
        members = await add(pool, "תיאור ארוך של הייצוא", "users", result="Users_Export-8.csv")

        async def found(text: str) -> list[int]:
            return [row.id for row in (await listed(pool, text=text)).rows]

        assert await found("ledger") == await found("KÄUFER") == await found("wallet_export-7") == [nightly]
        assert await found("הייצוא") == await found("users") == [members]
        assert await found("export-") == [members, nightly]
        assert await found("100%") == await found("_edger") == await found("\\") == []
        await pool.execute("update longshore.tasks set description = 'renamed', result = '' where id = $1", members)
        assert await found("הייצוא") == []
        assert await found("renamed") == [members]
        await pool.execute("delete from longshore.tasks where id = $1", members)
        assert await pool.fetchval("select count(*) from longshore.task_texts where task_id = $1", members) == 0

    run(test)


def test_list_is_filtered_sorted_and_counted(run: Run) -> None:
    async def test(pool: Pool) -> None:
        now = await pool.fetchval("select now()")
        first = await add(pool, "first", "wallet-ledger", ran=1)
        second = await add(pool, "second", ran=3, state="ERROR", due=now)
        third = await add(pool, "third", ran=2)
        for order, wanted in (
            ("newest", [third, second, first]), ("oldest", [first, second, third]), ("last", [first, third, second]),
            ("next", [second]),
        ):  # fmt: skip
            assert [row.id for row in (await listed(pool, order)).rows] == wanted  # type: ignore[arg-type]
        assert [row.id for row in (await listed(pool, state="ERROR")).rows] == [second]
        assert [row.id for row in (await listed(pool, index="users")).rows] == [third, second]
        assert (await listed(pool, index="users", state="DONE")).total == 1
        beyond = await overview.search(pool, CHAIN, TaskSearch(text="ir"), "newest", Page(1, 1))
        assert ([row.id for row in beyond.rows], beyond.total, beyond.is_exact) == ([first], 2, True)

    run(test)


def test_pages_of_a_filtered_list_go_on_behind_the_tasks_that_are_counted(run: Run) -> None:
    async def test(pool: Pool) -> None:
        await pool.execute(FILL, MANY_CHAIN, 1060)
        at, seen = 0, 0
        while True:
            page = await overview.search(pool, MANY_CHAIN, TaskSearch(text="branch"), "newest", Page(25, at))
            assert not page.is_exact
            seen += len(page.rows)
            at += 25
            if at >= page.total:
                break
        assert seen == 1060
        await pool.execute("delete from longshore.tasks where chain_id = $1", MANY_CHAIN)

    run(test)


def test_reason_of_a_failed_task_and_run_is_no_entry_of_the_log_that_came_later(
    run: Run, idle_service: Longshore
) -> None:
    body = {**export_body(once="2026-01-01T06:00:00Z", repeat="daily"), "chain": CHAIN}
    with idle_service.client(Level.ADMIN, chain=CHAIN) as client:
        task = TaskId(client.post("/tasks", json=body).json()["id"])
        play(idle_service, task, "begin", "fail")
        assert client.post(f"/tasks/{task}/pause").status_code == 200
        assert client.patch(f"/tasks/{task}", json={"desc": "other"}).status_code == 200
        assert client.get(f"/tasks/{task}").json()["logs"][-1]["msg"].startswith("changed by")
        failed = client.get(f"/tasks/{task}").json()

    async def test(pool: Pool) -> None:
        async def reasons() -> tuple[str | None, str | None, list[str | None]]:
            runs, _ = await run_queries.runs(pool, CHAIN, task, Page(10))
            (row,) = (await listed(pool)).rows
            return row.reason, (await queries.poll(pool, CHAIN, task)).reason, [each.reason for each in runs]

        assert await reasons() == ("on purpose", "on purpose", ["on purpose"])
        await asyncio.to_thread(play, idle_service, task, "begin", "finish")
        assert await reasons() == (None, None, [None, "on purpose"]), "the task is DONE, but its first run failed"

    run(test)
    assert str(TaskFailedError(msgspec.convert(failed, TaskData, strict=False))).endswith("is ERROR: on purpose")


def test_target_that_postgresql_cannot_decode_is_listed_without_an_index(run: Run) -> None:
    async def test(pool: Pool) -> None:
        await add(pool, "odd", "\\ud800")
        await pool.execute(
            INSERT, CHAIN, "other", '{"action":"x","export_indexes":{"a":1},"export_index":7}', "DONE", "", 1.0, None
        )
        assert [row.indexes for row in (await listed(pool)).rows] == [[], []]

    run(test)


def processor_milliseconds(process: int) -> float:
    """The processor time of a process: unlike the time of a clock, it does not depend on what else the machine does."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e6


def test_list_of_100_000_tasks_costs_the_server_under_100_ms_with_search_and_total(idle_service: Longshore) -> None:
    took: dict[str, float] = {}

    async def measure() -> None:
        serial = {"max_parallel_workers_per_gather": "0"}
        async with open_pool(idle_service.url, size=1, name="test", **serial) as pool:
            await pool.execute(FILL, MANY_CHAIN, MANY)
            await pool.execute("vacuum analyze longshore.tasks, longshore.task_texts")
            process = await pool.fetchval("select pg_backend_pid()")
            cases: list[tuple[str, Order, dict[str, object], int]] = [
                ("all", "newest", {}, MANY),
                ("all by last run", "last", {}, MANY),
                ("nothing matches", "newest", {"text": "nowhere"}, 0),
                ("one matches", "newest", {"text": "branch 77777"}, 1),
                ("a result", "newest", {"text": "wallet_export-4242.csv"}, 1),
                ("all match", "last", {"text": "ledger"}, 1001),
                ("state", "newest", {"state": "ERROR"}, 20),
                ("state and text", "newest", {"state": "ERROR", "text": "branch 5000"}, 2),
                ("state, index and text", "last", {"state": "DONE", "index": "wallet-ledger", "text": "7777"}, 19),
                ("another index", "newest", {"index": "users"}, 0),
            ]
            for name, order, conditions, total in cases:
                before = processor_milliseconds(process)
                found = await listed(pool, order, MANY_CHAIN, **conditions)
                took[name] = processor_milliseconds(process) - before
                assert found.total == total, (name, found.total)

    try:
        asyncio.run(measure())
    finally:
        idle_service.sql("delete from longshore.tasks where chain_id = $1", MANY_CHAIN)
    print({name: f"{milliseconds:.1f} ms" for name, milliseconds in took.items()})
    assert max(took.values()) < MAX_MILLISECONDS, took
