"""`python -m benchmarks [case …]`: run the cases, print their table, write it as JSON.

The exit code is 0 when a target is missed, too: the table is the answer. It is 1 where a case could not be measured.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.machinery import PathFinder
from pathlib import Path

from rich.console import Console

from benchmarks import (
    bucket,
    changes,
    deliver,
    deliver_memory,
    door,
    export,
    files,
    loop,
    pages,
    pickup,
    poll,
    scale,
    table,
    wait,
    workers,
)
from benchmarks.duckdb_reader import FOLDER
from benchmarks.options import Options
from benchmarks.table import Case

CASES: dict[str, Callable[[Options, Callable[[str], None]], list[Case]]] = {
    "export": export.run,
    "formats": export.run_formats,
    "memory": export.run_memory,
    "files": files.run,
    "poll": poll.run,
    "door": door.run,
    "loop": loop.run,
    "wait": wait.run,
    "scale": scale.run,
    "pages": pages.run,
    "pickup": pickup.run,
    "workers": workers.run,
    "bucket": bucket.run,
    "changes": changes.run,
    "deliver": deliver.run,
    "deliver-memory": deliver_memory.run,
}

NEEDS: dict[str, tuple[str, ...]] = {
    "poll": ("wrk",),
    "door": ("wrk",),
    "pickup": ("redis-server", "celery", "redis", "procrastinate"),
    "export": ("duckdb_extension_postgres_scanner",),
    "formats": ("duckdb_extension_postgres_scanner",),
    "files": ("duckdb_extension_postgres_scanner",),
    "bucket": ("rclone",),
    "deliver-memory": ("rclone",),
}
"""Programs and modules of cases, beside what the tests need."""


def main() -> None:
    """Run the cases that are named, or all."""
    names, options = _arguments()
    out = Console(stderr=True, highlight=False)
    began = datetime.now(UTC)
    cases: list[Case] = []
    failed: list[str] = []
    for name in names:
        try:
            cases += CASES[name](options, lambda line, name=name: out.print(f"{name}: {line}", markup=False))  # type: ignore[misc]
        except Exception:  # the figures of the other cases took an hour
            out.print_exception()
            failed.append(name)
    table.show(cases)
    print(f"written to {table.save(cases, began)}")
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


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
    if missing := sorted({need for name in names for need in NEEDS.get(name, ()) if not _is_there(need)}):
        parser.error(f"{', '.join(missing)}: not installed; `make bench` installs what all cases need")
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


def _is_there(need: str) -> bool:
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    program = shutil.which(need, path=os.pathsep.join(folders))
    return program is not None or PathFinder.find_spec(need, [*sys.path, str(FOLDER)]) is not None


if __name__ == "__main__":
    main()
