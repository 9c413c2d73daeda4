"""The figures of a chain: its days are those of a zone, and a chain with few runs does not read those of others."""

import asyncio
import json
import zoneinfo
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

from longshore.database.connect import Pool, open_pool
from longshore.tasks import figures
from longshore.tasks.model import ChainId
from longshore.tasks.scheduler import PARK
from tests.service import Longshore

Run = Callable[[Callable[[Pool], Awaitable[None]]], None]

FEW, MANY = ChainId(511), ChainId(512)
MAX_BLOCKS = 2000

# $1: chain, $2: tasks, $3: runs of each, one every $4.
FILL = """
with made as (
    insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, result, last_run_at, run,
                                 attempt_began_at, created_at)
    select $1, 'x', 'export', '{"once":"2026-01-01T00:00:00Z"}', '{"action":"export","export_index":"users"}', '',
           'DONE', 'x.csv', now(), $3::int, now(), now() - interval '1 year'
    from generate_series(1, $2::int)
    returning id
)
insert into longshore.runs (task_id, run, state, first_attempt, attempt, due_at, began_at, ended_at, rows, bytes,
                            attempt_began_at, progress_at, reads, expires_at)
select id, n, case when n % 10 = 5 then 'ERROR' else 'DONE' end, n, n, at - interval '2 s', at, at + interval '20 s',
       1000, 170000, at, at, '[]', case when n > $3 - 2 then now() + interval '1 day' end
from made, generate_series(1, $3::int) n, lateral (select now() - ($3 - n) * $4::interval as at) moment
"""
LAST_CHANGED_A_DAY_AGO = """
update longshore.tasks
set attempt_began_at = null, due_at = now() - interval '2 s', modified_at = now() - interval '1 day'
where id = $1
"""
GONE = "delete from longshore.tasks where chain_id = any($1::bigint[])"


def test_figures_by_day_count_each_run_on_its_day_in_the_zone(run: Run) -> None:
    async def test(pool: Pool) -> None:
        await pool.execute(FILL, FEW, 1, 100, timedelta(hours=6))
        try:
            days = await figures.by_day(pool, FEW, "Pacific/Kiritimati")
            now = await figures.of_chain(pool, FEW)
            rows = await pool.fetch(
                "select (began_at at time zone 'Pacific/Kiritimati')::date as day, r.state from longshore.runs r"
                " join longshore.tasks t on t.id = r.task_id where t.chain_id = $1",
                FEW,
            )
        finally:
            await pool.execute(GONE, [FEW])
        assert len(days) == figures.DAYS
        assert days[-1].day - days[0].day == timedelta(days=figures.DAYS - 1)
        for each in days:
            states = [row["state"] for row in rows if row["day"] == each.day]
            assert (each.done, each.failed) == (states.count("DONE"), states.count("ERROR"))
            assert each.rows == 1000 * each.done
            assert each.median_seconds == each.longest_seconds == 20
            assert each.longest_wait == 2
        assert sum(each.kept_bytes for each in days) == 340_000
        assert (now.done + now.failed, now.rows) == (4, 1000 * now.done)

    run(test)


def test_runs_of_a_backfill_have_not_waited_since_the_time_that_they_are_for(idle_service: Longshore, run: Run) -> None:
    async def test(pool: Pool) -> None:
        await pool.execute(FILL, FEW, 1, 4, timedelta(hours=1))
        await pool.execute(
            "update longshore.runs r set backfill = 1, due_at = r.due_at - interval '90 days'"
            " from longshore.tasks t where t.id = r.task_id and t.chain_id = $1 and r.run > 2",
            FEW,
        )
        assert max(day.longest_wait for day in await figures.by_day(pool, FEW, "UTC")) == 2

    try:
        run(test)
    finally:
        idle_service.sql(GONE, [FEW])


