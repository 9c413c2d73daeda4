"""Exports: how long the whole service takes beside what people would use instead, and what memory a worker needs."""

import statistics
from collections.abc import Callable, Sequence

import msgspec
from tests.service import Longshore

from benchmarks import ledger
from benchmarks.dataframe import by_pandas
from benchmarks.duckdb_reader import by_duckdb
from benchmarks.ledger import peak, psql
from benchmarks.options import Options
from benchmarks.table import Case
from longshore.demo.seed import CHAIN, SMALLER_CHAINS

FEW_CHAIN = 77  # with one percent of the rows of the large one

ROUNDS = 5
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


class Peer(msgspec.Struct, frozen=True):
    """Another program that does the same as an export."""

    name: str
    seconds: Callable[[], float]
    """Do the same once; returns seconds."""
    most: float
    """Of its time, that ours may take."""


class Race(msgspec.Struct, frozen=True):
    """An export and its peers, which take turns."""

    name: str
    ours: Callable[[], float]
    peers: Sequence[Peer]


def run(options: Options, tell: Tell) -> list[Case]:
    """CSV beside DuckDB and psql, and the memory of a worker."""
    rows = options.rows
    tell(f"writing {rows:,} rows")
    with ledger.service_with(rows) as longshore:
        statement = ledger.query(longshore)
        race = Race(
            f"{rows:,} rows to CSV",
            lambda: ledger.export(longshore, rows),
            [
                _duckdb(longshore, rows, "csv", 0.95),
                Peer("psql \\copy, same query", lambda: psql(longshore, statement, rows), 0.85),
            ],
        )
        few = rows // 10
        return [
            *_races(longshore, [race], options, tell),
            _memory(longshore, "csv", (CHAIN, rows), (SMALLER_CHAINS[0], few), MOST_GROWTH, options, tell),
        ]


def run_formats(options: Options, tell: Tell) -> list[Case]:
    """Compressed CSV, JSON lines and Parquet, and a chain that has few of a table's rows."""
    rows = options.rows
    tell(f"writing {rows:,} rows")
    with ledger.service_with(rows) as longshore:
        few = _add_few(longshore)
        csv, csv_of_few = ledger.query(longshore), ledger.query(longshore, chain=FEW_CHAIN)
        of_gzip = Peer("psql \\copy | gzip -6", lambda: psql(longshore, csv, rows, "gzip -6"), 0.5)
        of_json = f"select row_to_json(line) from ({csv}) line"
        races = [
            Race(
                f"{rows:,} rows to CSV, gzip",
                lambda: ledger.export(longshore, rows, "csv", "gzip"),
                [_duckdb(longshore, rows, "csv gzip", 0.3), of_gzip],
            ),
            Race(
                f"{rows:,} rows to CSV, zstd",
                lambda: ledger.export(longshore, rows, "csv", "zstd"),
                [_duckdb(longshore, rows, "csv zstd", 0.3)],
            ),
            Race(
                f"{rows:,} rows to JSON lines",
                lambda: ledger.export(longshore, rows, "jsonl"),
                [
                    _duckdb(longshore, rows, "jsonl", 1.3),
                    Peer("psql \\copy (select row_to_json …)", lambda: psql(longshore, of_json, rows), 0.75),
                ],
            ),
            Race(
                f"{few:,} rows to CSV, 1 % of the table",
                lambda: ledger.export(longshore, few, chain=FEW_CHAIN),
                [Peer("psql \\copy, same filter", lambda: psql(longshore, csv_of_few, few), 1.2)],
            ),
        ]
        return [*_races(longshore, races, options, tell), *_parquet(longshore, options, tell)]


def run_memory(options: Options, tell: Tell) -> list[Case]:
    """The memory of a worker with many rows and with few, for every format that has no limit of rows."""
    many, few = options.many_rows, options.many_rows // 50
    tell(f"writing {many:,} rows")
    with ledger.service_with(many) as longshore:
        longshore.sql(f"delete from loyalty.wallet_ledger where chain_id = {SMALLER_CHAINS[0]} and id % 5 <> 0")
        (found,) = longshore.sql("select count(*) from loyalty.wallet_ledger where chain_id = $1", SMALLER_CHAINS[0])
        assert found[0] == few, found
        pairs = ((CHAIN, many), (SMALLER_CHAINS[0], few))
        once = msgspec.structs.replace(options, rounds=1)
        kinds = ("csv", "csv gzip", "csv zstd", "json", "jsonl", "parquet")
        return [_memory(longshore, kind, *pairs, MOST_GROWTH_OF_MANY, once, tell) for kind in kinds]


def _duckdb(longshore: Longshore, rows: int, kind: str, most: float) -> Peer:
    return Peer("DuckDB's PostgreSQL reader", lambda: by_duckdb(longshore, rows, kind)[0], most)


def _races(longshore: Longshore, races: list[Race], options: Options, tell: Tell) -> list[Case]:
    worker = longshore.start("worker")
    cases = [case for race in races for case in _race(race, min(options.rounds, ROUNDS), tell)]
    worker.terminate()
    worker.wait()
    return cases


def _race(race: Race, rounds: int, tell: Tell) -> list[Case]:
    # The first of each warms the caches of the database and the disk and is not counted.
    sides = [race.ours, *(peer.seconds for peer in race.peers)]
    for side in sides:
        side()
    turns: list[list[float]] = []
    for number in range(1, rounds + 1):
        turns.append([side() for side in sides])
        shown = ", ".join(f"{peer.name} {it:.2f} s" for peer, it in zip(race.peers, turns[-1][1:], strict=True))
        tell(f"{race.name}, round {number}: ours {turns[-1][0]:.2f} s, {shown}")
    ours, *others = ([turn[side] for turn in turns] for side in range(len(sides)))
    return [_case(race.name, peer, ours, its) for peer, its in zip(race.peers, others, strict=True)]


def _case(name: str, peer: Peer, ours: list[float], its: list[float]) -> Case:
    ratio = statistics.median(ours) / statistics.median(its)
    return Case(
        name=name,
        peer_name=peer.name,
        unit="s",
        chosen=f"median of {len(ours)}",
        ours=statistics.median(ours),
        peer=statistics.median(its),
        ratio=ratio,
        target=f"at most {peer.most}",
        met=ratio <= peer.most,
        ours_rounds=ours,
        peer_rounds=its,
    )


def _parquet(longshore: Longshore, options: Options, tell: Tell) -> list[Case]:
    rows = options.rows
    peaks: list[float] = []

    def pandas() -> float:
        seconds, megabytes = by_pandas(longshore, rows)
        peaks.append(megabytes)
        return seconds

    race = Race(
        f"{rows:,} rows to Parquet",
        lambda: ledger.export(longshore, rows, "parquet"),
        [_duckdb(longshore, rows, "parquet", 1.15), Peer("pandas", pandas, 0.35)],
    )
    ours = peak(longshore, rows, "parquet")
    return [
        *_races(longshore, [race], options, tell),
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
    form, _, compression = kind.partition(" ")
    ours, peer = [], []
    for number in range(1, rounds + 1):
        ours.append(peak(longshore, large[1], form, compression, large[0]))
        peer.append(peak(longshore, small[1], form, compression, small[0]))
        tell(f"{kind}, peak {number}: {ours[-1]:.1f} MB, with {small[1]:,} rows {peer[-1]:.1f} MB")
    # The least favourable pair: the largest peak of all with the smallest with few rows.
    most, least = max(ours), min(peer)
    return Case(
        name=f"peak memory of a worker, {large[1]:,} rows to {kind.replace(' ', ', ')}",
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
