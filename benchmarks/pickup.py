"""Pick-up: from the moment that a task is accepted until it runs, beside Procrastinate and Celery with Redis.

One task at a time, on an idle service. Ours is from the answer 201 to the entry `READY -> INPROGRESS`; for the peers it
is from the return of their `defer` or `delay` to the first line of the task. The entry's time is the start of its
statement, some milliseconds before others can see it. Each is a time of one clock, as all run on this machine.

Needs the peers: `pip install procrastinate celery[redis]` and `apt-get install -y redis-server`.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.service import Longshore, database_in, ended, export_body, free_port

from benchmarks.options import Options
from benchmarks.table import Case
from longshore.demo.seed import seed

SAMPLES = 100
MOST_MEDIAN, MOST_P99 = 20.0, 100.0  # ms
MAX_SECONDS = 30.0

BEGAN = "select extract(epoch from began_at)::float8 as at from longshore.runs where task_id = $1"


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """Measure ours and both peers, one after the other."""
    samples = min(SAMPLES, options.tasks)
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        data = Path(folder)
        with database_in(data) as url:
            ours = _ours(data, url, samples)
            tell(f"ours: {statistics.median(ours):.1f} ms in the median, {_p99(ours):.1f} ms at the 99th percentile")
            peers = {
                "Procrastinate": _peer("procrastinate", data, samples, BENCH_URL=url),
                "Celery with Redis": _celery(data, samples),
            }
    cases = []
    for name, peer in peers.items():
        tell(f"{name}: {statistics.median(peer):.1f} ms, {_p99(peer):.1f} ms")
        for what, figure, bound in (("median", statistics.median, MOST_MEDIAN), ("99th percentile", _p99, MOST_P99)):
            cases.append(_case(what, name, figure, bound, ours, peer))
    return cases


def _case(
    what: str, name: str, figure: Callable[[list[float]], float], bound: float, ours: list[float], peer: list[float]
) -> Case:
    return Case(
        name=f"pick-up, {what}",
        peer_name=name,
        unit="ms",
        chosen=f"{what} of {len(ours)}",
        ours=figure(ours),
        peer=figure(peer),
        ratio=figure(ours) / figure(peer),
        target=f"ours at most {bound:g} ms",
        met=figure(ours) <= bound,
        ours_rounds=ours,
        peer_rounds=peer,
    )


def _ours(data: Path, url: str, samples: int) -> list[float]:
    asyncio.run(seed(url, 1_000, lambda _: None))
    longshore = Longshore(data, url)
    taken = []
    try:
        longshore.start("worker")
        longshore.start_api(api_processes="1")
        with longshore.client() as client:
            for number in range(samples + 3):
                task = client.post("/tasks", json=export_body()).json()["id"]
                accepted = time.time()
                ended(client, task)
                (row,) = longshore.sql(BEGAN, task)
                if number >= 3:  # the first ones warm caches
                    # The run may have begun before its 201 was read.
                    taken.append(max(0.0, float(row["at"]) - accepted) * 1e3)
    finally:
        longshore.stop()
    return taken


def _celery(data: Path, samples: int) -> list[float]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(data)]
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        return _peer("celery", data, samples, BENCH_URL=f"redis://127.0.0.1:{port}/0")
    finally:
        redis.terminate()
        redis.wait()


def _peer(name: str, data: Path, samples: int, **settings: str) -> list[float]:
    """A peer's own worker as a process, and tasks sent to it from another; gives milliseconds."""
    file = data / f"{name}.txt"
    environment = {**os.environ, **settings, "BENCH_FILE": str(file), "BENCH_SAMPLES": str(samples + 3)}
    command = [sys.executable, "-m", f"benchmarks.pickup_{name}"]
    with (data / f"{name}.log").open("wb") as log:
        subprocess.run([*command, "prepare"], env=environment, check=True, stdout=log, stderr=log)
        worker = subprocess.Popen([*command, "worker"], env=environment, stdout=log, stderr=log)
        try:
            subprocess.run([*command, "send"], env=environment, check=True, timeout=300, stdout=log, stderr=log)
        finally:
            worker.terminate()
            worker.wait()
    return [float(line) for line in file.read_text().splitlines()][3:]


def _p99(figures: list[float]) -> float:
    return statistics.quantiles(figures, n=100)[98]


def send_one_by_one(send: Callable[[], object]) -> None:
    """For a peer: send a task, wait until it has written when it began, and write the milliseconds down.

    The task calls `began`.
    """
    file = Path(os.environ["BENCH_FILE"])
    mark = file.with_suffix(".began")
    taken = []
    for _ in range(int(os.environ["BENCH_SAMPLES"])):
        send()
        accepted = time.time()
        deadline = time.monotonic() + MAX_SECONDS
        while not mark.exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        taken.append(max(0.0, float(mark.read_text()) - accepted) * 1e3)
        mark.unlink()
    file.write_text("".join(f"{each}\n" for each in taken))


def began() -> None:
    """Write down when a peer's task began."""
    now = time.time()
    mark = Path(os.environ["BENCH_FILE"]).with_suffix(".began")
    draft = mark.with_suffix(".draft")
    draft.write_text(str(now))
    draft.rename(mark)
