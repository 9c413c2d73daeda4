"""A source whose host vanishes without a word does not keep an export for ever (promise 7)."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.faults.conftest import Create
from tests.faults.held import ROWS, Hold, assert_whole, messages, until
from tests.service import Longshore, ended

# Names and addresses of this process, so that two runs on one machine do not meet.
NUMBER = os.getpid()
NET = f"10.213.{NUMBER // 64 % 256}"
HERE, THERE, PORT = f"{NET}.{NUMBER % 64 * 4 + 1}", f"{NET}.{NUMBER % 64 * 4 + 2}", 5432
ROOM, NEAR, FAR = f"longshore-{NUMBER}", f"ls{NUMBER}", f"lsf{NUMBER}"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def answers() -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((THERE, PORT)) == 0


@pytest.fixture
def far_source(service: Longshore) -> Iterator[str]:
    """The address of the source on a host of its own, which is a network namespace at the end of a cable."""
    if shutil.which("ip") is None:
        pytest.skip("a network cannot be made here: there is no program ip")
    try:
        ip("netns", "add", ROOM)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a network cannot be made here: {error.stderr.decode().strip()}")
    relay = None
    try:
        ip("link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", ROOM)
        ip("addr", "add", f"{HERE}/30", "dev", NEAR)
        ip("link", "set", NEAR, "up")
        ip("-n", ROOM, "addr", "add", f"{THERE}/30", "dev", FAR)
        ip("-n", ROOM, "link", "set", FAR, "up")
        program, path = Path(__file__).with_name("relay.py"), service.data / "postgres" / f".s.PGSQL.{PORT}"
        command = [sys.executable, str(program), str(PORT), str(path)]
        relay = subprocess.Popen(["ip", "netns", "exec", ROOM, *command])
        until(answers, "the far source")
        yield f"postgresql://postgres@{THERE}:{PORT}/postgres"
    finally:
        if relay:
            relay.kill()
            relay.wait()
        ip("netns", "del", ROOM)


def test_an_export_whose_source_falls_silent_is_tried_again(
    service: Longshore, client: httpx2.Client, create: Create, far_source: str
) -> None:
    worker = service.start("worker", source_url=far_source)
    with Hold.row(service, ROWS // 2) as hold:
        task = create()
        hold.reached()
        ip("-n", ROOM, "link", "set", FAR, "down")
        until(lambda: len(client.get(f"/tasks/{task}").json()["logs"]) > 1, "the silence to be noticed", 40)
        ip("-n", ROOM, "link", "set", FAR, "up")
    found = ended(client, task)
    assert messages(found)[1].startswith("attempt 1 failed: the connection to the source was lost (")
    assert_whole(service, client, found)
    worker.terminate()
    assert worker.wait(20) == 0
