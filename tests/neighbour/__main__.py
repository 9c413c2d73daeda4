"""`make neighbour`: one chain at its worst beside another one, whose waiting is measured alone and beside it.

A service with its usual bounds (only the quotas are lower, so that they are reached), WORKERS workers and an embedded
PostgreSQL run on this machine; all requests are on loopback. For each behavior of tests/neighbour/worst.py, phases in
which the quiet chain is alone and phases in which the other chain does its worst take turns, so that what else happens
on the machine meets both alike. Each phase takes PHASE_SECONDS. Compared are the medians of all phases of a kind: what
a client of the quiet chain usually waits. Both chains' work shares the machine's cores, so the figures hold what the
other chain's admitted work costs; its refused requests come at a fixed rate from a niced process.

The exit status is 1 if a median beside is more than MAX_RATIO times the one alone and more than NOISE_SECONDS above it:
of a poll of three milliseconds, the scheduler of a busy machine takes as much.
"""

import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from longshore.demo.seed import SMALLER_CHAINS, seed
from tests.neighbour.quiet import MEASURES, QuietChain, Times
from tests.neighbour.worst import BEHAVIORS
from tests.neighbour.worst_chain import StoredTasks, WorstChain
from tests.receiver import receiving
from tests.service import Longshore, database_in, in_own_loop

ROWS = 100_000  # of the demo's large chain; the two chains here have a tenth of that each
QUIET_CHAIN, WORST_CHAIN = SMALLER_CHAINS
WORKERS = int(os.environ.get("NEIGHBOUR_WORKERS", "1"))
OPENED = 600  # of each token; it may have 500
ROUNDS = int(os.environ.get("NEIGHBOUR_ROUNDS", "4"))
PHASE_SECONDS = 4.0
BEHAVIOR_SECONDS = 40.0  # after which no further round of a behavior begins, so that all end within eight minutes
MAX_RATIO = 2.0
NOISE_SECONDS = 0.005
WARM_UP_SECONDS = 5.0

SETTINGS = {
    "outbound_allow": "127.0.0.1",
    "credential_rate": "6000/minute",
    "address_rate": "12000/minute",
    "chain_stored_tasks": "5000",
    "chain_task_megabytes": "10",
}
STORED = {"many tasks at once": StoredTasks(due=4_800), "a full quota": StoredTasks(large=199)}


class Result(msgspec.Struct, frozen=True):
    """A measure of the quiet chain, in seconds: medians alone and beside a behavior of the other chain."""

    behavior: str
    measure: str
    alone: float
    beside: float

    @property
    def ratio(self) -> float:
        return self.beside / self.alone

    @property
    def within(self) -> bool:
        """Whether the quiet chain waits at most twice as long, or so little longer that it is noise."""
        return self.ratio <= MAX_RATIO or self.beside - self.alone <= NOISE_SECONDS


def compare(quiet: QuietChain, worst: WorstChain, behavior: str) -> tuple[list[Result], Counter[str]]:
    """Measure the quiet chain alone and beside a behavior, in turn; return the results and the other one's answers."""
    alone: Times = defaultdict(list)
    beside: Times = defaultdict(list)
    answers: Counter[str] = Counter()
    began = time.monotonic()
    for number in range(ROUNDS):
        if number and time.monotonic() - began > BEHAVIOR_SECONDS:
            break
        for measure, times in quiet.measure(PHASE_SECONDS).items():
            alone[measure] += times
        with worst.doing(behavior) as answered:
            for measure, times in quiet.measure(PHASE_SECONDS).items():
                beside[measure] += times
        answers.update(answered)
    results = [Result(behavior, name, median(alone[name]), median(beside[name])) for name in MEASURES]
    return results, answers


def show(found: dict[str, tuple[list[Result], Counter[str]]]) -> None:
    """Print the results of all behaviors."""
    table = Table(title="What one chain waits alone, and while another one does its worst (medians, ms)")
    for heading in ("behavior of the other chain", "measure", "alone", "beside", "ratio", "within", "answers to it"):
        number = heading in ("alone", "beside", "ratio")
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for behavior, (results, answers) in found.items():
        message = ", ".join(f"{status}: {count:,}" for status, count in sorted(answers.items()))
        for result in results:
            first = result.measure == MEASURES[0]
            figures = (f"{result.alone * 1000:.1f}", f"{result.beside * 1000:.1f}", f"{result.ratio:.2f}")
            within = "yes" if result.within else "[bold red]no[/]"
            table.add_row(behavior if first else "", result.measure, *figures, within, message if first else "")
        table.add_section()
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)


def main(behaviors: list[str]) -> int:
    """Compare all behaviors, or those that are named; print the table and return the exit status."""
    began = time.monotonic()
    found = {}
    with tempfile.TemporaryDirectory(prefix="longshore-neighbour-") as folder, database_in(Path(folder)) as url:
        in_own_loop(seed(url, ROWS, lambda _: None))
        service = Longshore(Path(folder), url, **SETTINGS)
        try:
            for _ in range(WORKERS):
                service.start("worker")
            service.start_api()
            with receiving() as receiver:
                quiet = QuietChain(service, QUIET_CHAIN, receiver)
                worst = WorstChain(service, WORST_CHAIN, STORED, OPENED)
                quiet.measure(WARM_UP_SECONDS)
                for behavior in behaviors or BEHAVIORS:
                    found[behavior] = compare(quiet, worst, behavior)
                    print(f"{behavior}: done after {time.monotonic() - began:.0f} s", flush=True)
        finally:
            service.stop()
    show(found)
    missed = [result for results, _ in found.values() for result in results if not result.within]
    print("failed" if missed else "passed")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
