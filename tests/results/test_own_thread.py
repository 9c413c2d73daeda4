"""Blocking work on results in threads of its own."""

import asyncio
import io

from structlog.contextvars import bound_contextvars, get_contextvars

from longshore.results.own_thread import in_own_thread, opened_in_thread


def test_log_of_work_in_a_thread_of_its_own_names_the_task() -> None:
    async def run() -> list[object]:
        async with opened_in_thread(io.BytesIO) as (_, thread):
            opened = await asyncio.get_running_loop().run_in_executor(thread, get_contextvars)
        return [opened, await in_own_thread(lambda _: get_contextvars())]

    with bound_contextvars(task=7, run=2):
        assert asyncio.run(run()) == [{"task": 7, "run": 2}] * 2
