"""An export that several workers write: a lost worker costs its shards, a lost coordinator restarts it."""

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.faults.conftest import Create
from tests.faults.held import CATALOG, ROWS, TAKEN_OVER, UNDISTURBED, Hold, assert_whole, cut_off, files_of, messages
from tests.service import Longshore, ended
from tests.waiting import until

SHARDS = 3
SILENCE = "3"  # seconds until a worker counts as lost
SHARD_ROWS = "1500"  # PostgreSQL guesses that a third of the rows pass
STANDING = "select number, state, trial, failures from longshore.shards order by number"
ATTEMPT = "select attempt from longshore.tasks where id = $1"


class LoggedWorker:
    """A worker with a log of its own, so that it can be told what it did."""

    def __init__(self, service: Longshore, log: Path, **settings: str) -> None:
        usual = service.log_file
        service.log_file = self.log = log
        own = {"shard_rows": SHARD_ROWS, "heartbeat_timeout": SILENCE}
        self.process: subprocess.Popen[bytes] = service.start("worker", **own, **settings)
        service.log_file = usual

    @property
    def coordinates(self) -> bool:
        return bool(re.search(r'^.*"action":"export".*"event":"run begins"', self.log.read_text(), re.MULTILINE))

    @property
    def shards(self) -> int:
        """How many shards it has begun."""
        return self.log.read_text().count('"event":"shard begins"')

    def kill(self) -> None:
        """Kill it without a warning."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def workers(service: Longshore, tmp_path: Path) -> Iterator[list[LoggedWorker]]:
    """Three workers, who have a shard each of what they cut into three."""
    found = [LoggedWorker(service, tmp_path / f"worker-{number}.log") for number in range(SHARDS)]
    for worker in found:
        until(lambda worker=worker: "worker ready" in worker.log.read_text(), "the workers")  # type: ignore[misc]
    yield found
    for worker in found:
        worker.kill()
    service.sql("truncate longshore.tasks, longshore.pgqueuer cascade")


@pytest.fixture
def holds(service: Longshore) -> Iterator[list[Hold]]:
    """Rows in all three shards are held, so that each shard is under way and none can end."""
    with (
        Hold.row(service, 100) as first,
        Hold.row(service, ROWS // 2) as second,
        Hold.row(service, ROWS - 100) as third,
    ):
        yield [first, second, third]


def release(holds: list[Hold]) -> None:
    for hold in holds:
        hold.release()


def split(workers: list[LoggedWorker]) -> tuple[LoggedWorker, LoggedWorker]:
    """The one that coordinates, and another one that has a shard: there is one, as none takes all three."""
    coordinator = next(worker for worker in workers if worker.coordinates)
    return coordinator, next(worker for worker in workers if worker is not coordinator and worker.shards)


def reached(service: Longshore, holds: list[Hold]) -> None:
    """How the shards stand, once all of them stand still."""
    for hold in holds:
        hold.reached()
    rows = service.sql(STANDING)
    assert [row["state"] for row in rows] == ["RUNNING"] * SHARDS, rows


def test_a_lost_worker_costs_its_shards_and_not_the_export(
    service: Longshore, client: httpx2.Client, create: Create, workers: list[LoggedWorker], holds: list[Hold]
) -> None:
    task = create()
    reached(service, holds)
    _coordinator, other = split(workers)
    other.kill()
    lost = other.shards
    release(holds)
    found = ended(client, task)
    assert messages(found) == UNDISTURBED
    assert_whole(service, client, found)
    assert service.sql(ATTEMPT, task)[0]["attempt"] == 1
    assert sum(worker.shards for worker in workers) == SHARDS + lost


def test_shard_without_worker_and_message_is_sent_again(
    service: Longshore, client: httpx2.Client, create: Create, workers: list[LoggedWorker], holds: list[Hold]
) -> None:
    task = create()
    reached(service, holds)
    _coordinator, other = split(workers)
    other.kill()
    service.sql("delete from longshore.pgqueuer where entrypoint = 'longshore.shard'")
    release(holds)
    found = ended(client, task)
    assert messages(found) == UNDISTURBED
    assert_whole(service, client, found)


def test_a_lost_coordinator_restarts_the_export(
    service: Longshore, client: httpx2.Client, create: Create, workers: list[LoggedWorker], holds: list[Hold]
) -> None:
    task = create()
    reached(service, holds)
    coordinator, _other = split(workers)
    coordinator.kill()
    release(holds)
    found = ended(client, task)
    assert messages(found) == TAKEN_OVER
    assert_whole(service, client, found)
    assert service.sql(STANDING) == []


def test_worker_that_shuts_down_returns_its_shards(
    service: Longshore, client: httpx2.Client, create: Create, workers: list[LoggedWorker], holds: list[Hold]
) -> None:
    task = create()
    reached(service, holds)
    _coordinator, other = split(workers)
    other.process.send_signal(signal.SIGTERM)
    assert other.process.wait(20) == 0
    assert "shard released" in other.log.read_text()
    assert not any(row["failures"] for row in service.sql(STANDING))
    release(holds)
    found = ended(client, task)
    assert messages(found) == UNDISTURBED
    assert_whole(service, client, found)


def test_stalled_worker_that_resumes_neither_repeats_nor_damages_a_shard(
    service: Longshore, client: httpx2.Client, create: Create, workers: list[LoggedWorker], holds: list[Hold]
) -> None:
    task = create()
    reached(service, holds)
    _coordinator, other = split(workers)
    other.process.send_signal(signal.SIGSTOP)
    release(holds)
    found = ended(client, task)
    other.process.send_signal(signal.SIGCONT)
    until(lambda: "outdated" in other.log.read_text(), "the stalled one to notice")
    assert messages(found) == UNDISTURBED
    assert_whole(service, client, found)


@pytest.mark.usefixtures("workers")
def test_a_connection_to_the_source_that_is_lost_costs_the_shard_that_read_from_it(
    service: Longshore, client: httpx2.Client, create: Create, holds: list[Hold]
) -> None:
    task = create()
    reached(service, holds)
    number = 1
    cut_off(service, holds[number].reached())
    until(lambda: service.sql(STANDING)[number]["failures"], "the failure to be told")
    release(holds)
    done = ended(client, task)
    assert messages(done) == UNDISTURBED
    assert_whole(service, client, done)


def test_a_worker_with_another_catalog_leaves_shards_to_the_others(
    service: Longshore, client: httpx2.Client, create: Create, tmp_path: Path
) -> None:
    for name, text in (
        ("fewer", CATALOG.replace("note = {", "remark = {")),
        ("other", CATALOG.replace('"faults.passes(id)"', '"faults.passes(id) and id > 0"')),
    ):
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    usual = LoggedWorker(service, tmp_path / "usual.log")
    strange: list[LoggedWorker] = []
    try:
        until(lambda: "worker ready" in usual.log.read_text(), "the worker")
        with Hold.source(service) as hold:
            task = create()
            hold.reached()  # so that it is the usual one that coordinates
            for name in ("fewer", "other"):
                strange.append(LoggedWorker(service, tmp_path / f"{name}.log", catalog=str(tmp_path / f"{name}.toml")))
            for worker in strange:
                until(lambda worker=worker: "worker ready" in worker.log.read_text(), "the workers")  # type: ignore[misc]
            with Hold.row(service, 100), Hold.row(service, ROWS // 2):  # which keeps the usual worker busy
                hold.release()
                until(
                    lambda: [worker for worker in strange if "shard released" in worker.log.read_text()], "the others"
                )
        found = ended(client, task)
        assert messages(found) == UNDISTURBED
        assert_whole(service, client, found)
        assert not [worker for worker in strange if "shard done" in worker.log.read_text()]
    finally:
        for worker in (usual, *strange):
            worker.kill()


@pytest.mark.usefixtures("workers")
def test_a_cancelled_export_ends_on_all_workers_and_leaves_nothing(
    service: Longshore, client: httpx2.Client, create: Create, holds: list[Hold]
) -> None:
    task = create()
    reached(service, holds)
    assert client.post(f"/tasks/{task}/cancel").status_code == 200
    until(lambda: not service.sql(STANDING), "the shards to be gone")
    for hold in holds:
        until(lambda hold=hold: not hold._waiters(), "the connections to be released")  # type: ignore[misc]
    until(lambda: not files_of(service, task), "the pieces to be gone")
    assert messages(client.get(f"/tasks/{task}").json())[-1] == "INPROGRESS -> ERROR"


@pytest.mark.usefixtures("workers")
def test_a_shard_that_fails_again_and_again_ends_the_attempt_with_its_reason(
    service: Longshore, client: httpx2.Client, create: Create, holds: list[Hold]
) -> None:
    task = create()
    reached(service, holds)
    number = 1
    for trial in range(1, 4):
        pids = until(
            lambda trial=trial: holds[number]._waiters() if _trial(service, number) == trial else None,  # type: ignore[misc]
            f"trial {trial}",
        )
        cut_off(service, pids)
    release(holds)
    done = ended(client, task)
    assert [text for text in messages(done) if f"shard {number + 1} of {SHARDS}" in text]
    assert_whole(service, client, done)


def _trial(service: Longshore, number: int) -> int:
    rows = service.sql(STANDING)
    return int(rows[number]["trial"]) if len(rows) > number else 0
