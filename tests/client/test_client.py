"""The client does the main job against a real service, blocking and awaited alike."""

import asyncio
import hashlib
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars
import pyarrow as pa
import pytest

from longshore import AsyncLongshore, F, Longshore
from longshore.client import (
    BadRequestError,
    ClientError,
    ConflictError,
    ForbiddenError,
    NoAnswerError,
    NotFoundError,
    Task,
    TaskFailedError,
    UnauthorizedError,
    WaitTimeoutError,
)
from longshore.client.model import LogEntry, Progress
from longshore.exports.verify import verify
from tests import service as services
from tests.conftest import SMALL_CHAIN
from tests.service import free_port
from tests.waiting import until

FUTURE = datetime(2099, 1, 1, tzinfo=UTC)
ROWS = 2_000


def test_an_export_is_created_waited_for_and_downloaded(longshore: Longshore, tmp_path: Path) -> None:
    task = longshore.exports.create("wallet-ledger", desc="mine", debug="note")
    assert (task.data.desc, task.data.debug, task.data.chain) == ("mine", "note", SMALL_CHAIN)
    assert task.wait(60) is task
    assert task.state.code == "DONE"
    file = task.download(tmp_path)
    assert file == tmp_path / f"Wallet_Export-{task.id}.csv"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == task.runs()[0].sha256
    assert list(tmp_path.iterdir()) == [file]
    named = task.download(tmp_path / "ledger.csv")
    assert named.read_bytes() == file.read_bytes()


def test_the_same_is_awaited(awaited: AsyncLongshore, tmp_path: Path) -> None:
    async def run() -> None:
        async with awaited as client:
            task = await client.exports.create("wallet-ledger", where=F("amount") > 0)
            assert (await task.wait(60)).state.code == "DONE"
            file = await task.download(tmp_path / "ledger.csv")
            [last, *_] = await task.runs()
            assert hashlib.sha256(file.read_bytes()).hexdigest() == last.sha256
            assert [entry.msg for entry in await task.logs()][-1] == "INPROGRESS -> DONE"
            assert task.id in [found.id for found in await client.tasks.list()]
            with pytest.raises(NotFoundError):
                await client.tasks.get(2**40)

    asyncio.run(run())


def test_many_tasks_are_awaited_at_the_same_time(awaited: AsyncLongshore, tmp_path: Path) -> None:
    async def one(client: AsyncLongshore, number: int) -> int:
        task = await client.exports.create("wallet-ledger", format="jsonl")
        await task.wait(60)
        file = await task.download(tmp_path / f"{number}.jsonl")
        return len(file.read_text(encoding="utf-8").splitlines())

    async def run() -> None:
        async with awaited as client:
            assert await asyncio.gather(*(one(client, number) for number in range(4))) == [ROWS] * 4

    asyncio.run(run())


def test_progress_and_log_are_shown_while_waiting(longshore: Longshore) -> None:
    reported: list[Progress] = []
    entries: list[LogEntry] = []
    task = longshore.exports.create("wallet-ledger").wait(60, on_progress=reported.append, on_log=entries.append)
    assert reported[-1].rows == ROWS
    assert [entry.msg for entry in entries] == ["READY -> INPROGRESS", "success", "INPROGRESS -> DONE"]
    assert entries == task.logs()


def test_waiting_ends_when_its_time_is_over(longshore: Longshore) -> None:
    task = longshore.exports.create("wallet-ledger", at=FUTURE)
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match="it is READY"):
        task.wait(1.5)
    assert time.monotonic() - began >= 1.5


def test_a_failed_task_raises_with_its_log(odd_values_service: services.Longshore) -> None:
    with Longshore(odd_values_service.address, odd_values_service.token(), chain=services.CHAIN) as client:
        missing = [index.name for index in client.indexes.list()][-1]
        with pytest.raises(TaskFailedError) as caught:
            client.exports.create(missing).wait(60)
    assert caught.value.task.state.code == "ERROR"
    assert caught.value.task.logs[-1].msg == "INPROGRESS -> ERROR"
    assert "does not exist" in str(caught.value)


def test_a_second_run_is_waited_for_and_not_the_first_seen_again(longshore: Longshore) -> None:
    task = longshore.exports.create("wallet-ledger").wait(60)
    for number in (2, 3):
        assert task.execute().wait(60).state.code == "DONE"
        assert task.runs(limit=1)[0].run == number


def test_parquet_comes_back_as_arrow_and_as_pandas(longshore: Longshore) -> None:
    task = longshore.exports.create("wallet-ledger", format="parquet", fields=["id", "amount", "timestamp"]).wait(60)
    table = task.to_arrow()
    assert table.num_rows == ROWS
    assert pa.types.is_decimal(table.schema.field("amount").type)
    frame = task.to_pandas()
    assert list(frame.columns) == ["id", "amount", "timestamp"]
    assert isinstance(frame["amount"].iloc[0], Decimal)
    assert frame["amount"].sum() == sum(table["amount"].to_pylist())


