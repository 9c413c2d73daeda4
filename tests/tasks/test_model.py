"""The life of tasks, walked through in any order: the service does what a plain model of it says, and nothing else.

Clients speak HTTP to the real service; the worker's part is played with the functions that a worker calls, on the real
database, since no worker would do what the walk wants when it wants it.
"""

import asyncio
import re
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from longshore.database.connect import Pool, open_pool
from longshore.database.retry import MAX_FAILURES
from longshore.results.local import LocalStore
from longshore.tasks import attempts, run_ends
from longshore.tasks.attempts import Attempt, RunResult, StaleAttemptError
from longshore.tasks.model import TaskId
from longshore.tasks.queue import Message
from longshore.worker.cleanup import Cleanup
from tests.service import Longshore, export_body

FAR = "2126-05-26T12:00:00Z"
CHANGE = re.compile(r"(READY|INPROGRESS|DONE|ERROR) -> (READY|INPROGRESS|DONE|ERROR)")
ALLOWED = {
    ("READY", "INPROGRESS"), ("INPROGRESS", "DONE"), ("INPROGRESS", "ERROR"), ("READY", "ERROR"),
    ("DONE", "INPROGRESS"), ("ERROR", "INPROGRESS"),
}  # fmt: skip
KEPT = timedelta(days=7)
EXPIRE = "update longshore.runs set expires_at = now() where task_id = $1 and location is not null"

T = TypeVar("T")


class Known(msgspec.Struct):
    """The model's state of one task."""

    id: int
    state: str = "READY"
    waits: bool = True
    """Whether a run of it is still to begin."""
    queued: bool = True
    """Whether that run begins as soon as there is room for it."""
    executed: bool = False
    """Whether that run is of an `execute`, which others join."""
    planned: bool = False
    """Whether its trigger names a time to come: what runs before that time leaves the planned run as it is."""
    begun: Attempt | None = None
    failures: int = 0
    result: str | None = None
    """Where its newest result is, while there is one."""
    changes: list[str] = []
    modified: str = ""
    revision: int = 0

    def becomes(self, state: str) -> None:
        self.changes.append(f"{self.state} -> {state}")
        self.state = state


