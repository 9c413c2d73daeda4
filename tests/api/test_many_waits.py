"""Many requests that wait at the same time, on one process of the API."""

import asyncio
import re
from collections.abc import Iterator

import httpx2
import pytest

from longshore.processes import raise_file_limit
from tests.service import Longshore, export_body, further_api
from tests.waiting import until

WAITS = 2000


@pytest.fixture
def roomy_service(idle_service: Longshore) -> Iterator[Longshore]:
    """A process of the API where one token may have all of these requests open."""
    raise_file_limit()
    with further_api(idle_service, "roomy", credential_open_requests=str(WAITS)) as longshore:
        yield longshore


def test_requests_that_wait_cause_no_collection_of_all_garbage_which_would_hold_the_others(
    roomy_service: Longshore,
) -> None:
    with roomy_service.client() as client:
        task = client.post("/tasks", json=export_body()).json()["id"]
    token = roomy_service.token()
    before = full_collections(roomy_service)
    asyncio.run(wait_together(roomy_service, task, token))
    assert full_collections(roomy_service) == before


async def wait_together(roomy_service: Longshore, task: int, token: str) -> None:
    """Wait for a task with many requests until all of them wait, then leave."""
    request = f"GET /tasks/{task}?wait=60 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    writers = []
    for number in range(WAITS):
        if number % 500 == 0:  # of one chain, 1,000 requests may queue for a connection
            await asyncio.to_thread(until_waiting, roomy_service, number)
        _, writer = await asyncio.open_connection("127.0.0.1", roomy_service.port)
        writer.write(request.encode())
        writers.append(writer)
    await asyncio.to_thread(until_waiting, roomy_service, WAITS)
    for writer in writers:
        writer.close()


def until_waiting(service: Longshore, number: int) -> None:
    until(lambda: metric(service, "longshore_waiters") >= number, "the requests to wait")


def full_collections(service: Longshore) -> float:
    return metric(service, 'python_gc_collections_total{generation="2"}')


def metric(service: Longshore, name: str) -> float:
    text = httpx2.get(f"{service.address}/metrics").text
    found = re.search(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])
