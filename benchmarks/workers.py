"""One export over many workers: how much sooner two workers have it than one, on the disk."""

from collections.abc import Callable

from tests.service import Longshore

from benchmarks import ledger
from benchmarks.options import Options
from benchmarks.table import Case

ROUNDS = 3  # of so long an export
LEAST_SPEED_UP = 1.5


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """The same export with one worker and with two, in turns; with connections as they come, and with one each."""
    rows = options.many_rows
    tell(f"writing {rows:,} rows")
    with ledger.service_with(rows) as longshore:
        return [
            _speed_up(longshore, rows, min(options.rounds, ROUNDS), settings, name, tell)
            for name, settings in (("as they come", {}), ("one connection each", {"export_connections": "1"}))
        ]


def _speed_up(
    longshore: Longshore, rows: int, rounds: int, settings: dict[str, str], name: str, tell: Callable[[str], None]
) -> Case:
    settings = {"shard_rows": str(rows // 8), **settings}
    two, one = [], []
    for number in range(1, rounds + 1):
        two.append(_seconds(longshore, rows, 2, settings))
        one.append(_seconds(longshore, rows, 1, settings))
        tell(f"{name}, round {number}: two workers {two[-1]:.2f} s, one {one[-1]:.2f} s")
    ratio = min(one) / min(two)
    return Case(
        name=f"{rows:,} rows to CSV with two workers, {name}",
        peer_name="one worker",
        unit="s",
        chosen=f"best of {rounds}",
        ours=min(two),
        peer=min(one),
        ratio=ratio,
        target=f"speed-up of at least {LEAST_SPEED_UP}",
        met=ratio >= LEAST_SPEED_UP,
        ours_rounds=two,
        peer_rounds=one,
    )


def _seconds(longshore: Longshore, rows: int, count: int, settings: dict[str, str]) -> float:
    workers = [longshore.start("worker", **settings) for _ in range(count)]
    try:
        return ledger.export(longshore, rows)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