def test_parquet_comes_back_as_polars_with_exact_decimals(longshore: Longshore, awaited: AsyncLongshore) -> None:
    task = longshore.exports.create("wallet-ledger", format="parquet").wait(60)
    frame, table = task.to_polars(), task.to_arrow()
    assert frame.schema["amount"] == polars.Decimal(12, 2)
    assert frame["amount"].to_list() == table["amount"].to_pylist()
    assert frame["timestamp"].to_list() == table["timestamp"].to_pylist()

    async def again() -> polars.DataFrame:
        async with awaited as client:
            return await (await client.tasks.get(task.id)).to_polars()

    assert asyncio.run(again()).equals(frame)


def test_raw_answer_has_status_header_fields_and_body_whatever_its_status(
    longshore: Longshore, awaited: AsyncLongshore
) -> None:
    with longshore.stream("get", "/tasks", params={"limit": 1}, headers={"X-Request-Id": "mine"}) as answer:
        assert (answer.status, answer.headers["x-request-id"]) == (200, "mine")
        assert len(json.loads(b"".join(answer.chunks))) <= 1
    with longshore.stream("POST", "/tasks", {"desc": "no task"}) as answer:
        assert answer.status == 400
        assert json.loads(b"".join(answer.chunks))["errors"]

    async def status() -> tuple[int, bytes]:
        async with awaited as client, client.stream("GET", "/tasks/999999999") as answer:
            return answer.status, b"".join([chunk async for chunk in answer.chunks])

    code, body = asyncio.run(status())
    assert (code, json.loads(body)["status"]) == (404, 404)


def test_log_of_the_http_library_has_no_signature_of_a_download(
    longshore: Longshore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="httpx2")
    longshore.exports.create("users").wait(60).download(tmp_path)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "/results/" in line and "?… " in line]
    assert not [line for line in lines if "signature" in line]


def test_a_table_of_another_format_is_refused(longshore: Longshore) -> None:
    task = longshore.exports.create("wallet-ledger", at=FUTURE)
    with pytest.raises(ClientError, match="format='parquet'"):
        task.to_arrow()


def test_options_of_an_export_reach_the_service(longshore: Longshore) -> None:
    task = longshore.exports.create(
        "wallet-ledger", fields=["id", {"name": "amount", "as": "betrag"}], compression="gzip",
        csv={"delimiter": ";"}, incremental="on_ack", at=FUTURE,
    )  # fmt: skip
    assert task.data.trigger["once"] == "2099-01-01T00:00:00Z"
    assert task.data.target == {
        "action": "export", "export_index": "wallet-ledger", "export_format": "csv", "compression": "gzip",
        "fields": ["id", {"name": "amount", "as": "betrag"}], "csv": {"delimiter": ";"}, "incremental": "on_ack",
    }  # fmt: skip


def test_result_of_any_run_is_downloaded_with_its_manifest_and_signature(longshore: Longshore, tmp_path: Path) -> None:
    task = longshore.exports.create("products").wait(60)
    task.execute().wait(60)
    file = task.download(tmp_path / "first.csv", run=1, manifest=True)
    beside = sorted(path.name for path in tmp_path.iterdir())
    assert beside == ["first.csv", "first.csv.manifest.json", "first.csv.manifest.json.jws"]
    assert verify([file])[0].run == 1
    manifest, signature = (tmp_path / name for name in beside[1:])
    assert json.loads(manifest.read_bytes()) == task.manifest(1)
    assert signature.read_text() == task.signature(1) != task.signature(2)
    assert task.get_run(1).run == 1
    with pytest.raises(NotFoundError):
        task.download(tmp_path, run=3)


def test_many_files_come_with_their_manifest_and_its_signature(longshore: Longshore, tmp_path: Path) -> None:
    task = longshore.exports.create(["users", "products"]).wait(60)
    for run in (None, 1):
        manifest = task.download(tmp_path, run=run)
        assert verify([manifest])[0].run == 1
        signature = manifest.with_name(manifest.name + ".jws")
        assert signature.read_text() == task.signature(1)
        signature.unlink()


def test_an_increment_is_acknowledged(longshore: Longshore) -> None:
    task = longshore.exports.create("wallet-ledger", incremental="on_ack").wait(60)
    run = task.acknowledge(1)
    assert run.increment is not None
    assert run.increment["acknowledged"] is True


def test_stored_segments_are_kept_named_and_tried_out(longshore: Longshore) -> None:
    stored = longshore.segments.create("credits", "wallet-ledger", F("amount") > 0)
    assert longshore.segments.get(stored.id) == stored
    assert stored.id in [found.id for found in longshore.segments.list()]
    tried = longshore.segments.preview("wallet-ledger", F("amount") > 0, fields=["id"])
    task = longshore.exports.create("wallet-ledger", where=stored.id).wait(60)
    assert tried.rows == task.progress().rows
    longshore.segments.delete(stored.id)
    with pytest.raises(NotFoundError):
        longshore.segments.get(stored.id)


