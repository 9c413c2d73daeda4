"""Loops over deliveries, results, old tasks, chains and polls: an item that fails keeps no other from being seen to."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from longshore.access.tokens import Level
from longshore.database.connect import Pool
from longshore.results.local import LocalStore
from longshore.results.store import AttemptFiles, StoreError, StoreUnavailableError
from longshore.tasks import scheduler
from longshore.tasks.batched_reads import BatchedReads
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queries import PolledStatus
from longshore.tasks.slots import fill_all_slots
from longshore.webhooks.delivery_permits import MAX_DELIVERIES_OF_WEBHOOK
from longshore.webhooks.dispatcher import Dispatcher
from longshore.worker.cleanup import Cleanup
from tests.receiver import receiving
from tests.service import Longshore, export_body

BAD, GOOD = 501, 502
DELIVERY = """
insert into longshore.webhook_deliveries (webhook_id, task_id, event, revision, payload, due_at)
values ($1, 1, 'task.done', 1, $2, now() - interval '1 minute') returning id
"""
OLD_TASK = """
insert into longshore.tasks
    (chain_id, description, action, trigger, target, debug, state, modified_at, attempt_began_at)
values ($1, '', 'export', '{}', '{}', '', 'DONE', now() - interval '400 days', now()) returning id
"""
EXPIRED_RUN = """
insert into longshore.runs (task_id, run, first_attempt, attempt, state, began_at, attempt_began_at, progress_at,
                            location, expires_at)
values ($1, $2, 1, 1, 'DONE', now(), now(), now(), $3, now() - $4 * interval '1 minute')
"""
FORGOTTEN = "insert into longshore.sign_in_failures values ('isolated', 1, '2020-01-01', '2020-01-01')"
PARKED = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, parked, waits_since)
values ($1, '', 'export', '{"once":"2026-01-01T00:00:00Z"}', '{}', '', true, now()) returning id
"""
WITHOUT_MESSAGE = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug)
values ($1, '', 'export', '{"once":"2026-01-01T00:00:00Z"}', '{}', '') returning id
"""
SENT = "select exists (select from longshore.pgqueuer where dedupe_key = $1 || ':1')"
DUE = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, due_at)
values ($1, '', 'export', '{"once":"2026-01-01T00:00:00Z"}', '{}', '', now()) returning id
"""


@contextmanager
def poisoned(idle_service: Longshore, table: str, on: str, when: str) -> Iterator[None]:
    """Let PostgreSQL refuse each row of a table for which `when` holds."""
    idle_service.sql(
        "create or replace function longshore.poison() returns trigger language plpgsql as"
        " $$ begin raise exception 'poisoned'; end $$"
    )
    idle_service.sql(
        f"create trigger poison before {on} on longshore.{table} for each row"
        f" when ({when}) execute function longshore.poison()"
    )
    try:
        yield
    finally:
        idle_service.sql("drop function longshore.poison() cascade")


async def may_see_data(*_: object) -> bool:
    return True


