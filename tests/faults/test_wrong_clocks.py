"""A machine whose clock is an hour off works like any other: all times are the database's."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen

import httpx2
import libfaketime
import pytest

from longshore.access.tokens import Level
from tests.faults.conftest import Create
from tests.faults.held import ROWS, UNDISTURBED, Hold, assert_whole, messages
from tests.service import Longshore, ended
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


def test_api_whose_clock_is_an_hour_ahead_creates_a_token_that_expires_in_half_an_hour(
    idle_service: Longshore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LD_PRELOAD", str(LIBRARY)), ("FAKETIME", "+1h"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")):
        monkeypatch.setenv(name, value)
    ahead = Longshore(idle_service.data, idle_service.url)
    try:
        ahead.start_api()
        with ahead.client(Level.ADMIN) as admin:
            made = admin.post("/service_clients", json={"name": "half an hour"}).json()
            expires = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
            body = {"client_id": made["id"], "level": "read", "expires": expires}
            answer = admin.post("/access_tokens", json=body)
        assert answer.status_code == 201, answer.text
    finally:
        ahead.stop()
