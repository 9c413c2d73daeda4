"""Results of actions in a bucket that does not answer: the event loop of the worker, and so its heartbeats, go on."""

import asyncio
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from longshore.actions import Context, Target
from longshore.results.bucket import BucketStore
from longshore.tasks.attempts import Attempt
from longshore.tasks.model import ChainId, Interval, TaskId
from longshore.tasks.queue import Message
from tests.results.bucket import BUCKET, Relay, keys

AWAY_SECONDS = 2
MAX_SILENT_SECONDS = 0.5
SIZE = 10 << 20  # more than one part, less than the writer waits for
WITHOUT_DATABASE: Any = None


class FailureError(Exception):
    """The error of an action."""


def context() -> Context[Target]:
    interval = Interval(None, datetime(2026, 5, 26, tzinfo=UTC))
    attempt = Attempt(Message(TaskId(2), 1), ChainId(1), "codes", "{}", "{}", 1, 1, 0, interval)
    return Context(attempt, Target(action="codes"), WITHOUT_DATABASE, BucketStore(f"s3://{BUCKET}/some/prefix"))


async def write(context: Context[Target], relay: Relay, *, fails: bool) -> None:
    """Write a result of several parts to a bucket that takes new connections after AWAY_SECONDS alone."""
    relay.hang = True
    threading.Timer(AWAY_SECONDS, setattr, (relay, "hang", False)).start()
    async with context.result("codes.txt") as file:
        await asyncio.to_thread(file.write, bytes(SIZE))
        if fails:
            raise FailureError


async def longest_silence(work: asyncio.Task[None]) -> float:
    """Return the longest time for which the event loop did nothing while some work ran."""
    longest, last = 0.0, time.monotonic()
    while not work.done():
        await asyncio.sleep(0.05)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


@pytest.mark.parametrize("fails", [False, True], ids=["published", "removed"])
def test_event_loop_goes_on_while_the_bucket_of_an_actions_result_is_away(
    bucket: Any, relay: Relay, fails: bool
) -> None:
    async def test() -> tuple[float, float]:
        began = time.monotonic()
        running = context()
        work = asyncio.create_task(write(running, relay, fails=fails))
        silence = await longest_silence(work)
        if fails:
            with pytest.raises(FailureError):
                work.result()
        else:
            work.result()
            assert (running._result.result, running._result.size) == ("codes.txt", SIZE)
        return silence, time.monotonic() - began

    silence, took = asyncio.run(test())
    assert silence < MAX_SILENT_SECONDS
    assert keys(bucket) == ([] if fails else ["some/prefix/1/2/1/codes.txt"])
    assert took > AWAY_SECONDS - 0.5, "the bucket was away"