def test_delivery_that_cannot_be_taken_or_sent_keeps_no_other_from_being_delivered(
    idle_service: Longshore, run: Any
) -> None:
    async def test(pool: Pool) -> None:
        with receiving() as receiver:
            good = await idle_service.webhook(pool, GOOD, receiver.url)
            stuck = await pool.fetchval(
                DELIVERY, await idle_service.webhook(pool, BAD, receiver.url), '{"from":"stuck"}'
            )
            strange = [
                await pool.fetchval(DELIVERY, await idle_service.webhook(pool, BAD, url), "{}")
                for url in ("http://[", "", "ftp://a.example/", "http://127.0.0.1:99999/", "http://a\x01b.example/")
            ]
            delivered = await pool.fetchval(DELIVERY, good, '{"from":"good"}')
            with poisoned(idle_service, "webhook_deliveries", "update", f"old.id = '{stuck}'"):
                dispatcher = Dispatcher(
                    pool, idle_service.url, idle_service.vault, lambda _: (ip_network("127.0.0.1"),), may_see_data
                )
                dispatching = asyncio.create_task(dispatcher.run())
                try:
                    assert (await asyncio.to_thread(receiver.next)).body == b'{"from":"good"}'
                    count = "select count(*) from longshore.webhook_deliveries where id = any($1) and error is not null"
                    async with asyncio.timeout(30):
                        while await pool.fetchval(count, strange) < len(strange):  # noqa: ASYNC110  # another's
                            await asyncio.sleep(0.05)
                    assert not dispatching.done()
                finally:
                    dispatching.cancel()
                    # A statement under way would keep `poisoned` from ending, which holds this event loop.
                    await asyncio.wait({dispatching, *dispatcher._permits.tasks()})
            states = await pool.fetch("select state, attempts from longshore.webhook_deliveries where id = $1", stuck)
            assert [tuple(row) for row in states] == [("pending", 0)]
            state = "select state from longshore.webhook_deliveries where id = $1"
            assert await pool.fetchval(state, delivered) == "delivered"
            assert receiver.received.empty()

    try:
        run(test)
    finally:
        idle_service.sql("delete from longshore.webhooks where chain_id in (501, 502)")


def test_any_number_of_deliveries_that_cannot_be_leased_keeps_none_that_is_due_later_waiting(
    idle_service: Longshore, run: Any
) -> None:
    async def test(pool: Pool) -> None:
        with receiving() as receiver:
            webhook = await idle_service.webhook(pool, BAD, receiver.url)
            for _ in range(2 * MAX_DELIVERIES_OF_WEBHOOK):
                await pool.execute(DELIVERY, webhook, '{"from":"stuck"}')
            good = await pool.fetchval(DELIVERY, webhook, '{"from":"good"}')
            await pool.execute("update longshore.webhook_deliveries set due_at = now() where id = $1", good)
            await pool.execute(DELIVERY, await idle_service.webhook(pool, GOOD, receiver.url), '{"from":"other"}')
            with poisoned(idle_service, "webhook_deliveries", "update", """old.payload = '{"from":"stuck"}'"""):
                dispatcher = Dispatcher(
                    pool, idle_service.url, idle_service.vault, lambda _: (ip_network("127.0.0.1"),), may_see_data
                )
                await dispatcher._begin_due()
                await asyncio.gather(*dispatcher._permits.tasks())
            received = {receiver.received.get_nowait().body for _ in range(receiver.received.qsize())}
            assert received == {b'{"from":"good"}', b'{"from":"other"}'}

    try:
        run(test)
    finally:
        idle_service.sql("delete from longshore.webhooks where chain_id in (501, 502)")


def test_item_or_step_of_the_cleanup_that_fails_keeps_no_other_from_being_cleaned_up(
    idle_service: Longshore, run: Any, tmp_path: Path
) -> None:
    async def test(pool: Pool) -> None:
        store = LocalStore(tmp_path)
        kept, bad, good = [await pool.fetchval(OLD_TASK, chain) for chain in (GOOD, BAD, GOOD)]
        await pool.execute("update longshore.tasks set modified_at = now() where id = $1", kept)
        locations = [f"{GOOD}/{kept}/{attempt}/a.csv" for attempt in (1, 2)]
        for location in locations:
            with store.create(location) as file:
                file.publish()
        await pool.execute(EXPIRED_RUN, kept, 1, "../outside/a.csv", 30)  # the first to be seen to
        for number, location in enumerate(locations, 2):
            await pool.execute(EXPIRED_RUN, kept, number, location, 20)
        with store.create(f"{GOOD}/{good}/1/a.csv") as file:
            file.publish()
        await pool.execute(FORGOTTEN)
        cleanup = Cleanup(pool, store, timedelta(days=365))
        idle_service.sql("alter table longshore.pgqueuer_log rename to pgqueuer_log_away")
        try:
            with poisoned(idle_service, "tasks", "delete", f"old.chain_id = {BAD}"), pytest.raises(StoreError):
                await cleanup.run(None)  # type: ignore[arg-type]  # which it does not look at
        finally:
            idle_service.sql("alter table longshore.pgqueuer_log_away rename to pgqueuer_log")
        assert not [location for location in locations if store.open_path(location)]
        left = "select run from longshore.runs where task_id = $1 and expires_at is not null"
        assert [row["run"] for row in await pool.fetch(left, kept)] == [1]
        tasks = await pool.fetch("select id from longshore.tasks where id = any($1)", [kept, bad, good])
        assert {row["id"] for row in tasks} == {kept, bad}
        assert not (tmp_path / str(GOOD) / str(good)).exists()
        assert await pool.fetchval("select count(*) from longshore.sign_in_failures where key = 'isolated'") == 0

    run(test)


