"""Slots: of the tasks of a chain the one that has waited longest begins next, and the place in the queue says so."""

import httpx2
import pytest

from longshore.access.tokens import Level
from tests.run_steps import play
from tests.service import Longshore, export_body

CHAIN = 8801


@pytest.fixture
def busy(idle_service: Longshore) -> httpx2.Client:
    """A client of a chain of its own."""
    return idle_service.client(Level.ADMIN, chain=CHAIN)


def test_new_task_begins_although_older_tasks_are_due_again_and_again(
    idle_service: Longshore, busy: httpx2.Client
) -> None:
    body = export_body(chain=CHAIN)
    old = [busy.post("/tasks", json=body).json()["id"] for _ in range(5)]
    new = busy.post("/tasks", json=body).json()["id"]
    began = []
    for _ in range(7):
        running = idle_service.sql(
            "select id from longshore.tasks where chain_id = $1 and not parked and attempt_began_at is null"
            " and due_at is null order by waits_since",
            CHAIN,
        )
        task = running[0]["id"]
        began.append(task)
        if len(began) == 1:
            parked = [
                row["id"]
                for row in idle_service.sql("select id from longshore.tasks where chain_id = $1 and parked", CHAIN)
            ]
            places = {id: busy.get(f"/tasks/{id}/progress").json()["queue_place"] for id in parked}
            assert sorted(places, key=lambda id: places[id]) == sorted(parked), "who came first has the lower place"
        play(idle_service, task, "begin", "finish")
        busy.post(f"/tasks/{task}/execute", headers={"Prefer": "respond-async"})  # due again
    assert new in began
    for task in (*old, new):
        busy.delete(f"/tasks/{task}")
