"""A machine whose clock is an hour off works like any other: all times are the database's."""

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import libfaketime
import pytest

from tests.faults.conftest import Create
from tests.faults.held import ROWS, UNDISTURBED, Hold, assert_whole, messages
from tests.service import Longshore, ended

LIBRARY = next(Path(libfaketime.__file__).parent.rglob("libfaketime.so.1"))
HELD = 2.5  # seconds; more than twice as long as a worker may be silent


@pytest.mark.parametrize("off", ["+1h", "-1h"])
def test_a_worker_whose_clock_is_an_hour_off_is_not_taken_for_lost_and_loses_nobody(
    service: Longshore, client: httpx2.Client, create: Create, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    log = service.log_file.stat().st_size
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(LIBRARY))
        patch.setenv("FAKETIME", off)
        patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        wrong = service.start("worker", worker_tasks="1")
    right = service.start("worker", worker_tasks="1")
    before = datetime.now(UTC) - timedelta(minutes=1)
    with Hold.row(service, ROWS // 2) as hold:
        tasks = [create(), create()]
        hold.reached()
        hold.reached(2)
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
    for worker in (wrong, right):
        worker.terminate()
        assert worker.wait(20) == 0