class StoreAway(LocalStore):
    """A store that is out of reach."""

    def remove(self, _: str) -> None:
        raise StoreUnavailableError("the store is away")

    def remove_task(self, *_: object) -> None:
        raise StoreUnavailableError("the store is away")

    def attempts(self, _: float) -> list[AttemptFiles]:
        raise StoreUnavailableError("the store is away")


class StoreAwayLater(LocalStore):
    """A store that is out of reach when its files are listed."""

    def attempts(self, _: float) -> list[AttemptFiles]:
        raise StoreUnavailableError("the store is away")


def test_cleanup_that_meets_an_outage_after_a_permanent_error_is_retried(run: Any, tmp_path: Path) -> None:
    async def test(pool: Pool) -> None:
        task = await pool.fetchval(OLD_TASK, GOOD)
        await pool.execute("update longshore.tasks set modified_at = now() where id = $1", task)
        await pool.execute(EXPIRED_RUN, task, 1, "../outside/a.csv", 30)
        with pytest.raises(StoreUnavailableError):
            await Cleanup(pool, StoreAwayLater(tmp_path), timedelta(days=365)).run(None)  # type: ignore[arg-type]

    run(test)


def test_cleanup_deletes_what_is_over_in_the_database_while_the_store_is_away(run: Any, tmp_path: Path) -> None:
    async def test(pool: Pool) -> None:
        kept, *old = [await pool.fetchval(OLD_TASK, GOOD) for _ in range(3)]
        await pool.execute("update longshore.tasks set modified_at = now() where id = $1", kept)
        await pool.execute(EXPIRED_RUN, kept, 1, f"{GOOD}/{kept}/1/a.csv", 30)
        await pool.execute(FORGOTTEN)
        with pytest.raises(StoreUnavailableError):
            await Cleanup(pool, StoreAway(tmp_path), timedelta(days=365)).run(None)  # type: ignore[arg-type]
        tasks = await pool.fetch("select id from longshore.tasks where id = any($1)", [kept, *old])
        assert [row["id"] for row in tasks] == [kept]
        left = "select run from longshore.runs where task_id = $1 and expires_at is not null"
        assert [row["run"] for row in await pool.fetch(left, kept)] == [1], "a later cleanup removes its file"
        assert await pool.fetchval("select count(*) from longshore.sign_in_failures where key = 'isolated'") == 0

    run(test)


def test_chain_whose_tasks_cannot_be_admitted_keeps_no_other_chain_waiting(idle_service: Longshore, run: Any) -> None:
    async def test(pool: Pool) -> None:
        bad, good = [await pool.fetchval(PARKED, chain) for chain in (BAD, GOOD)]
        with poisoned(idle_service, "tasks", "update", f"old.chain_id = {BAD}"):
            await fill_all_slots(pool)
        rows = await pool.fetch("select id, parked from longshore.tasks where id = any($1)", [bad, good])
        assert {row["id"]: row["parked"] for row in rows} == {bad: True, good: False}

    run(test)


