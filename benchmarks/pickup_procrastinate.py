"""Procrastinate's side of the pick-up benchmark, set up as its tutorial has it: `prepare`, `worker` or `send`."""

import os
import sys
from typing import Any

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from benchmarks.pickup import began, send_one_by_one

URL = os.environ["BENCH_URL"]


def app(connector: Any) -> App:
    found = App(connector=connector)
    found.task(name="began")(began)
    return found


if __name__ == "__main__":
    match sys.argv[1]:
        case "prepare":
            with app(SyncPsycopgConnector(conninfo=URL)).open() as opened:
                opened.schema_manager.apply_schema()
        case "worker":
            import asyncio

            async def work() -> None:
                async with app(PsycopgConnector(conninfo=URL)).open_async() as opened:
                    await opened.run_worker_async(concurrency=4)

            asyncio.run(work())
        case "send":
            with app(SyncPsycopgConnector(conninfo=URL)).open() as opened:
                send_one_by_one(lambda: opened.configure_task("began").defer())
