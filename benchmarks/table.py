"""The table of ratios: on the terminal for people, as JSON for comparing runs."""

import os
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


class Case(msgspec.Struct, frozen=True):
    """One comparison. `ours_rounds` and `peer_rounds` are what the two figures were chosen from, as `chosen` says."""

    name: str
    peer_name: str
    unit: str
    chosen: str
    ours: float
    peer: float
    ratio: float
    target: str
    met: bool
    ours_rounds: list[float]
    peer_rounds: list[float]
    notes: dict[str, float] = {}

    @property
    def median_ratio(self) -> float:
        """Of the ratios of the rounds that ran one after the other: says how far the noise of the machine carries."""
        return statistics.median(ours / peer for ours, peer in zip(self.ours_rounds, self.peer_rounds, strict=True))


class Report(msgspec.Struct, frozen=True):
    """A run of the benchmarks, and the machine that it ran on."""

    began: datetime
    processors: int
    python: str
    cases: list[Case]


def show(cases: list[Case]) -> None:
    """Print the cases. A missed target is shown as missed."""
    table = Table(
        title="Ours and the peer take turns in this run; ratio = ours / peer",
        caption="median ratio: of the single turns; the further it is from the ratio, the noisier the machine was",
    )
    for heading in ("what", "peer", "unit", "ours", "peer's", "ratio", "target", "met", "compared", "median ratio"):
        number = heading in ("ours", "peer's", "ratio", "median ratio")
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for case in cases:
        figures = (f"{case.ours:,.2f}", f"{case.peer:,.2f}", f"{case.ratio:.2f}")
        met = "yes" if case.met else "[bold red]no[/]"
        table.add_row(
            case.name, case.peer_name, case.unit, *figures, case.target, met, case.chosen, f"{case.median_ratio:.2f}"
        )
    # Where the output is no terminal, rich would cut the table to 80 columns.
    console = Console()
    (console if console.is_terminal else Console(width=180)).print(table)


def save(cases: list[Case], began: datetime) -> Path:
    """Write the cases as JSON and give the file, which is named by the moment the run began."""
    report = Report(began, os.cpu_count() or 0, platform.python_version(), cases)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{began.astimezone(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return file