def test_due_task_that_can_never_be_sent_is_logged_once_and_not_at_each_tick(idle_service: Longshore, run: Any) -> None:
    async def test(pool: Pool) -> None:
        bad, good = [await pool.fetchval(DUE, chain) for chain in (BAD, GOOD)]
        with poisoned(idle_service, "tasks", "update", f"old.id = {bad}"), capture_logs() as logged:
            for _ in range(3):
                await scheduler.send_all_due(pool)
        rows = await pool.fetch("select id, due_at from longshore.tasks where id = any($1)", [bad, good])
        assert {row["id"]: row["due_at"] is None for row in rows} == {bad: False, good: True}
        assert [(entry["event"], entry.get("task")) for entry in logged] == [("due task not sent", bad)]

    run(test)


def test_more_due_tasks_than_a_batch_that_can_never_be_sent_keep_no_later_one_waiting(
    idle_service: Longshore, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "BATCH_SIZE", 3)

    async def test(pool: Pool) -> None:
        bad = [await pool.fetchval(DUE, BAD) for _ in range(7)]
        good = await pool.fetchval(DUE, GOOD)
        with poisoned(idle_service, "tasks", "update", f"old.chain_id = {BAD}"):
            await scheduler.send_all_due(pool)
        rows = await pool.fetch("select id from longshore.tasks where id = any($1) and due_at is null", [*bad, good])
        assert [row["id"] for row in rows] == [good]

    run(test)


def test_more_attempts_than_a_batch_that_cannot_be_recovered_keep_no_other_waiting(
    idle_service: Longshore, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "BATCH_SIZE", 2)

    async def test(pool: Pool) -> None:
        bad = [await pool.fetchval(WITHOUT_MESSAGE, BAD) for _ in range(3)]
        good = await pool.fetchval(WITHOUT_MESSAGE, GOOD)
        keys = ", ".join(f"'{task}:1'" for task in bad)
        with poisoned(idle_service, "pgqueuer", "insert", f"new.dedupe_key in ({keys})"):
            async with asyncio.timeout(20):
                while not await pool.fetchval(SENT, str(good)):
                    await scheduler.recover_attempts(pool)
            assert not any([await pool.fetchval(SENT, str(task)) for task in bad])
        await pool.execute("delete from longshore.tasks where id = any($1)", bad)

    run(test)


def test_task_whose_recorded_reads_no_version_understands_is_shown_to_admins_and_fails_no_list(
    idle_service: Longshore,
) -> None:
    with idle_service.client(Level.ADMIN, GOOD) as admin, idle_service.client(Level.READ, GOOD) as reader:
        strange = admin.post("/tasks", json=export_body(chain=GOOD, once="2126-05-26T12:00:00Z")).json()["id"]
        idle_service.sql("""update longshore.tasks set reads = '[{"index": 5}]' where id = $1""", strange)
        for client in (admin, reader):
            for path in (f"/tasks/{strange}", "/tasks", f"/tasks/{strange}/runs"):
                assert client.get(path).status_code == 200, path
        assert admin.get(f"/tasks/{strange}/progress").status_code == 200
        assert reader.post(f"/tasks/{strange}/cancel").status_code == 403
        assert admin.delete(f"/tasks/{strange}").status_code == 204


def test_poll_of_a_task_whose_state_no_version_understands_fails_no_other_poll(
    idle_service: Longshore, run: Any
) -> None:
    async def test(pool: Pool) -> None:
        bad, good = [TaskId(await pool.fetchval(PARKED, GOOD)) for _ in range(2)]
        idle_service.sql("alter table longshore.tasks drop constraint tasks_state_check")
        try:
            idle_service.sql("update longshore.tasks set state = 'PAUSED' where id = $1", bad)
            polls = BatchedReads(pool)
            async with asyncio.timeout(20):
                asked = (polls.status(ChainId(GOOD), task) for task in (bad, good))
                broken, whole = await asyncio.gather(*asked, return_exceptions=True)
        finally:
            idle_service.sql("delete from longshore.tasks where id = $1", bad)
            idle_service.sql(
                "alter table longshore.tasks add constraint tasks_state_check"
                " check (state in ('READY', 'INPROGRESS', 'DONE', 'ERROR'))"
            )
        assert isinstance(broken, ValueError)
        assert isinstance(whole, PolledStatus)

    run(test)