def test_a_problem_has_all_its_fields(longshore: Longshore) -> None:
    with pytest.raises(BadRequestError) as caught:
        longshore.exports.create("wallet", format="cvs")  # type: ignore[arg-type]
    error = caught.value
    assert (error.status, error.type, error.title) == (400, "/problems/bad-request", "The request cannot be used")
    assert {violation.pointer for violation in error.errors} == {"/target/export_index", "/target/export_format"}
    assert error.request_id
    assert error.request_id in str(error)
    assert 'did you mean "wallet-ledger"?' in str(error)


def test_each_kind_of_refusal_has_its_error(longshore: Longshore, service: services.Longshore, token: str) -> None:
    with pytest.raises(NotFoundError):
        longshore.tasks.get(2**40)
    with pytest.raises(NotFoundError, match="did you mean"):
        longshore.indexes.get("wallet-leger")
    with pytest.raises(ConflictError):
        longshore.exports.create("wallet-ledger", at=FUTURE).download()
    with Longshore(service.address, token[:-1], chain=SMALL_CHAIN) as stranger, pytest.raises(UnauthorizedError):
        stranger.tasks.list()
    with Longshore(service.address, token, chain=9) as other, pytest.raises(ForbiddenError):
        other.exports.create("wallet-ledger")


def test_the_same_key_creates_once(longshore: Longshore) -> None:
    key = f"{datetime.now(UTC)}"
    first = longshore.exports.create("wallet-ledger", idempotency_key=key)
    assert longshore.exports.create("wallet-ledger", idempotency_key=key).id == first.id
    with pytest.raises(BadRequestError) as caught:
        longshore.exports.create("wallet-ledger", format="json", idempotency_key=key)
    assert caught.value.status == 422
    with pytest.raises(ClientError, match="needs `at`"):
        longshore.exports.create("wallet-ledger", repeat="daily", idempotency_key=key)


def test_a_time_without_a_zone_is_refused_before_anything_is_sent(longshore: Longshore) -> None:
    with pytest.raises(ClientError, match="time zone"):
        longshore.exports.create("wallet-ledger", at=datetime.now() + timedelta(days=1))


def test_a_service_that_is_not_there_is_given_up() -> None:
    with (
        Longshore(f"http://127.0.0.1:{free_port()}", "x:y", chain=1, retry_for=0.3) as client,
        pytest.raises(NoAnswerError, match="cannot connect"),
    ):
        client.tasks.list()


def test_a_waiting_task_is_cancelled(longshore: Longshore) -> None:
    task = longshore.exports.create("wallet-ledger", at=FUTURE).cancel()
    assert isinstance(task, Task)
    assert task.state.ended
    with pytest.raises(TaskFailedError):
        task.wait(10)


def test_schedule_is_paused_resumed_and_backfilled(longshore: Longshore, tmp_path: Path) -> None:
    task = longshore.exports.create(
        "wallet-ledger", at=FUTURE, repeat="daily", timezone="Europe/Amsterdam", catch_up="all", until=FUTURE
    )
    assert task.data.trigger == {
        "once": "2099-01-01T00:00:00Z", "repeat": "daily", "timezone": "Europe/Amsterdam",
        "until": "2099-01-01T00:00:00Z", "catch_up": "all",
    }  # fmt: skip
    assert task.pause().progress().paused
    assert not task.resume("none").progress().paused
    first = datetime(2026, 5, 1, tzinfo=UTC)
    created = task.backfill(first, first + timedelta(days=1), idempotency_key=f"{task.id}")
    assert task.backfill(first, first + timedelta(days=1), idempotency_key=f"{task.id}") == created
    assert (created.id, created.runs) == (1, 1)
    until(lambda: task.backfills()[0].state == "DONE", "the backfill to end")
    assert (task.backfills()[0].done, task.latest_run().run) == (1, 1)
    assert task.refresh().download(tmp_path).exists()
    task.end_backfill(1)
    with pytest.raises(NotFoundError):
        task.end_backfill(2)
    with pytest.raises(BadRequestError):
        task.backfill(first, first)
    with pytest.raises(ClientError, match="time zone"):
        task.backfill(datetime(2026, 5, 1), first)
    task.cancel()
    with pytest.raises(ConflictError):
        task.resume()


def test_export_by_cron_has_no_first_time_unless_one_is_given(longshore: Longshore) -> None:
    task = longshore.exports.create("wallet-ledger", cron="0 3 1 1 *", timezone="Asia/Tokyo")
    assert task.data.trigger == {"cron": "0 3 1 1 *", "timezone": "Asia/Tokyo"}
    task.cancel()


def test_importing_the_package_imports_neither_client_nor_http_library() -> None:
    code = (
        "import sys, longshore; print('longshore.client' in sys.modules, longshore.Longshore.__name__,"
        " 'httpx2' in sys.modules, 'asyncio' in sys.modules, 'longshore.client.asynchronous' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False Longshore False False False\n"


def test_the_client_imports_nothing_of_the_other_rooms() -> None:
    code = "import sys, longshore.client; print(*sorted(n for n in sys.modules if n.startswith('longshore.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name.startswith("longshore.client") for name in done.stdout.split())