class Life(RuleBasedStateMachine):
    """One walk, in a chain of its own."""

    service: Longshore
    client: httpx2.Client

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.known: list[Known] = []
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

    @rule(target=tasks, later=st.booleans())
    def create(self, later: bool) -> Known:
        answer = self.client.post("/tasks", json=export_body(once=FAR if later else "2026-05-26T12:00:00Z"))
        assert answer.status_code == 201
        task = Known(id=answer.json()["id"], planned=later, queued=not later)
        self.known.append(task)
        return task

    @rule(task=tasks)
    def execute(self, task: Known) -> None:
        answer = self.client.post(f"/tasks/{task.id}/execute", headers={"Prefer": "respond-async"})
        assert answer.status_code == (409 if task.state == "INPROGRESS" else 202), answer.text
        if task.state != "INPROGRESS" and not task.executed:
            task.waits = task.queued = task.executed = True
            self._must_differ(task)

    @rule(task=tasks)
    def begin(self, task: Known) -> None:
        begun = self.do(attempts.begin(self.pool, self._newest(task)))
        assert (begun is not None) == task.waits
        if begun is None:
            return
        if task.state != "INPROGRESS":
            task.becomes("INPROGRESS")
            task.failures = 0
        task.waits = task.queued = task.executed = False
        task.begun, task.result = begun, None

    @rule(task=tasks)
    def finish(self, task: Known) -> None:
        begun = task.begun
        if begun is None:
            return
        location = self.store.location(begun.chain, TaskId(task.id), begun.message.attempt, "a.csv")
        with self.store.create(location) as file:
            file.publish()
        self.do(run_ends.finish(self.pool, begun.message, outcome(location), KEPT))
        task.becomes("DONE")
        task.result = location
        self._ended(task)

    @rule(task=tasks)
    def fail(self, task: Known) -> None:
        if task.begun is not None:
            self.do(run_ends.fail(self.pool, task.begun.message, "failed: on purpose"))
            task.becomes("ERROR")
            self._ended(task)

    @rule(task=tasks)
    def crash(self, task: Known) -> None:
        """The worker is gone, and its message comes a second time."""
        message = self._newest(task)
        assert self.do(run_ends.lost(self.pool, message)) == (task.begun is not None)
        if task.begun is None:
            return
        task.failures += 1
        given_up = task.failures == MAX_FAILURES
        if given_up:
            task.becomes("ERROR")
        self._ended(task)
        task.waits, task.queued = task.planned or not given_up, not given_up

    @rule(data=st.data())
    def stale(self, data: st.DataObject) -> None:
        """A worker that was away comes back with an attempt that counts no more."""
        if not self.old:
            return
        message = data.draw(st.sampled_from(self.old))
        for step in (
            run_ends.finish(self.pool, message, outcome("x"), KEPT),
            run_ends.fail(self.pool, message, "failed: too late"),
            attempts.retry(self.pool, message, "too late", 0, failed=True),
            attempts.report(self.pool, message, 1, 1, None, exact=False),
            attempts.note(self.pool, message, "too late"),
        ):
            with pytest.raises(StaleAttemptError):
                self.do(step)
        assert self.do(attempts.begin(self.pool, message)) is None

    @rule(task=tasks)
    def cancel(self, task: Known) -> None:
        answer = self.client.post(f"/tasks/{task.id}/cancel")
        ends = task.state in ("READY", "INPROGRESS")
        assert answer.status_code == (200 if ends or task.waits else 409), answer.text
        if ends:
            task.becomes("ERROR")
        if task.begun is not None:
            self._ended(task)
        task.waits = task.queued = task.executed = task.planned = False

    @rule(task=tasks)
    def change(self, task: Known) -> None:
        before = self.client.get(f"/tasks/{task.id}").json()["desc"]
        answer = self.client.patch(f"/tasks/{task.id}", json={"desc": "another"})
        refused = task.state == "INPROGRESS" and before != "another"  # equal values change nothing
        assert answer.status_code == (409 if refused else 200), answer.text

    @rule(task=tasks, later=st.booleans(), minute=st.integers(0, 59))
    def plan(self, task: Known, later: bool, minute: int) -> None:
        """Change the trigger to a time that it may name already, which then plans nothing."""
        trigger = {"once": FAR if later else f"2026-05-26T12:{minute:02}:00Z"}
        before = self.client.get(f"/tasks/{task.id}").json()["trigger"]
        (cancelled,) = self.service.sql("select schedule_ended from longshore.tasks where id = $1", task.id)
        answer = self.client.patch(f"/tasks/{task.id}", json={"trigger": trigger})
        differs = before != trigger or cancelled["schedule_ended"]
        is_in_the_way = task.state == "INPROGRESS" or (task.executed and not later)
        assert answer.status_code == (409 if is_in_the_way and differs else 200), answer.text
        if differs and not is_in_the_way:
            task.waits, task.queued, task.executed, task.planned = True, not later, False, later
            self._must_differ(task)

    @rule(task=tasks)
    def expire(self, task: Known) -> None:
        if task.begun is None and task.result is None:
            return
        self.service.sql(EXPIRE, task.id)
        begun: Any = task.begun
        self.do(Cleanup(self.pool, self.store, timedelta(days=365)).run(begun))
        if task.result is not None:
            assert self.client.get(f"/tasks/{task.id}/download_url").status_code == 410
        task.result = None

    @rule(task=consumes(tasks))
    def delete(self, task: Known) -> None:
        answer = self.client.delete(f"/tasks/{task.id}")
        if task.state == "INPROGRESS":
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

    def _newest(self, task: Known) -> Message:
        ((attempt,),) = self.service.sql("select attempt from longshore.tasks where id = $1", task.id)
        return Message(TaskId(task.id), attempt)

    def _must_differ(self, task: Known) -> None:
        """Check that a client that knows the task as it was sees a change."""
        known = {"If-None-Match": f'"{task.id}-{task.revision}"'}
        assert self.client.get(f"/tasks/{task.id}", headers=known).status_code == 200

    def _ended(self, task: Known) -> None:
        assert task.begun is not None
        self.old.append(task.begun.message)
        task.begun, task.waits, task.queued = None, task.planned, False


def outcome(location: str) -> RunResult:
    return RunResult("a.csv", location, 1, 1, 10, bytes(32), None, "{}")


def test_service_agrees_with_the_model_on_random_sequences_of_requests(idle: Longshore, waiting: httpx2.Client) -> None:
    Life.service, Life.client = idle, waiting
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
