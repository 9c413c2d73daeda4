"""The fair queue: bounds for each key and for all, turns by key, and nothing lost when somebody leaves."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from longshore.errors import OverloadError
from longshore.fair_queue import FairQueue, QueueLimits


def queue(**changes: Any) -> FairQueue:
    usual = {"running": 2, "running_of_key": 1, "waiting": 6, "waiting_of_key": 4, "seconds": 5.0}
    return FairQueue("things", QueueLimits(**(usual | changes)))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Turns:
    """Requests of keys that hold their turn until they are released; `began` in order."""

    def __init__(self, over: FairQueue) -> None:
        self.over, self.began, self.gates = over, list[str](), dict[str, asyncio.Event]()

    async def one(self, name: str) -> None:
        self.gates[name] = asyncio.Event()
        async with self.over.turn(name[0]):
            self.began.append(name)
            await self.gates[name].wait()

    async def start(self, *names: str) -> dict[str, asyncio.Task[None]]:
        tasks = {name: asyncio.create_task(self.one(name)) for name in names}
        for task in tasks.values():
            task.add_done_callback(lambda each: each.cancelled() or each.exception())
        await settle()
        return tasks

    async def end(self, name: str) -> None:
        self.gates[name].set()
        await settle()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_a_key_runs_one_at_a_time_and_another_key_does_not_wait_behind_it() -> None:
    async def test() -> None:
        turns = Turns(queue())
        await turns.start("a1", "a2", "a3", "b1")
        assert turns.began == ["a1", "b1"]
        await turns.start("c1")
        await turns.end("b1")
        assert turns.began == ["a1", "b1", "c1"], "a has one that runs"
        await turns.end("a1")
        assert turns.began[-1] == "a2"

    run(test())


def test_keys_that_wait_take_turns() -> None:
    async def test() -> None:
        turns = Turns(queue(running=1))
        await turns.start("a1", "a2", "a3", "b1", "b2", "c1")
        for name in ("a1", "a2", "b1", "c1", "a3", "b2"):
            assert turns.began[-1] == name
            await turns.end(name)

    run(test())


def test_queue_refuses_at_once_beyond_its_limits() -> None:
    async def test() -> None:
        turns = Turns(queue())
        tasks = await turns.start("a1", "a2", "a3", "a4", "a5", "a6", "b1", "b2", "b3", "b4")
        refused = [name for name, task in tasks.items() if task.done()]
        assert refused == ["a6", "b4"]
        with pytest.raises(OverloadError) as raised:
            await tasks["a6"]
        assert raised.value.seconds >= 1 and not raised.value.waited

    run(test())


def test_timeout_raises_an_error_and_a_cancelled_caller_takes_no_turn() -> None:
    async def test() -> None:
        turns = Turns(queue(seconds=0.05))
        tasks = await turns.start("a1", "a2")
        with pytest.raises(OverloadError) as raised:
            await tasks["a2"]
        assert raised.value.waited
        gone = (await turns.start("a3"))["a3"]
        gone.cancel()
        last = (await turns.start("a4"))["a4"]
        await turns.end("a1")
        assert turns.began == ["a1", "a4"]
        await turns.end("a4")
        assert last.done()
        assert not turns.over._running and not turns.over._waiting

    run(test())


def test_turn_goes_to_the_next_of_a_key_when_the_first_leaves_at_the_same_moment() -> None:
    async def test() -> None:
        turns = Turns(queue(running=1))
        tasks = await turns.start("a1", "a2", "a3")
        turns.gates["a1"].set()
        tasks["a2"].cancel()  # its turn has ended, and it has not left the queue yet
        await settle()
        assert turns.began == ["a1", "a3"]

    run(test())
