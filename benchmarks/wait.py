"""Waiting: 5,000 long polls and 1,000 event streams on one API process; how soon all are told, and in what memory.

Every waiter is a connection of its own to one task, which then begins to run. The time is from that change
until the last waiter has read the new state; the memory is that of the API's process at its largest.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import psutil
from tests.run_steps import play
from tests.service import Longshore, database_in, export_body

from benchmarks.options import Options
from benchmarks.table import Case
from longshore.processes import raise_file_limit

POLLS, STREAMS = 5_000, 1_000
OPEN_REQUESTS = "8000"
MOST_SECONDS = 1.0
MOST_MEMORY = 400.0  # MB
AT_ONCE = 500  # waiters that arrive together: of one chain at most 1,000 requests may wait for a connection
MAX_SECONDS = 60.0

AGO = "select extract(epoch from now() - modified_at) as ago from longshore.tasks where id = $1"


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Start a service without a worker, let all wait, change the task, and measure."""
    raise_file_limit()
    rounds = min(options.rounds, 3)
    seconds, memory = [], []
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        data = Path(folder)
        with database_in(data) as url:
            # All waiters have one token, and so one chain and address.
            longshore = Longshore(
                data,
                url,
                credential_open_requests=OPEN_REQUESTS,
                chain_open_requests=OPEN_REQUESTS,
                address_open_requests=OPEN_REQUESTS,
            )
            try:
                for number in range(1, rounds + 1):
                    api = longshore.start_api(api_processes="1")
                    seconds.append(asyncio.run(_seconds_to_notify_all(longshore)))
                    memory.append(_peak(api.pid))
                    tell(f"round {number}: all told after {seconds[-1]:.2f} s, {memory[-1]:.0f} MB")
                    longshore.stop()
            finally:
                longshore.stop()
    name = f"{POLLS:,} long polls and {STREAMS:,} streams on one process"
    return [
        _case(f"{name}: the last is told after", "s", seconds, MOST_SECONDS),
        _case(f"{name}: peak memory", "MB", memory, MOST_MEMORY),
    ]


def _case(name: str, unit: str, rounds: list[float], bound: float) -> Case:
    ours = min(rounds)
    return Case(
        name=name,
        peer_name="the bound",
        unit=unit,
        chosen=f"best of {len(rounds)}",
        ours=ours,
        peer=bound,
        ratio=ours / bound,
        target=f"at most {bound:g} {unit}",
        met=ours <= bound,
        ours_rounds=rounds,
        peer_rounds=[bound] * len(rounds),
    )


async def _seconds_to_notify_all(longshore: Longshore) -> float:
    """Seconds from the change until the last of all waiters has read of it."""
    token = await asyncio.to_thread(longshore.token)
    task = await asyncio.to_thread(_new_task, longshore)
    waiters: list[asyncio.Task[float]] = []
    for first in range(0, POLLS + STREAMS, AT_ONCE):
        for number in range(first, first + AT_ONCE):
            path = f"/tasks/{task}?wait=60" if number < POLLS else f"/tasks/{task}/events"
            waiters.append(asyncio.create_task(_wait(longshore.port, path, token)))
        await asyncio.to_thread(_all_wait, longshore, len(waiters))
    changing = asyncio.create_task(asyncio.to_thread(_begin, longshore, task))
    last = max(await asyncio.wait_for(asyncio.gather(*waiters), MAX_SECONDS))
    return last - await changing


def _begin(longshore: Longshore, task: int) -> float:
    play(longshore, task, "begin")
    # `play` disconnects as well, so the change was somewhat earlier: the row's own time says when.
    (row,) = longshore.sql(AGO, task)
    return time.monotonic() - float(row["ago"])


def _all_wait(longshore: Longshore, waiters: int) -> None:
    """Wait until the process says that so many requests wait."""
    deadline = time.monotonic() + MAX_SECONDS
    while f"longshore_waiters {waiters}.0" not in httpx2.get(f"{longshore.address}/metrics").text:
        assert time.monotonic() < deadline, "not all of them wait"
        time.sleep(0.1)


def _new_task(longshore: Longshore) -> int:
    with longshore.client() as client:
        id: int = client.post("/tasks", json=export_body()).json()["id"]
        return id


async def _wait(port: int, path: str, token: str) -> float:
    """Send a request, and return the time at which its answer told of the change."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        await reader.readuntil(b'"code":"INPROGRESS"')
        return time.monotonic()
    finally:
        writer.close()


def _peak(pid: int) -> float:
    """The largest resident set, in MB, of the process that answers, which is the server's child."""
    (child,) = psutil.Process(pid).children()
    (line,) = (line for line in Path(f"/proc/{child.pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
