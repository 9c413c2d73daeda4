"""The door: what the token check adds to a poll, beside the same API that lets everybody in (`unchecked.py`).

Both run at once on the same database, one process each with the same server and settings, and are polled in turns.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.service import Longshore, database_in, free_port

from benchmarks import poll
from benchmarks.options import Options
from benchmarks.table import Case
from longshore.access.tokens import Level

MOST = 1.1  # of the time of a poll without the check


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Fill a database of its own with tasks and poll both."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        data = Path(folder)
        with database_in(data) as url:
            tell(f"writing {options.tasks:,} tasks")
            asyncio.run(poll.fill(url, options.tasks))
            longshore = Longshore(data, url)
            with (
                _api(longshore, "longshore.web:create") as checked,
                _api(longshore, "benchmarks.unchecked:create") as unchecked,
            ):
                return [_times(longshore, checked, unchecked, options, tell)]


def _times(longshore: Longshore, checked: str, unchecked: str, options: Options, tell: Callable[[str], None]) -> Case:
    token = longshore.token(Level.READ)
    for address in (checked, unchecked):
        poll.poll(address, token, options.tasks, 2)
    ours, bare = [], []
    for number in range(1, options.rounds + 1):
        ours.append(poll.poll(checked, token, options.tasks, options.seconds))
        bare.append(poll.poll(unchecked, token, options.tasks, options.seconds))
        tell(f"round {number}: with the check {ours[-1].rate:,.0f}/s, without {bare[-1].rate:,.0f}/s")
    best, best_bare = (max(polled.rate for polled in rounds) for rounds in (ours, bare))
    ratio = best_bare / best
    return Case(
        name="time of a poll with the token check",
        peer_name="itself, letting everybody in",
        unit="µs",
        chosen=f"best of {options.rounds}",
        ours=1e6 / best,
        peer=1e6 / best_bare,
        ratio=ratio,
        target=f"at most {MOST}",
        met=ratio <= MOST,
        ours_rounds=[1e6 / polled.rate for polled in ours],
        peer_rounds=[1e6 / polled.rate for polled in bare],
    )


@contextlib.contextmanager
def _api(longshore: Longshore, target: str) -> Iterator[str]:
    """One process of an API; its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "LONGSHORE_DATA": str(longshore.data),
        "LONGSHORE_DATABASE_URL": longshore.url,
        "LONGSHORE_LOG_FORMAT": "json",
        "LONGSHORE_CREDENTIAL_RATE": "",
        "LONGSHORE_ADDRESS_RATE": "",
    }
    command = [sys.executable, "-m", "granian", target, "--factory", "--interface", "asgi", "--http", "1", "--no-ws"]
    command += ["--loop", "uvloop", "--port", str(port), "--no-log", "--backpressure", "1000"]
    with (longshore.data / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        poll.wait_until_it_answers(process, f"{address}/healthz")
        yield address
    finally:
        process.terminate()
        process.wait()
