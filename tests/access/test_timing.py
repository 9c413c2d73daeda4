"""Another chain's task and a missing one have one answer, after the same time."""

import statistics
import time

import httpx2

from tests.answers import problem
from tests.service import Longshore, export_body

REQUESTS = 2000  # of each kind
DIFFERENCE = 0.05
TRIES = 3  # the machine is shared


def test_task_of_another_chain_takes_as_long_as_a_missing_one(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    foreign = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    with idle_service.client(chain=1765) as asking:
        paths = f"/tasks/{foreign}", f"/tasks/{foreign + 1_000_000}"
        answers = [asking.get(path) for path in paths]
        bodies = [problem(answer, "task-not-found") for answer in answers]
        assert len({body.pop("request_id") for body in bodies}) == 2
        assert bodies[0] == bodies[1]
        varying = ("x-request-id", "date")
        headers = [[item for item in answer.headers.items() if item[0] not in varying] for answer in answers]
        assert headers[0] == headers[1]
        assert any(_difference(asking, paths) < DIFFERENCE for _ in range(TRIES))


def _difference(client: httpx2.Client, paths: tuple[str, str]) -> float:
    """How far the times of two paths are apart, as a share; asked in pairs, whose order changes each time."""
    apart: list[float] = []
    taken: list[float] = []
    for number in range(REQUESTS):
        seconds = {}
        for path in paths if number % 2 else reversed(paths):
            began = time.perf_counter()
            client.get(path)
            seconds[path] = time.perf_counter() - began
        taken += seconds.values()
        apart.append(seconds[paths[0]] - seconds[paths[1]])
    return abs(statistics.median(apart)) / statistics.median(taken)
