"""Exports: how long the whole service takes beside what people would use instead, and what memory a worker needs."""

from collections.abc import Callable

import msgspec
from tests.service import Longshore

from benchmarks import ledger
from benchmarks.dataframe import by_pandas
from benchmarks.ledger import peak, psql
from benchmarks.options import Options
from benchmarks.table import Case
from longshore.demo.seed import CHAIN, SMALLER_CHAINS

FEW_CHAIN = 77  # with one percent of the rows of the large one

MOST_GROWTH = 10.0  # MB between a tenth of the rows and all of them
MOST_GROWTH_OF_MANY = 15.0  # MB between 200,000 rows and 10,000,000
MOST_MEMORY_OF_PARQUET = 400.0  # MB

FEW = f"""
create table public.few as select * from loyalty.wallet_ledger where chain_id = {CHAIN} and id % 100 = 0;
update public.few set chain_id = {FEW_CHAIN}, id = id + 1000000000000;
insert into loyalty.wallet_ledger select * from public.few;
drop table public.few;
vacuum analyze loyalty.wallet_ledger
"""

Tell = Callable[[str], None]


class Race(msgspec.Struct, frozen=True):
    """An export and its peer."""

    name: str
    ours: Callable[[], float]
    peer_name: str
    peer: Callable[[], float]
    most: float
    """Of the peer's time."""


def run(options: Options, tell: Tell) -> list[Case]:
    """CSV beside psql, and the memory of a worker."""
    tell(f"writing {options.rows:,} rows")
    with ledger.service_with(options.rows) as longshore:
        statement = ledger.query(longshore)
        race = Race(
            name=f"export of {options.rows:,} rows to CSV",
            ours=lambda: ledger.export(longshore, options.rows),
            peer_name="psql \\copy, same query",
            peer=lambda: psql(longshore, statement, options.rows),
            most=0.75,
        )
        few = options.rows // 10
        return [
            *_races(longshore, [race], options, tell),
            _memory(longshore, "csv", (CHAIN, options.rows), (SMALLER_CHAINS[0], few), MOST_GROWTH, options, tell),
        ]


def run_formats(options: Options, tell: Tell) -> list[Case]:
    """Compressed CSV, JSON lines and Parquet, and a chain that has few of a table's rows."""
    rows = options.rows
    tell(f"writing {rows:,} rows")
    with ledger.service_with(rows) as longshore:
        few = _add_few(longshore)
        csv, csv_of_few = ledger.query(longshore), ledger.query(longshore, chain=FEW_CHAIN)
        races = [
            Race(
                f"{rows:,} rows to CSV, gzip",
                lambda: ledger.export(longshore, rows, "csv", "gzip"),
                "psql \\copy | gzip -6",
                lambda: psql(longshore, csv, rows, "gzip -6"),
                0.5,
            ),
            Race(
                f"{rows:,} rows to JSON lines",
                lambda: ledger.export(longshore, rows, "jsonl"),
                "psql \\copy (select row_to_json …)",
                lambda: psql(longshore, f"select row_to_json(line) from ({csv}) line", rows),
                0.75,
            ),
            Race(
                f"{few:,} rows to CSV, 1 % of the table",
                lambda: ledger.export(longshore, few, chain=FEW_CHAIN),
                "psql \\copy, same filter",
                lambda: psql(longshore, csv_of_few, few),
                1.2,
            ),
        ]
        return [*_races(longshore, races, options, tell), *_parquet(longshore, options, tell)]


def run_memory(options: Options, tell: Tell) -> list[Case]:
    """The memory of a worker with many rows and with few."""
    many, few = options.many_rows, options.many_rows // 50
    tell(f"writing {many:,} rows")
    with ledger.service_with(many) as longshore:
        longshore.sql(f"delete from loyalty.wallet_ledger where chain_id = {SMALLER_CHAINS[0]} and id % 5 <> 0")
        (found,) = longshore.sql("select count(*) from loyalty.wallet_ledger where chain_id = $1", SMALLER_CHAINS[0])
        assert found[0] == few, found
        pairs = ((CHAIN, many), (SMALLER_CHAINS[0], few))
        return [
            _memory(longshore, form, *pairs, MOST_GROWTH_OF_MANY, msgspec.structs.replace(options, rounds=1), tell)
            for form in ("csv", "json")
        ]


