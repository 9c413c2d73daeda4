"""The client's operations on tasks, schedules, links, webhooks and shares, against a real service."""

import asyncio
import io
import time
import uuid
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import httpx2
import pytest

from longshore import AsyncLongshore, F, Longshore
from longshore.access.tokens import Level, Scope
from longshore.client import (
    ClientError,
    ForbiddenError,
    NoAnswerError,
    NotFoundError,
    ProblemError,
    TaskFailedError,
    WaitTimeoutError,
)
from longshore.client.model import Progress
from longshore.client.progress_bar import ProgressBar
from tests import service as services
from tests.client.gateway import Gateway
from tests.conftest import SMALL_CHAIN
from tests.destinations.memory import PASSWORD
from tests.service import free_port

FUTURE = datetime(2099, 1, 1, tzinfo=UTC)
ROWS = 2_000


def test_events_of_a_task_are_followed_to_its_end(longshore: Longshore, awaited: AsyncLongshore) -> None:
    task = longshore.exports.create("users")
    events = list(task.events())
    assert [event.entry.msg for event in events if event.entry] == [
        "READY -> INPROGRESS",
        "success",
        "INPROGRESS -> DONE",
    ]
    assert events[-1].kind == "end"
    assert events[-1].state
    assert events[-1].state.code == "DONE"
    second = [event.id for event in events if event.kind == "log"][1]
    assert [event.entry.msg for event in task.events(second) if event.entry] == ["INPROGRESS -> DONE"]

    async def run() -> list[str]:
        async with awaited as client:
            return [event.kind async for event in (await client.tasks.get(task.id)).events()]

    assert asyncio.run(run())[-1] == "end"
    task.delete()
    with pytest.raises(NotFoundError):
        next(task.events())


def test_events_go_on_behind_the_last_one_after_a_lost_connection(through: Longshore, gateway: Gateway) -> None:
    task = through.exports.create("users").wait(60)
    gateway.faults = ["silent", "refuse", ""]
    kinds = [event.kind for event in task.events()]
    assert kinds.count("log") == 3
    assert kinds[-1] == "end"


def test_task_is_changed_and_deleted(longshore: Longshore) -> None:
    task = longshore.exports.create("users", at=FUTURE, desc="before")
    changed = task.change(desc="after", target={**task.data.target, "export_format": "jsonl"})
    assert changed is task
    assert (task.data.desc, task.data.target["export_format"]) == ("after", "jsonl")
    assert task.change(trigger={"cron": "0 3 1 1 *"}).data.trigger == {"cron": "0 3 1 1 *"}
    task.delete()
    with pytest.raises(NotFoundError):
        task.refresh()


def test_task_of_another_action_is_created_with_a_target_in_the_form_of_the_api(longshore: Longshore) -> None:
    target = {"action": "export", "export_index": "users", "export_format": "csv"}
    key = f"{uuid.uuid4()}"
    task = longshore.tasks.create(target, desc="by hand", idempotency_key=key)
    assert task.data.desc == "by hand"
    assert longshore.tasks.create(target, desc="by hand", idempotency_key=key).id == task.id
    task.wait(60)


def test_request_sends_what_has_no_method(longshore: Longshore) -> None:
    task = longshore.exports.create("users", at=FUTURE)
    assert longshore.request("get", f"/tasks/{task.id}", params={"log_limit": 0})["id"] == task.id
    assert longshore.request("DELETE", f"/tasks/{task.id}") is None
    with pytest.raises(NotFoundError):
        longshore.request("GET", f"/tasks/{task.id}")