def test_oldest_waiting_task_has_waited_since_its_run_was_due(idle_service: Longshore, run: Run) -> None:
    async def oldest(pool: Pool) -> float | None:
        return (await figures.of_chain(pool, FEW)).oldest

    async def test(pool: Pool) -> None:
        assert await oldest(pool) is None
        await pool.execute(FILL, FEW, 1, 1, timedelta(hours=1))
        task = await pool.fetchval("select id from longshore.tasks where chain_id = $1", FEW)
        await pool.execute(LAST_CHANGED_A_DAY_AGO, task)
        await pool.execute(PARK, [task], [None], [datetime.now(UTC)])
        assert 2 <= (await oldest(pool) or 0) < 60
        await pool.execute("update longshore.tasks set waits_since = now() + interval '1 minute' where id = $1", task)
        assert await oldest(pool) == 0, "the pause before a retry is no wait"

    try:
        run(test)
    finally:
        idle_service.sql(GONE, [FEW])


def test_days_are_also_those_of_a_zone_that_the_server_does_not_know(run: Run, tmp_path: Path) -> None:
    (tmp_path / "Longshore").mkdir()
    with resources.files("tzdata.zoneinfo").joinpath("Europe", "Amsterdam").open("rb") as zone:
        (tmp_path / "Longshore" / "Quay").write_bytes(zone.read())
    zoneinfo.reset_tzpath([str(tmp_path), *zoneinfo.TZPATH])

    async def test(pool: Pool) -> None:
        assert len(await figures.by_day(pool, ChainId(513), "Longshore/Quay")) == figures.DAYS

    try:
        run(test)
    finally:
        zoneinfo.reset_tzpath()


def test_run_in_the_pause_before_its_next_attempt_waits_and_is_not_running(idle_service: Longshore, run: Run) -> None:
    async def test(pool: Pool) -> None:
        await pool.execute(FILL, FEW, 2, 1, timedelta(hours=1))
        await pool.execute("update longshore.tasks set state = 'INPROGRESS', due_at = null where chain_id = $1", FEW)
        await pool.execute("update longshore.tasks set attempt_began_at = now() where chain_id = $1", FEW)
        now = await figures.of_chain(pool, FEW)
        assert (now.running, now.waiting) == (2, 0)
        pause = "update longshore.tasks set attempt_began_at = null where id = $1"
        await pool.execute(pause, await pool.fetchval("select min(id) from longshore.tasks where chain_id = $1", FEW))
        now = await figures.of_chain(pool, FEW)
        assert (now.running, now.waiting) == (1, 1)

    try:
        run(test)
    finally:
        idle_service.sql(GONE, [FEW])


def test_days_of_a_chain_without_runs_are_empty(run: Run) -> None:
    async def test(pool: Pool) -> None:
        days = await figures.by_day(pool, ChainId(513), "UTC")
        assert [each.done for each in days] == [0] * figures.DAYS
        assert abs((days[-1].day - datetime.now(UTC).date()).days) <= 1

    run(test)


def test_figures_of_a_chain_do_not_read_the_runs_of_others(idle_service: Longshore) -> None:
    async def measure() -> int:
        async with open_pool(idle_service.url, size=1, name="test") as pool:
            await pool.execute(FILL, MANY, 20, 5000, timedelta(minutes=3))
            await pool.execute(FILL, FEW, 20, 20, timedelta(hours=1))
            await pool.execute("vacuum analyze longshore.tasks, longshore.runs")
            days = figures.last_days(datetime.now(UTC), ZoneInfo("UTC"))
            plan = await pool.fetchval(f"explain (analyze, buffers, format json) {figures.BY_DAY}", FEW, *days)
            whole = await pool.fetchval("select pg_relation_size('longshore.runs') / 8192")
        assert whole > MAX_BLOCKS
        found = json.loads(plan)[0]["Plan"]
        return int(found["Shared Hit Blocks"] + found["Shared Read Blocks"])

    try:
        assert asyncio.run(measure()) < MAX_BLOCKS
    finally:
        idle_service.sql(GONE, [FEW, MANY])
