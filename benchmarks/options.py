"""The options of a run of the benchmarks."""

import msgspec


class Options(msgspec.Struct, frozen=True):
    """Sizes and rounds. The targets are for the defaults; anything smaller is a quick look."""

    rows: int = 1_000_000
    """Ledger entries of the large export; the small one has a tenth."""
    many_rows: int = 10_000_000
    """Ledger entries where the memory of a worker is compared with that of a fiftieth of them."""
    tasks: int = 100_000
    """Tasks in the table that is polled."""
    rounds: int = 8
    """Rounds of each side."""
    seconds: int = 4
    """Length of a round of polls. Many short rounds find a quiet moment for each side where few long ones do not."""
    waiting: int = 1_000_000
    """Tasks that wait in the table whose scale is measured."""
