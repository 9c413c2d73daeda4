"""A source whose host vanishes without a word does not keep an export for ever (promise 7)."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.faults.conftest import Create
from tests.faults.held import ROWS, Hold, assert_whole, messages
from tests.faults.network import Network
from tests.service import Longshore, ended, listens
from tests.waiting import until

HOST, PORT = "source", 5432


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def far_source(service: Longshore, network: Network) -> str:
    """The address of the source on a host of its own."""
    host = network.add(HOST)
    program, path = Path(__file__).with_name("relay.py"), service.data / "postgres" / f".s.PGSQL.{PORT}"
    command, log = [sys.executable, str(program), str(PORT), str(path)], service.data / "relay.log"
    network.start(HOST, *command, log=log, environment=dict(os.environ))
    until(lambda: listens(host, PORT), "the far source")
    return f"postgresql://postgres@{host}:{PORT}/postgres"


def test_export_whose_source_stops_answering_is_retried(
    service: Longshore, client: httpx2.Client, create: Create, network: Network, far_source: str
) -> None:
    worker = service.start("worker", source_url=far_source)
    with Hold.row(service, ROWS // 2) as hold:
        task = create()
        hold.reached()
        network.cut(HOST)
        until(lambda: len(client.get(f"/tasks/{task}").json()["logs"]) > 1, "the silence to be noticed", 40)
        network.mend(HOST)
    found = ended(client, task)
    assert messages(found)[1].startswith("attempt 1 failed: the connection to the source was lost (")
    assert_whole(service, client, found)
    worker.terminate()
    assert worker.wait(20) == 0
