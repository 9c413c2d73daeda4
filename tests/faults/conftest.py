"""A service to break: its own PostgreSQL, a source that can be held, and an API. Workers are for the tests to start."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias

import httpx2
import pytest

from tests.faults.held import write_source
from tests.service import Longshore, database_in, export_body

HEARTBEAT_TIMEOUT = "1"  # seconds, the least that can be set

Create: TypeAlias = Callable[[], int]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    data = tmp_path_factory.mktemp("faults")
    with ExitStack() as stack:
        url = stack.enter_context(database_in(data))
        # Two tasks of the chain run at a time, on any number of cores.
        several = {"chain_tasks": "2", "catalog": str(data / "catalog.toml")}
        longshore = Longshore(data, url, heartbeat_timeout=HEARTBEAT_TIMEOUT, **several)
        stack.callback(longshore.stop)
        write_source(longshore)
        longshore.start_api()
        yield longshore


@pytest.fixture(scope="module", autouse=True)
def clean(service: Longshore) -> Iterator[None]:
    """End the workers and delete the tasks that failed tests of a file leave behind."""
    yield
    for worker in service.processes[1:]:
        worker.kill()
        worker.wait()
    service.sql("truncate longshore.tasks, longshore.pgqueuer cascade")


@pytest.fixture
def by_hand(service: Longshore) -> Iterator[Longshore]:
    """The service without a worker, for tests that play one; what they leave unfinished is removed."""
    yield service
    service.sql("truncate longshore.tasks, longshore.pgqueuer cascade")


@pytest.fixture
def client(service: Longshore) -> Iterator[httpx2.Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def create(client: httpx2.Client) -> Create:
    """Creates an export that is due now, and gives its id."""

    def create() -> int:
        answer = client.post("/tasks", json=export_body())
        assert answer.status_code == 201, answer.text
        task: int = answer.json()["id"]
        return task

    return create
