"""Blocking work on results in threads of its own."""

import asyncio
import io
import threading

from structlog.contextvars import bound_contextvars, get_contextvars

from longshore.results.own_thread import in_own_thread, opened_in_thread


def test_log_of_work_in_a_thread_of_its_own_names_the_task() -> None:
    async def run() -> list[object]:
        async with opened_in_thread(io.BytesIO) as (_, thread):
            opened = await asyncio.get_running_loop().run_in_executor(thread, get_contextvars)
        return [opened, await in_own_thread(lambda _: get_contextvars())]

    with bound_contextvars(task=7, run=2):
        assert asyncio.run(run()) == [{"task": 7, "run": 2}] * 2


def test_file_is_closed_even_where_its_reader_is_cancelled_twice_while_the_store_does_not_answer() -> None:
    reading, answers, closed = threading.Event(), threading.Event(), threading.Event()

    class Silent(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            reading.set()
            answers.wait(10)
            return b""

        def close(self) -> None:
            closed.set()

    async def read() -> None:
        async with opened_in_thread(Silent) as (file, thread):
            await asyncio.get_running_loop().run_in_executor(thread, file.read)

    async def cancel() -> None:
        running = asyncio.create_task(read())
        assert await asyncio.to_thread(reading.wait, 10)
        while not running.done():
            running.cancel()
            await asyncio.sleep(0.05)
        assert not closed.is_set()
        answers.set()
        assert await asyncio.to_thread(closed.wait, 10)

    asyncio.run(cancel())