def _races(longshore: Longshore, races: list[Race], options: Options, tell: Tell) -> list[Case]:
    worker = longshore.start("worker")
    cases = [_race(race, options.rounds, tell) for race in races]
    worker.terminate()
    worker.wait()
    return cases


def _race(race: Race, rounds: int, tell: Tell) -> Case:
    # The first of each warms the caches of the database and the disk and is not counted.
    race.ours()
    race.peer()
    ours, peer = [], []
    for number in range(1, rounds + 1):
        ours.append(race.ours())
        peer.append(race.peer())
        tell(f"{race.name}, round {number}: ours {ours[-1]:.2f} s, {race.peer_name} {peer[-1]:.2f} s")
    ratio = min(ours) / min(peer)
    return Case(
        name=race.name,
        peer_name=race.peer_name,
        unit="s",
        chosen=f"best of {rounds}",
        ours=min(ours),
        peer=min(peer),
        ratio=ratio,
        target=f"at most {race.most}",
        met=ratio <= race.most,
        ours_rounds=ours,
        peer_rounds=peer,
    )


def _parquet(longshore: Longshore, options: Options, tell: Tell) -> list[Case]:
    rows = options.rows
    peaks: list[float] = []

    def peer() -> float:
        seconds, megabytes = by_pandas(longshore, rows)
        peaks.append(megabytes)
        return seconds

    race = Race(f"{rows:,} rows to Parquet", lambda: ledger.export(longshore, rows, "parquet"), "pandas", peer, 0.35)
    few_rounds = msgspec.structs.replace(options, rounds=min(options.rounds, 3))  # the peer takes long
    ours = peak(longshore, rows, "parquet")
    return [
        *_races(longshore, [race], few_rounds, tell),
        Case(
            name=f"peak memory, {rows:,} rows to Parquet",
            peer_name="pandas",
            unit="MB",
            chosen="one; smallest",
            ours=ours,
            peer=min(peaks),
            ratio=ours / min(peaks),
            target=f"under {MOST_MEMORY_OF_PARQUET:.0f} MB",
            met=ours < MOST_MEMORY_OF_PARQUET,
            ours_rounds=[ours],
            peer_rounds=[min(peaks)],
        ),
    ]


def _memory(
    longshore: Longshore,
    kind: str,
    large: tuple[int, int],
    small: tuple[int, int],
    growth: float,
    options: Options,
    tell: Tell,
) -> Case:
    rounds = min(options.rounds, 3)  # memory is no matter of luck
    ours, peer = [], []
    for number in range(1, rounds + 1):
        ours.append(peak(longshore, large[1], kind, large[0]))
        peer.append(peak(longshore, small[1], kind, small[0]))
        tell(f"{kind}, peak {number}: {ours[-1]:.1f} MB, with {small[1]:,} rows {peer[-1]:.1f} MB")
    # The least favourable pair: the largest peak of all with the smallest with few rows.
    most, least = max(ours), min(peer)
    return Case(
        name=f"peak memory of a worker, {large[1]:,} rows to {kind}",
        peer_name=f"itself, {small[1]:,} rows",
        unit="MB",
        chosen=f"largest of {rounds}, smallest of {rounds}",
        ours=most,
        peer=least,
        ratio=most / least,
        target=f"within {growth:.0f} MB",
        met=abs(most - least) <= growth,
        ours_rounds=ours,
        peer_rounds=peer,
    )


def _add_few(longshore: Longshore) -> int:
    for statement in FEW.split(";"):
        longshore.sql(statement)
    (found,) = longshore.sql("select count(*) from loyalty.wallet_ledger where chain_id = $1", FEW_CHAIN)
    return int(found[0])