def test_now_is_by_the_clock_of_the_service(longshore: Longshore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = datetime.now(UTC)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # noqa: ARG003
            return real + timedelta(hours=1)

    monkeypatch.setattr("datetime.datetime", Ahead)
    monkeypatch.setattr(time, "time", (real + timedelta(hours=1)).timestamp)
    once = longshore.exports.create("users")
    assert once.wait(60).state.code == "DONE"
    assert once.runs()[0].interval is not None
    daily = longshore.exports.create("users", repeat="daily", timezone="Europe/Amsterdam")
    begins = datetime.fromisoformat(daily.data.trigger["once"])
    assert abs(begins - real) < timedelta(minutes=3)
    daily.wait(60).cancel()


def test_next_times_of_a_schedule_are_shown_before_it_is_created(longshore: Longshore) -> None:
    first, second = longshore.tasks.preview_schedule(cron="0 3 * * *", timezone="Europe/Amsterdam")[:2]
    assert second - first in (timedelta(hours=hours) for hours in (23, 24, 25))
    assert longshore.tasks.preview_schedule(at=FUTURE, repeat="weekly")[:2] == [FUTURE, FUTURE + timedelta(days=7)]


def test_addresses_of_results_are_given_out_listed_and_ended(longshore: Longshore) -> None:
    task = longshore.exports.create("users").wait(60)
    url = task.download_url(1, seconds=60, max_uses=5)
    assert httpx2.get(url).status_code == 200
    [link] = task.links()
    assert (link.run, link.uses, link.max_uses, link.active) == (1, 1, 5, True)
    task.revoke_link(link.id)
    assert not task.links(limit=None)[0].active
    assert httpx2.get(url).status_code in (403, 410)


def test_webhooks_are_made_listed_and_deleted(service: services.Longshore) -> None:
    with Longshore(service.address, service.token(Level.WRITE, SMALL_CHAIN), chain=SMALL_CHAIN) as client:
        made = client.webhooks.create("http://127.0.0.1:9/hook", events=["task.error", "delivery.failed"])
        assert made.secret.startswith("whsec_")
        assert made.secret not in repr(made)
        found = next(one for one in client.webhooks.iterate() if one.id == made.id)
        assert set(found.events) == {"task.error", "delivery.failed"}
        again = client.webhooks.new_secret(made.id)
        assert again.secret != made.secret
        assert client.webhooks.enable(made.id).disabled is None
        assert client.webhooks.deliveries(made.id) == []
        client.webhooks.delete(made.id)
        with pytest.raises(NotFoundError):
            client.webhooks.delete(made.id)


def test_shares_of_the_chain_are_listed(longshore: Longshore) -> None:
    assert isinstance(longshore.shares.list(), list)
    profile = longshore.shares.profile()
    assert profile.endpoint.startswith("http")
    assert profile.bearer_token not in repr(profile)


def test_lists_page_by_themselves_and_may_change_meanwhile(
    longshore: Longshore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longshore.client.blocking.resource.PAGE", 3)
    target = {"action": "export", "export_index": "users", "export_format": "csv"}
    made = [longshore.tasks.create(target, {"once": FUTURE}, desc="many").id for _ in range(10)][::-1]

    def mine(limit: int = 10) -> list[int]:
        return [task.id for task in islice(longshore.tasks.iterate(status="READY"), limit)]

    assert mine() == made
    assert [task.id for task in longshore.tasks.list(status="READY", limit=7)] == made[:7]
    assert [task.id for task in longshore.tasks.list(status="READY", limit=7, offset=2)] == made[2:9]
    assert longshore.tasks.list(limit=0) == []
    assert set(made) <= {task.id for task in longshore.tasks.list(limit=None)}
    seen = []
    for task in longshore.tasks.iterate(status="READY"):  # new ones come first, and push the others down
        seen.append(task.id)
        if len(seen) in (2, 5):
            longshore.tasks.create(target, {"once": FUTURE}, desc="later")
        if len(seen) == 10:
            break
    assert seen == made
    deleted = []
    for task in longshore.tasks.iterate(status="READY"):  # deleted ones let the others come up
        if task.data.desc in ("many", "later"):
            task.delete()
            deleted.append(task.id)
    assert set(made) <= set(deleted)
    assert len(deleted) == len(set(deleted)) == 12


def test_result_is_read_in_batches(longshore: Longshore, awaited: AsyncLongshore) -> None:
    task = longshore.exports.create("wallet-ledger", format="parquet", fields=["id", "kind"]).wait(60)
    batches = list(task.batches(rows=300))
    assert sum(batch.num_rows for batch in batches) == ROWS
    assert max(batch.num_rows for batch in batches) <= 300
    assert batches[0].schema.names == ["id", "kind"]
    parts = longshore.exports.create(
        "wallet-ledger", format="parquet", fields=["id", "kind"], partition_by=[{"field": "kind"}]
    ).wait(60)
    assert sum(batch.num_rows for batch in parts.batches()) == ROWS

    async def run() -> int:
        async with awaited as client:
            found = await client.tasks.get(task.id)
            return sum([batch.num_rows async for batch in found.batches(500)])

    assert asyncio.run(run()) == ROWS
    with pytest.raises(ClientError, match="format='parquet'"):
        next(longshore.exports.create("users").batches())


def test_result_becomes_a_frame_of_polars_where_that_is_installed(longshore: Longshore) -> None:
    task = longshore.exports.create("wallet-ledger", format="parquet", fields=["id", "amount"]).wait(60)
    try:
        import polars
    except ImportError:
        with pytest.raises(ClientError, match="pip install polars"):
            task.to_polars()
        return
    frame = task.to_polars()
    assert frame.height == ROWS
    assert frame.schema["amount"].is_decimal()
    assert isinstance(frame, polars.DataFrame)


@pytest.fixture
def admin(service: services.Longshore) -> Longshore:
    return Longshore(service.address, service.token(Level.ADMIN, SMALL_CHAIN), chain=SMALL_CHAIN)


def test_wait_after_deliver_waits_for_the_deliveries(admin: Longshore) -> None:
    name = f"shelf-{uuid.uuid4().hex[:12]}"
    shelf = admin.destinations.create(name, "memory", {"shelf": "top"}, {"password": "another one"})
    task = admin.exports.create("users", deliver=[{"destination": name}])
    with pytest.raises(TaskFailedError, match="the password is wrong"):
        task.wait(60)
    task.deliver(1)
    with pytest.raises(TaskFailedError, match=f"delivery to {name} failed"):
        task.wait(60)
    admin.destinations.change(shelf.id, secret={"password": PASSWORD})
    task.deliver(1)
    assert task.wait(60).state.code == "DONE"
    assert task.deliveries(1)[0].state == "delivered"


def test_wait_after_a_failed_delivery_waits_for_the_task_alone(admin: Longshore) -> None:
    name = f"shelf-{uuid.uuid4().hex[:12]}"
    shelf = admin.destinations.create(name, "memory", {"shelf": "top"}, {"password": PASSWORD})
    task = admin.exports.create("users", deliver=[{"destination": name}]).wait(60)
    admin.destinations.change(shelf.id, secret={"password": "another one"})
    task.deliver(1)
    with pytest.raises(TaskFailedError, match=f"delivery to {name} failed"):
        task.wait(60)
    assert task.wait(60).state.code == "DONE"
    task.deliver(1)
    task.change(target={key: value for key, value in task.data.target.items() if key != "deliver"})
    assert task.execute().wait(60).state.code == "DONE"


def test_wait_goes_on_without_the_progress_that_its_token_may_not_see(
    service: services.Longshore, longshore: Longshore
) -> None:
    task = longshore.exports.create("users").wait(60)
    limited = service.token(Level.WRITE, SMALL_CHAIN, Scope(hidden_columns=["users.phone_number"]))
    reported: list[Progress] = []
    with Longshore(service.address, limited, chain=SMALL_CHAIN) as client:
        with pytest.raises(ForbiddenError):
            client.tasks.get(task.id).progress()
        assert client.tasks.get(task.id).wait(60, on_progress=reported.append).state.code == "DONE"
    assert reported == []


def test_bar_is_redrawn_on_a_terminal_and_a_log_gets_lines(
    longshore: Longshore, capsys: pytest.CaptureFixture[str]
) -> None:
    task = longshore.exports.create("wallet-ledger").wait(60, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert lines[-1].startswith(f"task {task.id}  ")
    assert "2,000 rows" in lines[-1]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    with ProgressBar("task 7", "rows", shown) as bar:
        bar.update(0, None)
        bar.update(50, 100)
        bar.update(100, 100)
    text = shown.getvalue()
    assert text.count("\r") == 2
    assert text.endswith("\n")
    assert "━" * 30 + "  100%  100 rows" in text


def test_retry_after_beyond_the_time_for_retries_is_not_waited_for(gateway: Gateway, token: str) -> None:
    gateway.faults = ["refuse"] * 3
    began = time.monotonic()
    with Longshore(gateway.address, token, chain=SMALL_CHAIN, retry_for=0.9) as hasty, pytest.raises(ProblemError):
        hasty.tasks.list()
    assert time.monotonic() - began < 5
    assert len(gateway.seen) == 1


def test_wait_with_a_timeout_does_not_retry_for_longer(longshore: Longshore, token: str) -> None:
    task = longshore.exports.create("users", at=FUTURE)
    with Longshore(f"http://127.0.0.1:{free_port()}", token, chain=SMALL_CHAIN) as away:
        task._transport = away._transport
        began = time.monotonic()
        with pytest.raises(NoAnswerError):
            task.wait(1)
        assert time.monotonic() - began < 10


def test_wait_whose_last_request_fails_when_its_time_is_over_has_timed_out(
    longshore: Longshore, gateway: Gateway, through: Longshore
) -> None:
    task = through.tasks.get(longshore.exports.create("users", at=FUTURE).id)
    gateway.faults = ["", *["refuse"] * 20]
    with pytest.raises(WaitTimeoutError, match=r"cannot be polled again within the 0\.5 s of"):
        task.wait(0.5)


def test_client_of_an_event_loop_that_has_ended_says_so(service: services.Longshore, token: str) -> None:
    client = AsyncLongshore(service.address, token, chain=SMALL_CHAIN)
    asyncio.run(client.tasks.list(limit=1))
    for _ in range(2):
        try:
            asyncio.run(client.tasks.list(limit=1))
        except ClientError as error:
            assert "event loop" in str(error)


def test_downloaded_file_takes_its_progress_to_a_bar(
    longshore: Longshore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    updates: list[int] = []
    task = longshore.exports.create("wallet-ledger", where=F("amount") > 0).wait(60)
    file = task.download(tmp_path, lambda done, _: updates.append(done), progress=True)
    assert updates[-1] == file.stat().st_size
    assert f"{updates[-1]:,} bytes" in capsys.readouterr().err
