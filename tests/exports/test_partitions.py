"""Partitions of a table with odd values, read by the engine from a real PostgreSQL into real files."""

import asyncio
import csv
import io
import time
import zoneinfo
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import duckdb
import pytest

from longshore.database.connect import open_pool
from longshore.errors import LongshoreError
from longshore.exports.catalog import FieldType, Index
from longshore.exports.columns import FieldChoice
from longshore.exports.files.partitions import Partition, PartitionKey
from longshore.exports.files.paths import MAX_FILES
from longshore.exports.files.writer import MAX_FINISHING, SliceWriter
from longshore.exports.job import ExportJob, Output, plan_indexes
from longshore.exports.manifest import FileEntry
from longshore.exports.many_files import add_empty_files, write_by_one, write_files
from longshore.exports.planned_result import PlannedResult
from longshore.exports.query import ExportQuery, ExportRequest, prepare
from longshore.exports.shards.coordinator import Coordinator
from longshore.exports.signatures import SigningKey
from longshore.exports.slices import Slice
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections
from longshore.exports.source_limits import Throttle
from longshore.exports.target import IndexTarget, Split
from longshore.results.local import LocalStore
from longshore.tasks.attempts import Attempt
from longshore.tasks.model import ChainId, Interval, TaskId
from longshore.tasks.queue import Message
from tests.exports.engine import CHAIN, ignore, index_over
from tests.service import Longshore, in_own_loop

WORDS = [
    None, "", "EUR", "eur", "a/b", "..", ".", "ü", "a b", "100%", "__HIVE_DEFAULT_PARTITION__", "=", "a\nb", "'", '"',
    "~", "$1", "\\", "a,b", "NULL", "日本", "🙂",
]  # fmt: skip
TIMES = [
    "2026-03-29 00:59:59Z", "2026-03-29 01:00:00Z", "2026-10-25 00:30:00Z", "2026-10-25 01:30:00Z",
    "2026-12-31 23:30:00Z", "2026-05-26 21:59:59.999999Z", "2026-05-26 22:00:00Z",
    "infinity", "-infinity", "0044-03-15 12:00:00 BC",
    "0044-03-15 12:00:00", "20231-01-01 00:00:00Z", None,
]  # fmt: skip
INDEX = index_over(
    "files.odd",
    id=FieldType.NUMBER,
    word=FieldType.KEYWORD,
    at=FieldType.DATE,
    local=FieldType.DATE,
    day=FieldType.DATE,
)


