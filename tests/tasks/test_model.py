"""The life of tasks, walked through in any order: the service does what a plain model of it says, and nothing else.

Clients speak HTTP to the real service; the worker's part is played with the functions that a worker calls, on the real
database, since no worker would do what the walk wants when it wants it.
"""

import asyncio
import re
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from longshore.database.connect import Pool, open_pool
from longshore.database.retry import MAX_FAILURES
from longshore.exports.target.deliver import BUNDLE, Deliver, TemplateValues, new_deliveries
from longshore.results.local import LocalStore
from longshore.results.store import AttemptFiles
from longshore.tasks import attempts, deliveries, delivery_ends, run_ends
from longshore.tasks.attempts import Attempt, RunResult, StaleAttemptError
from longshore.tasks.deliveries import StaleDeliveryError
from longshore.tasks.model import TaskId
from longshore.tasks.queue import DeliveryMessage, Message
from longshore.worker.cleanup import Cleanup
from tests.destinations.places import Place, add_place
from tests.service import Longshore, export_body

FAR = "2126-05-26T12:00:00Z"
CHANGE = re.compile(r"(READY|INPROGRESS|DONE|ERROR) -> (READY|INPROGRESS|DONE|ERROR)")
ALLOWED = {
    ("READY", "INPROGRESS"), ("INPROGRESS", "DONE"), ("INPROGRESS", "ERROR"), ("READY", "ERROR"),
    ("DONE", "INPROGRESS"), ("ERROR", "INPROGRESS"), ("ERROR", "DONE"),
}  # fmt: skip
PLACES = 2
DELIVERY = """
select task_id, run, number, attempt from longshore.run_deliveries
where task_id = $1 and destination = $2 and state = 'pending' and due_at is null
"""
KEPT = timedelta(days=7)
KEEP = "update longshore.runs set expires_at = now() + interval '7 days' where task_id = $1 and expires_at <= now()"
EXPIRE = "update longshore.runs set expires_at = now() where task_id = $1 and location is not null"

T = TypeVar("T")


class ModelTask(msgspec.Struct):
    """The model's state of one task."""

    id: int
    state: str = "READY"
    has_run_to_come: bool = True
    """Whether a run of it is still to begin."""
    queued: bool = True
    """Whether that run begins as soon as there is room for it."""
    is_execute: bool = False
    """Whether that run is of an `execute`, which others join."""
    is_due_later: bool = False
    """Whether its trigger names a time to come: what runs before that time leaves the planned run as it is."""
    begun: Attempt | None = None
    delivered: bool = False
    """Whether its runs have deliveries."""
    deliveries: list[str] = []
    """States of the newest deliveries of its newest run, one for each place."""
    arrived: set[int] = set()
    """The places that the run has reached at some time."""
    asked_places: list[int] = []
    """The places that were asked for last; `asked_again`: after the run had ended."""
    asked_again: bool = False
    stored: str | None = None
    """Where the result of its newest run is, whatever became of its deliveries."""
    run_failed: bool = False
    """Whether its newest run has a result, and is in ERROR since it was not delivered."""
    failures: int = 0
    result: str | None = None
    """Where its newest result is, while there is one."""
    changes: list[str] = []
    modified: str = ""
    revision: int = 0

    @property
    def delivering(self) -> bool:
        return "pending" in self.deliveries

    def becomes(self, state: str) -> None:
        self.changes.append(f"{self.state} -> {state}")
        self.state = state


