"""A machine whose clock is an hour off works like any other: all times are the database's."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen

import httpx2
import libfaketime
import pytest

from longshore.access.tokens import Level
from tests.access.users import new_user
from tests.faults.conftest import Create
from tests.faults.held import ROWS, UNDISTURBED, Hold, assert_whole, messages
from tests.results.test_bucket import DONE_RUN
from tests.service import CHAIN, Longshore, ended, export_body
from tests.waiting import until

LIBRARY = next(Path(libfaketime.__file__).parent.rglob("libfaketime.so.1"))
SILENCE = "3"  # seconds until a worker counts as lost
HELD = 7.0  # seconds, in which none may seem lost


@pytest.fixture
def start_wrong(service: Longshore, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Popen[bytes]]:
    def start(off: str) -> Popen[bytes]:
        with monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(LIBRARY))
            patch.setenv("FAKETIME", off)
            patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            return service.start("worker", heartbeat_timeout=SILENCE)

    return start


@pytest.mark.parametrize("off", ["-1h", "+1h"])
def test_worker_whose_clock_is_an_hour_off_is_not_lost(
    service: Longshore, client: httpx2.Client, create: Create, start_wrong: Callable[[str], Popen[bytes]], off: str
) -> None:
    """The worker that is behind beats in the past, the one that is ahead looks at others from the future."""
    log = service.log_file.stat().st_size
    before = datetime.now(UTC) - timedelta(minutes=1)
    holds = start_wrong(off) if off == "-1h" else service.start("worker", heartbeat_timeout=SILENCE)
    with Hold.row(service, ROWS // 2) as hold:
        tasks = [create(), create()]
        hold.reached(2)
        ready = service.log_file.read_text().count("worker ready")
        joins = service.start("worker", heartbeat_timeout=SILENCE) if off == "-1h" else start_wrong(off)
        until(lambda: service.log_file.read_text().count("worker ready") > ready, "the one that joins")
        time.sleep(HELD)
    for task in tasks:
        found = ended(client, task)
        assert messages(found) == UNDISTURBED
        for entry in found["logs"]:
            assert before < datetime.fromisoformat(entry["time"]) < datetime.now(UTC) + timedelta(minutes=1)
        assert_whole(service, client, found)
    # That its clock was off indeed is seen in its own log.
    times = re.findall(r'"timestamp":"([^"]+)"', service.log_file.read_text()[log:])
    assert any(abs(datetime.fromisoformat(at) - datetime.now(UTC)) > timedelta(minutes=50) for at in times)
    for worker in (holds, joins):
        worker.terminate()
        assert worker.wait(30) == 0


@pytest.fixture
def hour_ahead(idle_service: Longshore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Longshore]:
    """An API whose clock is an hour ahead of its database's."""
    for name, value in (("LD_PRELOAD", str(LIBRARY)), ("FAKETIME", "+1h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")):
        monkeypatch.setenv(name, value)
    ahead = Longshore(idle_service.data, idle_service.url)
    try:
        ahead.start_api()
        yield ahead
    finally:
        ahead.stop()


def test_api_whose_clock_is_an_hour_ahead_creates_a_token_that_expires_in_half_an_hour(hour_ahead: Longshore) -> None:
    with hour_ahead.client(Level.ADMIN) as admin:
        made = admin.post("/service_clients", json={"name": "half an hour"}).json()
        expires = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
        body = {"client_id": made["id"], "level": "read", "expires": expires}
        answer = admin.post("/access_tokens", json=body)
    assert answer.status_code == 201, answer.text


def test_api_whose_clock_is_an_hour_ahead_answers_its_new_download_addresses(hour_ahead: Longshore) -> None:
    with hour_ahead.client() as client:
        task = client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
        file = hour_ahead.data / "results" / f"{CHAIN}/{task}/1/Wallet_Export.csv"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"id\n1\n")
        hour_ahead.sql(DONE_RUN, task, str(file.relative_to(hour_ahead.data / "results")))
        hour_ahead.sql("update longshore.runs set rows = 1, bytes = 5, sha256 = '' where task_id = $1", task)
        for seconds in (60, 3600):
            url = client.get(f"/tasks/{task}/download_url", params={"expires_in": seconds}).json()["url"]
            assert httpx2.get(url).content == b"id\n1\n"
        client.delete(f"/tasks/{task}")


def test_export_of_the_console_is_due_at_once_though_the_clock_of_the_api_is_an_hour_ahead(
    hour_ahead: Longshore,
) -> None:
    with new_user(hour_ahead, _1764=Level.WRITE).client() as user:
        for repeat in ({}, {"repeat": "daily"}):
            form = {"index": "users", "format": "csv", "desc": "now", "when": "now", **repeat}
            answer = user.post("/console/1764/new", data=form)
            assert answer.status_code == 303, answer.text
            task = int(answer.headers["location"].rpartition("/")[2])
            [row] = hour_ahead.sql("select due_at, next_due_at, now() from longshore.tasks where id = $1", task)
            assert row["due_at"] is None or row["due_at"] <= row["now"], "it is queued, or about to be"