async def make(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("create schema if not exists files; drop table if exists files.odd")
    await connection.execute(
        "create table files.odd (id int, chain_id bigint, word text, at timestamptz, local timestamp, day date)"
    )
    rows = [(word, time) for word in WORDS for time in TIMES]
    values = [
        f"({n}, {CHAIN}, {quoted(word)}, {quoted(time)}, {quoted(time)}, {quoted(time)})"
        for n, (word, time) in enumerate(rows)
    ]
    await connection.execute(f"set time zone 'UTC'; insert into files.odd values {', '.join(values)}")
    await connection.close()


def quoted(text: str | None) -> str:
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


@pytest.fixture(scope="module")
def url(idle_service: Longshore) -> str:
    in_own_loop(make(idle_service.url))
    return idle_service.url


async def export(
    url: str,
    folder: Path,
    keys: list[PartitionKey] | None,
    zone: str = "UTC",
    split: Split | None = None,
    slice_rows: int = 10**9,
    index: Index = INDEX,
    format: str = "csv",
    fields: list[str | FieldChoice] | None = None,
    bytes_per_second: float = 0,
) -> list[FileEntry]:
    """Export a table into a folder; return the entries of the manifest."""
    target = IndexTarget(
        action="export", export_index="odd", export_format=format, fields=fields, partition_by=keys, split=split
    )
    request = ExportRequest(ChainId(CHAIN), target, None, Interval(None, datetime.now(UTC)), zone=zone)
    async with open_pool(url, size=2, name="test", **EXPORT_SESSION) as pool:
        database = SourceConnections(pool, 1)
        async with database.snapshot() as (connection, _):
            jobs = await plan_indexes(database, connection, [(index, request)], slice_rows, has_files=True)
            output = output_in(folder, bytes_per_second)
            done = await write_by_one(output, jobs)
            await add_empty_files(output, jobs, done)
            jobs[0].reconciler.check(done[0].sums)
    return done[0].files


def output_in(folder: Path, bytes_per_second: float = 0) -> Output:
    return Output(LocalStore(folder), "1/1/1/a.manifest.json", ignore, Throttle(bytes_per_second))


def rows_of(folder: Path, file: FileEntry) -> list[dict[str, str]]:
    text = (folder / "1/1/1" / file.path).read_bytes().decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(found) == file.rows
    return found


def test_each_spelling_of_a_keyword_is_a_partition_and_missing_ones_are_together(url: str, tmp_path: Path) -> None:
    files = asyncio.run(export(url, tmp_path, [PartitionKey("word")]))
    found = {file.partition["word"]: file for file in files}
    assert set(found) == {word or None for word in WORDS}
    assert len({file.path for file in files}) == len(files) == len(WORDS) - 1
    for value, file in found.items():
        assert {row["word"] or None for row in rows_of(tmp_path, file)} == {value}
        assert file.rows == len(TIMES) * (1 if value else 2)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Amsterdam", "America/St_Johns", "Pacific/Apia"])
def test_days_are_those_of_the_clock_of_the_zone(url: str, tmp_path: Path, zone: str) -> None:
    files = asyncio.run(export(url, tmp_path, [PartitionKey("at", "day")], zone))
    counted: Counter[str | None] = Counter()
    for file in files:
        for row in rows_of(tmp_path, file):
            text = row["at"]
            if text.startswith("2026"):
                expected: str | None = f"{datetime.fromisoformat(text).astimezone(ZoneInfo(zone)):%Y-%m-%d}"
                assert file.partition["at_day"] == expected
            counted[file.partition["at_day"]] += 1
    assert counted[None] == counted["infinity"] == counted["-infinity"] == len(WORDS)
    assert sum(counted.values()) == len(WORDS) * len(TIMES)
    years = {str(value).partition("-")[0] + (" BC" if str(value).endswith("BC") else "") for value in counted if value}
    assert {"0044", "0044 BC"} <= years


@pytest.fixture
def other_zones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have Python know a zone that PostgreSQL lacks, and another one by the rules of Amsterdam."""
    folder, original = tmp_path_factory.mktemp("zones"), zoneinfo.TZPATH
    rules = next(Path(root) / "Europe/Amsterdam" for root in original if (Path(root) / "Europe/Amsterdam").exists())
    for name in ("Nowhere/Lacking", "Pacific/Kanton"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(rules.read_bytes())
    zoneinfo.reset_tzpath([str(folder), *original])
    ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath(original)
    ZoneInfo.clear_cache()


@pytest.mark.usefixtures("other_zones")
@pytest.mark.parametrize(
    ("zone", "message"),
    [
        ("Nowhere/Lacking", "does not know the time zone Nowhere/Lacking"),
        ("Pacific/Kanton", "has other rules of the time zone Pacific/Kanton"),
        ("CET", "has other rules of the time zone CET"),  # without summer time, as PostgreSQL's abbreviation
    ],
)
def test_a_time_zone_that_the_source_lacks_or_has_other_rules_of_divides_no_rows(
    url: str, tmp_path: Path, zone: str, message: str
) -> None:
    with pytest.raises(LongshoreError, match=rf"the source \(PostgreSQL \d+\.\d+\) {message}"):
        asyncio.run(export(url, tmp_path, [PartitionKey("word"), PartitionKey("at", "day")], zone))
    with pytest.raises(LongshoreError, match=message):
        asyncio.run(export(url, tmp_path, [PartitionKey("local", "year")], zone))
    assert asyncio.run(export(url, tmp_path, [PartitionKey("day", "month")], zone))  # a day is the same in each zone
    assert asyncio.run(export(url, tmp_path, [PartitionKey("word")], zone))


def test_a_date_without_a_time_and_a_time_without_a_zone_have_their_day(url: str, tmp_path: Path) -> None:
    keys = [PartitionKey("day", "month"), PartitionKey("local", "year")]
    for file in asyncio.run(export(url, tmp_path, keys, "Asia/Tokyo")):
        for row in rows_of(tmp_path, file):
            if row["day"].startswith("2026"):
                assert file.partition["day_month"] == row["day"][:7]
                local = datetime.fromisoformat(row["local"]).astimezone(ZoneInfo("Asia/Tokyo"))
                assert file.partition["local_year"] == str(local.year)


def test_duckdb_reads_each_value_from_its_folder(url: str, tmp_path: Path) -> None:
    keys = [PartitionKey("word"), PartitionKey("at", "month")]
    files = asyncio.run(export(url, tmp_path, keys, format="parquet", fields=["id", "word"]))
    with duckdb.connect() as database:
        query = f"""
            select word, at_month, count(*)
            from read_parquet('{tmp_path}/**/*.parquet', hive_partitioning = true, hive_types_autocast = false)
            group by all
        """
        found = {(word, month): rows for word, month, rows in database.execute(query).fetchall()}
    expected: Counter[tuple[str | None, str | None]] = Counter()
    for file in files:
        expected[file.partition["word"], file.partition["at_month"]] += file.rows
    assert found == expected


def test_slices_of_partitions_have_the_files_of_one_slice(url: str, tmp_path: Path) -> None:
    keys = [PartitionKey("word"), PartitionKey("at", "day")]
    found = [
        asyncio.run(export(url, tmp_path / str(rows), keys, split=Split(rows=2), slice_rows=rows))
        for rows in (10**9, 50)
    ]
    assert found[0] == found[1]
    assert sum(file.rows for file in found[0]) == len(WORDS) * len(TIMES)


@pytest.fixture(scope="module")
def wide(url: str) -> Index:
    """An index over a table of 300 blocks, each of which has one row."""

    async def fill() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(
            "create table files.wide (id int, chain_id bigint, word text, at timestamptz, filler text storage plain);"
            f"insert into files.wide select n, {CHAIN}, 'w' || n, null, repeat('x', 5000)"
            " from generate_series(1, 300) n"
        )
        await connection.execute("vacuum analyze files.wide")
        await connection.close()

    in_own_loop(fill())
    return index_over("files.wide", id=FieldType.NUMBER, word=FieldType.KEYWORD)


def test_a_table_is_cut_into_a_hundred_shares_at_most_and_no_part_crosses_one(
    url: str, wide: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longshore.exports.ranges.RANGE_BLOCKS", 1)
    files = asyncio.run(export(url, tmp_path, None, split=Split(rows=2), slice_rows=1, index=wide))
    shares: dict[str, list[int]] = {}
    for file in files:
        share, part = file.path.removeprefix("odd/part-").removesuffix(".csv").split("-")
        shares.setdefault(share, []).append(file.rows)
        assert int(part) == len(shares[share])
    assert list(shares) == [f"{number:03}" for number in range(1, 101)]
    assert all(rows == [2, 1] for rows in shares.values()), "each share has three rows"
    ids = [int(row["id"]) for file in files for row in rows_of(tmp_path, file)]
    assert ids == list(range(1, 301))


def test_partitions_are_shared_out_into_a_hundred_shares_at_most(url: str, wide: Index) -> None:
    async def shares() -> list[int]:
        target = IndexTarget(
            action="export", export_index="odd", export_format="csv", partition_by=[PartitionKey("word")]
        )
        request = ExportRequest(ChainId(CHAIN), target, None, Interval(None, datetime.now(UTC)))
        async with open_pool(url, size=2, name="test", **EXPORT_SESSION) as pool:
            database = SourceConnections(pool, 1)
            async with database.snapshot() as (connection, _):
                [job] = await plan_indexes(database, connection, [(wide, request)], 1, has_files=True)
        return [len(share.partitions or ()) for share in job.slices]

    assert asyncio.run(shares()) == [3] * 100


def test_more_partitions_than_files_are_refused_before_a_row_is_written(url: str, tmp_path: Path) -> None:
    async def fill() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("drop table if exists files.many; create table files.many (like files.odd)")
        await connection.execute(
            f"insert into files.many select n, {CHAIN}, n::text from generate_series(1, {MAX_FILES + 1}) n"
        )
        await connection.close()

    in_own_loop(fill())
    many = index_over("files.many", word=FieldType.KEYWORD)
    with pytest.raises(LongshoreError, match="more than 10,000 files"):
        asyncio.run(export(url, tmp_path, [PartitionKey("word")], index=many))
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_an_index_without_rows_counts_among_ten_thousand(url: str, tmp_path: Path) -> None:
    async def test() -> None:
        target = IndexTarget(action="export", export_index="odd", export_format="csv")
        interval = Interval(None, datetime.now(UTC))
        full, empty = (ExportRequest(ChainId(chain), target, None, interval) for chain in (CHAIN, CHAIN + 1))
        async with open_pool(url, size=2, name="test", **EXPORT_SESSION) as pool:
            database = SourceConnections(pool, 1)
            async with database.snapshot() as (connection, _):
                parts = [(INDEX, full), (INDEX, empty)]
                jobs = await plan_indexes(database, connection, parts, 10**9, has_files=True)
                output = output_in(tmp_path)
                done = await write_by_one(output, jobs)
                assert [len(index.files) for index in done] == [1, 0]
                done[0].files *= MAX_FILES
                with pytest.raises(LongshoreError, match="more than 10,000 files"):
                    await add_empty_files(output, jobs, done)
                done[0].files.pop()
                await add_empty_files(output, jobs, done)
                assert sum(len(index.files) for index in done) == MAX_FILES

    asyncio.run(test())


def test_the_file_of_an_index_without_rows_is_written_when_the_snapshot_has_ended(url: str, tmp_path: Path) -> None:
    async def test() -> None:
        interval = Interval(None, datetime.now(UTC))
        parts = [
            (INDEX, ExportRequest(ChainId(CHAIN + number), target, None, interval))
            for number, target in enumerate(
                IndexTarget(action="export", export_index=name, export_format="csv") for name in ("odd", "empty")
            )
        ]
        attempt = Attempt(Message(TaskId(1), 1), ChainId(CHAIN), "export", "", "", 1, 1, 0, interval)
        output = output_in(tmp_path)
        naming = PlannedResult(attempt, "a.manifest.json", output.location, None, SigningKey.new())
        async with open_pool(url, size=2, name="test", **EXPORT_SESSION) as pool, AsyncExitStack() as stack:
            database = SourceConnections(pool, 1)
            async with database.snapshot() as (connection, snapshot_at):
                jobs = await plan_indexes(database, connection, parts, 10**9, has_files=True)
                job = ExportJob(naming, output, connection, snapshot_at, jobs, None)
                result = await write_files(stack, job, Coordinator(pool, job, timedelta(minutes=1)))
                assert [path.name for path in (tmp_path / "1/1/1").iterdir()] == ["odd"]
            done = await result.finish()
        assert [[file.path for file in index.files] for index in done] == [
            ["odd/part-00001.csv"],
            ["empty/part-00001.csv"],
        ]

    asyncio.run(test())


def test_many_small_slices_are_held_to_the_bytes_per_second_of_the_export(url: str, tmp_path: Path) -> None:
    keys = [PartitionKey("word")]
    size = sum(file.size for file in asyncio.run(export(url, tmp_path / "free", keys, slice_rows=1)))
    began = time.monotonic()
    asyncio.run(export(url, tmp_path / "held", keys, slice_rows=1, bytes_per_second=size / 1.5))
    assert time.monotonic() - began > 1.2


async def query_of(url: str, split: Split | None = None) -> ExportQuery:
    """Return the query of an export of the words."""
    fields: list[str | FieldChoice] = ["id", "word"]
    target = IndexTarget(action="export", export_index="odd", export_format="csv", fields=fields, split=split)
    request = ExportRequest(ChainId(CHAIN), target, None, Interval(None, datetime.now(UTC)))
    async with (
        open_pool(url, size=1, name="test", **EXPORT_SESSION) as pool,
        SourceConnections(pool, 1).snapshot() as (connection, _),
    ):
        return await prepare(connection, INDEX, request)


@pytest.mark.parametrize(("rows", "message"), [(1, "fewer rows"), (2, "fewer rows"), (4, "more rows")])
def test_rows_that_are_not_those_counted_for_the_partitions_end_the_export(
    url: str, tmp_path: Path, rows: int, message: str
) -> None:
    partitions = [Partition(["a"], 2, "a"), Partition(["b"], 1, "b")]
    writer = SliceWriter(output_in(tmp_path), asyncio.run(query_of(url)), ["word"], Slice(None, partitions=partitions))
    try:
        with pytest.raises(LongshoreError, match=message):
            writer.write([b"1,a\n"] * rows)
            writer.end()
    finally:
        writer.close()


def test_progress_counts_the_rows_of_a_complete_file_once_while_it_waits_for_the_store(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "1/1/1/odd/part-00001.csv").mkdir(parents=True)  # so that the first file cannot be completed
    writer = SliceWriter(output_in(tmp_path), asyncio.run(query_of(url, Split(rows=1))), [], Slice(None))
    try:
        with pytest.raises(IsADirectoryError):
            writer.write([b"1,a\n"] * 100_000)
        assert writer.rows == MAX_FINISHING + 1
    finally:
        writer.close()
