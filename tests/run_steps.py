"""Plays the worker's part on a service that has none: each step of a run, as `tasks/` writes it."""

from datetime import UTC, datetime, timedelta

from longshore.database.connect import open_pool
from longshore.tasks import attempts, run_ends
from longshore.tasks.attempts import RunResult
from longshore.tasks.model import TaskId
from longshore.tasks.queue import Message
from tests.service import Longshore, in_own_loop

SNAPSHOT = datetime(2026, 5, 26, 12, tzinfo=UTC)


def play(service: Longshore, task: int, *steps: str) -> None:
    """Take steps of the newest attempt: `begin`, `report`, `fail` or `finish`."""

    async def run() -> None:
        async with open_pool(service.url, size=1, name="test") as pool:
            attempt = await pool.fetchval("select attempt from longshore.tasks where id = $1", task)
            message = Message(TaskId(task), attempt)
            for step in steps:
                match step:
                    case "begin":
                        assert await attempts.begin(pool, message)
                    case "report":
                        await attempts.report(pool, message, 2, 20, 4, exact=True)
                    case "fail":
                        await run_ends.fail(pool, message, "on purpose")
                    case "finish":
                        location = f"{task}-{attempt}"
                        outcome = RunResult("a.csv", location, 3, 3, 30, bytes(32), SNAPSHOT, "{}")
                        await run_ends.finish(pool, message, outcome, timedelta(days=7))

    in_own_loop(run())
