"""Polls: how many `GET /tasks/{id}` a second one API process answers, beside a plain FastAPI service (`peer.py`).

Both run at once on the same database, one process each, and take turns at being polled: 32 connections, random tasks.
Both write a line for each request to a log file, as they do by themselves.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import httpx2
import msgspec
import psutil
from tests.service import CHAIN, READY_TIMEOUT, Longshore, database_in, free_port

from benchmarks.options import Options
from benchmarks.table import Case
from longshore.access.tokens import Level

CONNECTIONS = 32
LEAST_RATE = 1.5  # of the peer's
LEAST_CONDITIONAL = 2.0  # times our own plain polls
REVISION = 3  # that poll.sql gives all tasks
HERE = Path(__file__).parent


class Polled(msgspec.Struct, frozen=True):
    """The counts of wrk in a round."""

    requests: int
    microseconds: int
    failed: int
    p50: int
    p99: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.microseconds * 1e6


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Fill a database of its own with tasks and poll both services."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        data = Path(folder)
        with database_in(data) as url:
            tell(f"writing {options.tasks:,} tasks")
            asyncio.run(fill(url, options.tasks))
            longshore = Longshore(data, url)
            try:
                api = longshore.start_api(api_processes="1")
                with serve_peer(longshore) as peer_address:
                    rates = _rates(longshore, peer_address, options, tell)
                return [rates, _conditional(longshore, api.pid, options, tell)]
            finally:
                longshore.stop()


def _rates(longshore: Longshore, peer_address: str, options: Options, tell: Callable[[str], None]) -> Case:
    token = longshore.token(Level.READ)
    see_that_both_answer_alike(longshore.address, peer_address, token, options.tasks)
    for address in (longshore.address, peer_address):  # warms caches and prepared statements, not counted
        poll(address, token, options.tasks, 2)
    ours, peer = [], []
    for number in range(1, options.rounds + 1):
        ours.append(poll(longshore.address, token, options.tasks, options.seconds))
        peer.append(poll(peer_address, token, options.tasks, options.seconds))
        tell(f"round {number}: ours {ours[-1].rate:,.0f}/s, FastAPI {peer[-1].rate:,.0f}/s")
    best, best_peer = (max(rounds, key=lambda polled: polled.rate) for rounds in (ours, peer))
    ratio = best.rate / best_peer.rate
    return Case(
        name=f"GET /tasks/{{id}}, {CONNECTIONS} connections, {options.tasks:,} tasks",
        peer_name="FastAPI + Uvicorn + SQLAlchemy",
        unit="requests/s",
        chosen=f"best of {options.rounds}",
        ours=best.rate,
        peer=best_peer.rate,
        ratio=ratio,
        target=f"at least {LEAST_RATE}",
        met=ratio >= LEAST_RATE,
        ours_rounds=[polled.rate for polled in ours],
        peer_rounds=[polled.rate for polled in peer],
        notes={"ours p50 ms": best.p50 / 1e3, "ours p99 ms": best.p99 / 1e3}
        | {"peer p50 ms": best_peer.p50 / 1e3, "peer p99 ms": best_peer.p99 / 1e3},
    )


def _conditional(longshore: Longshore, api: int, options: Options, tell: Callable[[str], None]) -> Case:
    token = longshore.token(Level.READ)
    path, tag = f"{longshore.address}/tasks/1", f'"1-{REVISION}"'
    known = httpx2.get(path, headers={"Authorization": f"Bearer {token}", "If-None-Match": tag})
    assert known.status_code == 304, known.text
    conditional: list[float] = []
    plain: list[float] = []
    costs: dict[str, list[float]] = {}
    for number in range(1, options.rounds + 1):
        for name, revision, rates in (("304", REVISION, conditional), ("200", None, plain)):
            began = _cpu(longshore, api)
            polled = poll(longshore.address, token, options.tasks, options.seconds, revision)
            rates.append(polled.rate)
            for whose, seconds in _cpu(longshore, api).items():
                cost = (seconds - began[whose]) / polled.requests * 1e6
                costs.setdefault(f"{name} CPU of {whose} us", []).append(cost)
        tell(f"round {number}: with If-None-Match {conditional[-1]:,.0f}/s, without {plain[-1]:,.0f}/s")
    ratio = max(conditional) / max(plain)
    return Case(
        name="the same with If-None-Match, answered 304",
        peer_name="our own plain polls",
        unit="requests/s",
        chosen=f"best of {options.rounds}",
        ours=max(conditional),
        peer=max(plain),
        ratio=ratio,
        target=f"at least {LEAST_CONDITIONAL:.0f}",
        met=ratio >= LEAST_CONDITIONAL,
        ours_rounds=conditional,
        peer_rounds=plain,
        notes={name: min(rounds) for name, rounds in costs.items()},
    )


def _cpu(longshore: Longshore, api: int) -> dict[str, float]:
    """Seconds of CPU so far: the API's, and those of PostgreSQL's processes that serve it."""
    serving = "select pid from pg_stat_activity where application_name like 'longshore%'"
    parent = psutil.Process(api)
    processes = {
        "API": [parent, *parent.children(recursive=True)],
        "PostgreSQL": [psutil.Process(row["pid"]) for row in longshore.sql(serving)],
    }
    return {whose: sum(sum(each.cpu_times()[:2]) for each in those) for whose, those in processes.items()}


def poll(address: str, token: str, tasks: int, seconds: int, revision: int | None = None) -> Polled:
    """A round of polls. Raises AssertionError unless every answer was a good one.

    `revision`: the one that all tasks have, for polls that are conditional and answered with 304.
    """
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "poll.lua"), address]
    known = [] if revision is None else [str(revision)]
    done = subprocess.run([*command, "--", str(tasks), token, *known], check=True, capture_output=True, text=True)
    polled = msgspec.json.decode(done.stdout.splitlines()[-1], type=Polled)
    assert polled.requests, done.stdout
    assert not polled.failed, done.stdout
    return polled


def see_that_both_answer_alike(address: str, peer_address: str, token: str, tasks: int) -> None:
    """Raise AssertionError unless the peer answers for some of so many tasks, and refuses, as the service does."""
    headers = {"Authorization": f"Bearer {token}"}
    for id in [1, tasks, *random.sample(range(1, tasks + 1), min(tasks, 20))]:
        ours, peer = (httpx2.get(f"{base}/tasks/{id}", headers=headers) for base in (address, peer_address))
        assert ours.status_code == peer.status_code == 200, (ours.text, peer.text)
        assert ours.json() == peer.json(), (ours.text, peer.text)
        assert ours.json()["id"] == id
    for base in (address, peer_address):
        assert httpx2.get(f"{base}/tasks/1").status_code == 401
        assert httpx2.get(f"{base}/tasks/{tasks + 1}", headers=headers).status_code == 404


async def fill(url: str, tasks: int) -> None:
    """Write so many tasks, each with a log."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute((HERE / "poll.sql").read_text(), CHAIN, tasks, timeout=None)
        await connection.execute("vacuum analyze")
    finally:
        await connection.close()


@contextlib.contextmanager
def serve_peer(longshore: Longshore) -> Iterator[str]:
    """The peer as a process of its own; its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "LONGSHORE_DATABASE_URL": longshore.url}
    command = [sys.executable, "-m", "uvicorn", "benchmarks.peer:app", "--port", str(port)]
    with (longshore.data / "peer.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until_it_answers(process, f"{address}/tasks/1")
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_until_it_answers(process: subprocess.Popen[bytes], address: str) -> None:
    """Wait for any answer from this address. Raises AssertionError where the process ends or is too slow."""
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx2.TransportError):
            httpx2.get(address)
            return
        time.sleep(0.05)
    raise AssertionError("the peer did not start")
