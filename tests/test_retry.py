"""Retries of steps in the database, and loops that outlive the errors of one item."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from itertools import islice

import asyncpg
import pytest
from structlog.testing import capture_logs

from longshore.database import retry as database_retry
from longshore.database.retry import Pauses, isolated, loop_step, retry

AT_ONCE = Pauses(0, 0)


class Step:
    """A step that raises each of the errors once, and then returns the number of its calls."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls = 0

    async def __call__(self) -> int:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.calls


def test_a_step_is_repeated_after_transient_errors_alone() -> None:
    assert asyncio.run(retry(Step(ConnectionResetError(), asyncpg.DeadlockDetectedError("locked")), AT_ONCE)) == 3
    refused = Step(asyncpg.UndefinedTableError("no such table"))
    with pytest.raises(asyncpg.UndefinedTableError):
        asyncio.run(retry(refused, AT_ONCE))
    assert refused.calls == 1


def test_a_step_is_not_repeated_after_errors_that_are_not_named_or_once_it_has_ended() -> None:
    for step, named, ended in (
        (Step(ConnectionRefusedError()), asyncpg.PostgresError, False),
        (Step(asyncpg.CannotConnectNowError("starting up")), asyncpg.PostgresError, True),
    ):
        with pytest.raises((OSError, asyncpg.PostgresError)):
            asyncio.run(retry(step, AT_ONCE, named, ended=lambda ended=ended: ended))  # type: ignore[misc]
        assert step.calls == 1


def test_pauses_double_up_to_the_longest() -> None:
    assert list(islice(Pauses(0.1, 0.5), 5)) == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_an_error_of_one_item_is_logged_and_a_transient_one_is_raised() -> None:
    with isolated("item failed"):
        raise ValueError("of this item")
    with pytest.raises(ConnectionResetError), isolated("item failed"):
        raise ConnectionResetError


def test_error_of_the_same_kind_of_the_same_item_is_logged_again_after_a_while_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_retry, "LOG_AGAIN_SECONDS", 0.2)
    with capture_logs() as logged:
        for item, error in ((1, ValueError("a")), (1, ValueError("b")), (2, ValueError("a")), (1, KeyError("a"))):
            with isolated("item of the test failed", item=item):
                raise error
            with loop_step("loop of the test", item=item):
                raise error
        time.sleep(0.3)
        with isolated("item of the test failed", item=1):
            raise ValueError("a")
    kinds = [(entry["event"], entry["item"], type(entry["exc_info"])) for entry in logged]
    first = [(1, ValueError), (2, ValueError), (1, KeyError)]
    assert [kind[1:] for kind in kinds if kind[0] == "loop of the test failed"] == first
    assert [kind[1:] for kind in kinds if kind[0] == "item of the test failed"] == [*first, (1, ValueError)]


def test_a_loop_outlives_every_error_of_its_steps() -> None:
    for error in (ValueError("of this step"), ConnectionResetError(), asyncpg.UndefinedTableError("gone")):
        with loop_step("the loop"):
            raise error


LOOPS = """
import asyncio

from longshore.database.listener import Listener
from longshore.database.retry import repeating
from longshore.settings import Settings
from longshore.telemetry import logs


class SilentError(ConnectionError):
    def __str__(self):
        raise ValueError("it has no text")


async def main():
    steps, connections = [], []

    async def step():
        steps.append(None)
        raise ERROR

    async def refuse(_, writer):
        connections.append(None)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"postgresql://a@127.0.0.1:{server.sockets[0].getsockname()[1]}/a?sslmode=disable"
    async with (
        asyncio.timeout(20),
        repeating("loop of the test", 0.01, step),
        Listener(url, "channel", print, print),
    ):
        while len(steps) < 3 or len(connections) < 3:
            await asyncio.sleep(0.01)
    print("both went on")


logs.configure(Settings(log_format="json"))
asyncio.run(main())
"""


def test_loops_outlive_a_log_that_cannot_be_written() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = [sys.executable, "-c", LOOPS.replace("ERROR", "ValueError()")]
    try:
        done = subprocess.run(program, stdout=subprocess.PIPE, stderr=writer, text=True)
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, "both went on\n")


def test_process_whose_loop_fails_ends_so_that_it_is_started_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOPS.replace("ERROR", "SilentError()")], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert '"task":"loop of the test"' in done.stderr
