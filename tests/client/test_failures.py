"""Transient errors are retried where that is safe; a service that dies costs time alone."""

import hashlib
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from longshore import Longshore
from longshore.access.tokens import Level
from longshore.client import DownloadError, NoAnswerError, ProblemError
from longshore.client.retry import retry_after
from tests import service as services
from tests.client.gateway import Gateway


def test_retry_after_is_honoured(gateway: Gateway, through: Longshore) -> None:
    gateway.faults = ["refuse", "refuse"]
    began = time.monotonic()
    through.tasks.list()
    assert time.monotonic() - began >= 2
    assert len(gateway.seen) == 3


def test_retry_after_may_be_seconds_or_a_date() -> None:
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) > 1e9
    assert retry_after({"retry-after": "Fri, 01 Jan 2010 00:00:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) == retry_after({}) == 0
    assert retry_after({"retry-after": "Fri, 01 Jan 99999999999999999999 00:00:00 GMT"}) == 0


def test_reading_is_repeated_when_the_answer_is_lost(gateway: Gateway, through: Longshore) -> None:
    gateway.faults = ["silent", "lose", "silent"]
    assert through.indexes.get("wallet-ledger").name == "wallet-ledger"
    assert gateway.seen == ["GET /indexes/wallet-ledger"] * 4


def test_a_refused_creation_is_repeated_and_creates_one_task(gateway: Gateway, through: Longshore) -> None:
    before = through.tasks.list(limit=1)
    gateway.faults = ["refuse"]
    created = through.exports.create("wallet-ledger")
    assert [task.id for task in through.tasks.list(limit=2)] == [created.id, *(task.id for task in before)]


def test_a_creation_whose_answer_is_lost_creates_one_task(gateway: Gateway, through: Longshore) -> None:
    before = [task.id for task in through.tasks.list(limit=1)]
    gateway.faults = ["lose"]
    created = through.exports.create("wallet-ledger")
    assert [task.id for task in through.tasks.list(limit=2)] == [created.id, *before]


def test_address_without_longshore_is_reported(gateway: Gateway, through: Longshore) -> None:
    gateway.faults = ["garble"]
    with pytest.raises(NoAnswerError, match="not Longshore's"):
        through.tasks.list()


def test_retries_end(gateway: Gateway, token: str) -> None:
    gateway.faults = ["refuse"] * 20
    with (
        Longshore(gateway.address, token, chain=1765, retry_for=0.5) as hasty,
        pytest.raises(ProblemError) as caught,
    ):
        hasty.tasks.list()
    assert (caught.value.status, caught.value.request_id) == (503, "gateway")


def test_a_part_of_the_same_content_is_gone_on_with(longshore: Longshore, tmp_path: Path) -> None:
    task = longshore.exports.create("wallet-ledger").wait(60)
    whole = task.download(tmp_path).read_bytes()
    name, digest = "again.csv", hashlib.sha256(whole).hexdigest()
    part = tmp_path / f".{name}.{digest[:16]}.part"
    part.write_bytes(whole[:100_000])
    reported: list[int] = []
    file = task.download(tmp_path / name, on_bytes=lambda there, _: reported.append(there))
    assert file.read_bytes() == whole
    assert reported[0] > 100_000
    assert not part.exists()


@pytest.mark.parametrize("spoilt", [b"x" * 100_000, b"x" * 10_000_000])
def test_a_spoilt_part_is_thrown_away(longshore: Longshore, tmp_path: Path, spoilt: bytes) -> None:
    task = longshore.exports.create("wallet-ledger").wait(60)
    digest = task.runs()[0].sha256 or ""
    (tmp_path / f".x.csv.{digest[:16]}.part").write_bytes(spoilt)
    file = task.download(tmp_path / "x.csv")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_not_what_the_run_recorded_is_not_shown(
    longshore: Longshore, service: services.Longshore, tmp_path: Path
) -> None:
    task = longshore.exports.create("wallet-ledger").wait(60)
    stored = next(path for path in service.files() if path.name == task.result)
    content = stored.read_bytes()
    stored.chmod(0o600)
    stored.write_bytes(b"X" + content[1:])
    with pytest.raises(DownloadError, match="SHA-256"):
        task.download(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def second(service: services.Longshore) -> Iterator[services.Longshore]:
    """Another API of the shared service, for a test to kill."""
    opened = services.Longshore(service.data, service.url)
    opened.log_file = service.data / "second.log"
    yield opened
    opened.stop()


def test_a_service_that_dies_during_wait_and_download_costs_time_alone(
    second: services.Longshore, tmp_path: Path
) -> None:
    api = [second.start_api()]
    deaths: list[str] = []

    def die(while_it: str) -> None:
        if while_it in deaths:
            return
        deaths.append(while_it)
        children = psutil.Process(api[-1].pid).children(recursive=True)
        api[-1].kill()  # first, as it would start the others again
        api[-1].wait()
        for child in children:
            child.kill()
            child.wait()
        api.append(second.start_api())

    with Longshore(second.address, second.token(Level.WRITE), chain=services.CHAIN) as client:
        task = client.exports.create("wallet-ledger", format="json", at=datetime.now(UTC) + timedelta(seconds=2))
        assert task.state.code == "READY"
        task.wait(90, on_progress=lambda _: die("wait"))
        reported: list[int] = []

        def loading(there: int, _: int) -> None:
            reported.append(there)
            die("download")

        file = task.download(tmp_path / "ledger.json", on_bytes=loading)
        run = task.runs()[0]
    assert deaths == ["wait", "download"]
    assert reported == sorted(set(reported))  # nothing was fetched twice
    assert file.stat().st_size == run.bytes > 10 * reported[0]  # more than the buffers of a connection hold
    assert hashlib.sha256(file.read_bytes()).hexdigest() == run.sha256
    resumed = re.compile(r'"path":"/results/[^}]*"status":206')
    deadline = time.monotonic() + 20
    while not resumed.search(second.log_file.read_text()):  # it is logged once the last byte was sent
        assert time.monotonic() < deadline, second.log_file.read_text()[-2000:]
        time.sleep(0.05)