class TaskModel(RuleBasedStateMachine):
    """One walk, in a chain of its own."""

    service: Longshore
    client: httpx2.Client
    places: list[Place]

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.known: list[ModelTask] = []
        self.old: list[Message] = []
        self.loop = asyncio.new_event_loop()
        self.opened = open_pool(self.service.url, size=2, name="test")
        self.pool: Pool = self.loop.run_until_complete(self.opened.__aenter__())
        self.store = LocalStore(self.service.data / "results")

    def teardown(self) -> None:
        self.loop.run_until_complete(self.opened.__aexit__(None, None, None))
        self.loop.close()
        self.service.sql("delete from longshore.tasks where chain_id = 1764")
        self.service.sql("delete from longshore.pgqueuer")

    def do(self, step: Awaitable[T]) -> T:
        async def run() -> T:
            return await step

        return self.loop.run_until_complete(run())

    @rule(target=tasks, later=st.booleans(), delivered=st.booleans())
    def create(self, later: bool, delivered: bool) -> ModelTask:
        return self._created(later, delivered)

    @initialize(target=tasks, stage=st.sampled_from(["delivering", "failed", "delivered", "again", "mixed"]))
    def deliver_first(self, stage: str) -> ModelTask:
        """Each walk begins with a run that is delivered, or was: hardly one would come so far by single steps."""
        task = self._exported()
        if stage != "delivering":
            for number in range(PLACES):
                self._deliver(task, number, stage == "delivered" or (stage == "mixed" and number == 0))
        if stage == "again":
            self._deliver_again(task)
        return task

    @rule(target=tasks)
    def export(self) -> ModelTask:
        """A task whose result is to be delivered."""
        return self._exported()

    def _exported(self) -> ModelTask:
        task = self._created(later=False, delivered=True)
        self._begin(task)
        self._finish(task)
        return task

    def _created(self, later: bool, delivered: bool) -> ModelTask:
        body = export_body(once=FAR if later else "2026-05-26T12:00:00Z")
        if delivered:
            body["target"]["deliver"] = [{"destination": place.name} for place in self.places]
        answer = self.client.post("/tasks", json=body)
        assert answer.status_code == 201, answer.text
        task = ModelTask(id=answer.json()["id"], is_due_later=later, queued=not later, delivered=delivered)
        self.known.append(task)
        return task

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), good=st.booleans(), others=st.sampled_from([None, True, False]))
    def deliver(self, data: st.DataObject, good: bool, others: bool | None) -> None:
        """A worker has brought the result to one of the places, or has failed to, and to all others of the run."""
        task, number = data.draw(st.sampled_from(self.pending()))
        self._deliver(task, number, good)
        for each in range(PLACES):
            if others is not None and task.deliveries[each] == "pending":
                self._deliver(task, each, others)

    def _deliver(self, task: ModelTask, number: int, good: bool) -> None:
        if (message := self._delivery(task, number)) is None:
            return  # others have the share of the chain
        assert self.do(deliveries.begin(self.pool, message, uuid4())) is not None
        if good:
            self.do(delivery_ends.finish(self.pool, message, "folder://x", "{}"))
        else:
            self.do(delivery_ends.fail(self.pool, message, "on purpose"))
        task.deliveries[number] = "delivered" if good else "failed"
        for step in (
            delivery_ends.finish(self.pool, message, "folder://x", "{}"),
            deliveries.retry(self.pool, message, "too late", 0.0),
        ):
            with pytest.raises(StaleDeliveryError):
                self.do(step)
        if good:
            task.arrived.add(number)
        if task.delivering:
            return
        is_good = all(task.deliveries[each] == "delivered" for each in task.asked_places)
        if not task.asked_again:
            task.becomes("DONE" if is_good else "ERROR")
            task.has_run_to_come, task.run_failed = task.is_due_later, not is_good
        elif is_good and task.run_failed:
            task.becomes("DONE")
            task.run_failed = False
        if task.state == "DONE":
            task.result = task.stored

    @precondition(lambda self: self.pending())
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A worker is lost while it delivers, and another one goes on."""
        task, number = data.draw(st.sampled_from(self.pending()))
        if (message := self._delivery(task, number)) is None:
            return  # others have the share of the chain
        assert self.do(deliveries.begin(self.pool, message, uuid4())) is not None
        assert self.do(deliveries.begin(self.pool, message, uuid4())) is None, "it is another worker's"
        self.do(deliveries.retry(self.pool, message, "the worker was lost", 0.0, is_lost=True))
        with pytest.raises(StaleDeliveryError):
            self.do(delivery_ends.finish(self.pool, message, "folder://x", "{}"))

    @precondition(lambda self: any(task.stored for task in self.known))
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        """A client asks for what is not at its place, or for all of it."""
        self._deliver_again(data.draw(st.sampled_from([task for task in self.known if task.stored or task.delivered])))

    def _deliver_again(self, task: ModelTask) -> None:
        runs = self.client.get(f"/tasks/{task.id}/runs").json()
        if not runs:
            return
        answer = self.client.post(f"/tasks/{task.id}/runs/{runs[0]['run']}/deliver")
        has_result = runs[0]["result"] is not None
        refused = 410 if task.delivered and has_result and task.stored is None else 409
        expected = refused if not task.delivered or task.stored is None or task.delivering else 202
        assert answer.status_code == expected, answer.text
        if answer.status_code == 202:
            task.asked_places = [each for each in range(PLACES) if each not in task.arrived] or list(range(PLACES))
            task.asked_again = True
            for each in task.asked_places:
                task.deliveries[each] = "pending"

    @rule(task=tasks)
    def execute(self, task: ModelTask) -> None:
        answer = self.client.post(f"/tasks/{task.id}/execute", headers={"Prefer": "respond-async"})
        assert answer.status_code == (409 if task.state == "INPROGRESS" else 202), answer.text
        if task.state != "INPROGRESS" and not task.is_execute:
            task.has_run_to_come = task.queued = task.is_execute = True
            self._must_differ(task)

    @rule(task=tasks)
    def begin(self, task: ModelTask) -> None:
        self._begin(task)

    def _begin(self, task: ModelTask) -> None:
        if task.has_run_to_come and task.delivering:
            return  # the model knows the deliveries of the newest run alone
        begun = self.do(attempts.begin(self.pool, self._newest(task)))
        assert (begun is not None) == task.has_run_to_come
        if begun is None:
            return
        if task.state != "INPROGRESS":
            task.becomes("INPROGRESS")
            task.failures = 0
            task.deliveries, task.stored, task.run_failed = [], None, False
        task.has_run_to_come = task.queued = task.is_execute = False
        task.begun, task.result = begun, None

    @precondition(lambda self: self.begun())
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self._finish(data.draw(st.sampled_from(self.begun())))

    def _finish(self, task: ModelTask) -> None:
        begun = task.begun
        assert begun is not None
        location = AttemptFiles(begun.chain, TaskId(task.id), begun.message.attempt).location("a.csv")
        with self.store.create(location) as file:
            file.publish()
        facts = TemplateValues(begun.chain, task.id, begun.run, BUNDLE, "a.csv", begun.interval, "UTC")
        entries = [Deliver(place.name) for place in self.places] if task.delivered else []
        result = msgspec.structs.replace(outcome(location), deliveries=new_deliveries(entries, facts))
        self.do(run_ends.finish(self.pool, begun.message, result, KEPT))
        task.stored = location
        self._ended(task)
        if task.delivered:
            task.has_run_to_come = task.asked_again = False
            task.asked_places, task.arrived = list(range(PLACES)), set()
            task.deliveries = ["pending"] * PLACES
        else:
            task.becomes("DONE")
            task.result = location

    @precondition(lambda self: self.begun())
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.begun()))
        assert task.begun is not None
        self.do(run_ends.fail(self.pool, task.begun.message, "failed: on purpose"))
        task.becomes("ERROR")
        self._ended(task)

    @rule(task=tasks)
    def crash(self, task: ModelTask) -> None:
        """The worker is gone, and its message comes a second time."""
        message = self._newest(task)
        assert self.do(run_ends.retry_or_fail_lost(self.pool, message)) == (task.begun is not None)
        if task.begun is None:
            return
        task.failures += 1
        given_up = task.failures == MAX_FAILURES
        if given_up:
            task.becomes("ERROR")
        self._ended(task)
        task.has_run_to_come, task.queued = task.is_due_later or not given_up, not given_up

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def stale(self, data: st.DataObject) -> None:
        """A worker that was away comes back with an attempt that counts no more."""
        message = data.draw(st.sampled_from(self.old))
        for step in (
            run_ends.finish(self.pool, message, outcome("x"), KEPT),
            run_ends.fail(self.pool, message, "failed: too late"),
            attempts.retry(self.pool, message, "too late", 0, counts_as_failure=True),
            attempts.report(self.pool, message, 1, 1, None, exact=False),
            attempts.add_log_entry(self.pool, message, "too late"),
        ):
            with pytest.raises(StaleAttemptError):
                self.do(step)
        assert self.do(attempts.begin(self.pool, message)) is None

    @rule(task=tasks)
    def cancel(self, task: ModelTask) -> None:
        answer = self.client.post(f"/tasks/{task.id}/cancel")
        ends = task.state in ("READY", "INPROGRESS")
        assert answer.status_code == (200 if ends or task.has_run_to_come or task.delivering else 409), answer.text
        if ends:
            task.becomes("ERROR")
            task.run_failed = task.delivering
        task.deliveries = ["cancelled" if each == "pending" else each for each in task.deliveries]
        if task.begun is not None:
            self._ended(task)
        task.has_run_to_come = task.queued = task.is_execute = task.is_due_later = False

    @rule(task=tasks)
    def change(self, task: ModelTask) -> None:
        before = self.client.get(f"/tasks/{task.id}").json()["desc"]
        answer = self.client.patch(f"/tasks/{task.id}", json={"desc": "another"})
        is_exporting = task.state == "INPROGRESS" and not task.delivering
        refused = is_exporting and before != "another"  # equal values change nothing
        assert answer.status_code == (409 if refused else 200), answer.text

    @rule(task=tasks, later=st.booleans(), minute=st.integers(0, 59))
    def plan(self, task: ModelTask, later: bool, minute: int) -> None:
        """Change the trigger to a time that it may name already, which then plans nothing."""
        trigger = {"once": FAR if later else f"2026-05-26T12:{minute:02}:00Z"}
        before = self.client.get(f"/tasks/{task.id}").json()["trigger"]
        (cancelled,) = self.service.sql("select schedule_ended from longshore.tasks where id = $1", task.id)
        answer = self.client.patch(f"/tasks/{task.id}", json={"trigger": trigger})
        differs = before != trigger or cancelled["schedule_ended"]
        is_in_the_way = task.state == "INPROGRESS" or (task.is_execute and not later)
        assert answer.status_code == (409 if is_in_the_way and differs else 200), answer.text
        if differs and not is_in_the_way:
            task.has_run_to_come, task.queued, task.is_execute, task.is_due_later = True, not later, False, later
            self._must_differ(task)

    @rule(task=tasks)
    def expire(self, task: ModelTask) -> None:
        if task.begun is None and task.result is None and task.stored is None:
            return
        self.service.sql(EXPIRE, task.id)
        begun: Any = task.begun
        self.do(Cleanup(self.pool, self.store, timedelta(days=365)).run(begun))
        if task.delivering and task.stored is not None:
            assert self.store.open_path(task.stored) is not None, "it is to be delivered still"
            self.service.sql(KEEP, task.id)
            return
        task.stored = None
        if task.result is not None:
            assert self.client.get(f"/tasks/{task.id}/download_url").status_code == 410
        task.result = None

    @rule(task=consumes(tasks))
    def delete(self, task: ModelTask) -> None:
        answer = self.client.delete(f"/tasks/{task.id}")
        if task.state == "INPROGRESS" or task.delivering:
            assert answer.status_code == 409
            return
        assert answer.status_code == 204
        assert self.client.get(f"/tasks/{task.id}").status_code == 404
        self.known.remove(task)

    @invariant()
    def is_as_the_model_says(self) -> None:
        for task in self.known:
            answer = self.client.get(f"/tasks/{task.id}", params={"log_limit": 1000})
            found = answer.json()
            assert found["state"]["code"] == task.state
            changes = [entry["msg"] for entry in found["logs"] if CHANGE.fullmatch(entry["msg"])]
            assert changes == task.changes, "each change is logged, and once"
            assert {tuple(change.split(" -> ")) for change in changes} <= ALLOWED
            modified, revision = found["state"]["last_modified"], int(answer.headers["etag"].strip('"').split("-")[1])
            assert modified >= task.modified
            assert revision >= task.revision
            task.modified, task.revision = modified, revision
            assert bool(found["result"]) == (task.state == "DONE")
            assert ("retry-after" in answer.headers) == (task.queued or task.state in ("READY", "INPROGRESS"))
            if task.result is not None:
                assert self.client.get(f"/tasks/{task.id}/download_url").status_code == 200

    def _newest(self, task: ModelTask) -> Message:
        ((attempt,),) = self.service.sql("select attempt from longshore.tasks where id = $1", task.id)
        return Message(TaskId(task.id), attempt)

    def begun(self) -> list[ModelTask]:
        """The tasks that a worker runs."""
        return [task for task in self.known if task.begun is not None]

    def pending(self) -> list[tuple[ModelTask, int]]:
        """The deliveries to come, each with the number of its place."""
        places = [(task, place) for task in self.known for place in range(len(task.deliveries))]
        return [(task, place) for task, place in places if task.deliveries[place] == "pending"]

    def _delivery(self, task: ModelTask, number: int) -> DeliveryMessage | None:
        """Return the message of the newest delivery to a place, where it has been sent."""
        rows = self.service.sql(DELIVERY, task.id, self.places[number].name)
        return DeliveryMessage(*rows[0]) if rows else None

    def _must_differ(self, task: ModelTask) -> None:
        """Check that a client that knows the task as it was sees a change."""
        known = {"If-None-Match": f'"{task.id}-{task.revision}"'}
        assert self.client.get(f"/tasks/{task.id}", headers=known).status_code == 200

    def _ended(self, task: ModelTask) -> None:
        assert task.begun is not None
        self.old.append(task.begun.message)
        task.begun, task.has_run_to_come, task.queued = None, task.is_due_later, False


def outcome(location: str) -> RunResult:
    return RunResult("a.csv", location, 1, 1, 10, bytes(32), None, "{}")


def test_service_agrees_with_the_model_on_random_sequences_of_requests(
    idle_service: Longshore, idle_client: httpx2.Client, tmp_path: Path
) -> None:
    TaskModel.service, TaskModel.client = idle_service, idle_client
    TaskModel.places = [add_place(idle_service, tmp_path) for _ in range(PLACES)]
    run_state_machine_as_test(
        TaskModel,
        settings=settings(
            max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
