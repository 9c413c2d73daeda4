"""Where the data goes next: the recipes of the docs load nasty values without loss, as they are printed there."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest

from longshore import Longshore
from longshore.client.api_types import PartitionKey
from longshore.integrations.exports import of_interval
from tests import odd_values_table
from tests import service as services
from tests.conftest import SMALL_CHAIN
from tests.service import CHAIN

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "integrations.md").read_text(encoding="utf-8")
FIELDS = ["id", "timestamp", "kind", "amount", "comment"]


def recipe(name: str) -> str:
    """A block of SQL of the page, by its first line."""
    found = re.search(rf"```sql\n-- {re.escape(name)}\n(.*?)```", PAGE, re.S)
    assert found, name
    return found[1]


@pytest.fixture
def files(longshore: Longshore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    """The ledger as the recipes name it, in the current folder, and as a table."""
    monkeypatch.chdir(tmp_path)
    made = {
        format: longshore.exports.create("wallet-ledger", format=format, fields=FIELDS) for format in ("csv", "parquet")
    }
    for format, task in made.items():
        task.wait(60).download(f"ledger.{format}")
    return made["parquet"].to_arrow()


@pytest.fixture
def nasty(odd_values_service: services.Longshore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nasty words under the ledger's name."""
    monkeypatch.chdir(tmp_path)
    with Longshore(odd_values_service.address, odd_values_service.token(), chain=CHAIN) as client:
        client.exports.create("odd", fields=["id", "words"]).wait(60).download("ledger.csv")


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table, by their number."""
    return sorted(table.to_pylist(), key=lambda row: int(row["id"]))


@pytest.mark.parametrize("file", ["ledger.parquet", "ledger.csv"])
def test_duckdb_loads_the_ledger(files: pa.Table, file: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'").execute(recipe(f"duckdb: {file}"))
        assert rows(connection.sql("select * from ledger").to_arrow_table()) == rows(files)


@pytest.mark.usefixtures("nasty")
def test_duckdb_loads_nasty_words_from_csv() -> None:
    statement = re.sub(
        r"columns = \{.*?\}", "columns = {'id': 'BIGINT', 'words': 'VARCHAR'}", recipe("duckdb: ledger.csv"), flags=re.S
    )
    with duckdb.connect() as connection:
        connection.execute(statement)
        assert connection.execute("select words from ledger order by id").fetchall() == [
            (w,) for w in odd_values_table.WORDS
        ]


def test_clickhouse_loads_the_ledger(files: pa.Table) -> None:
    chdb = pytest.importorskip("chdb.session", reason="chdb comes with `make docs`")
    columns = re.search(r"'(id Int64.*)'\)\n", recipe("clickhouse: ledger.csv"))
    assert columns
    schema = columns[1].replace("\\'", "'")
    for file in ("ledger.parquet", "ledger.csv"):
        with chdb.Session() as session:
            session.query("create database d")
            session.query(f"create table d.ledger ({schema}) engine = MergeTree order by id")
            session.query("use d")
            session.query(recipe(f"clickhouse: {file}"))
            found = pa.ipc.open_file(
                pa.BufferReader(session.query("select * from d.ledger", "Arrow").bytes())
            ).read_all()
        assert rows(found) == rows(files), file


@pytest.mark.usefixtures("nasty")
def test_clickhouse_loads_nasty_words_from_csv() -> None:
    chdb = pytest.importorskip("chdb", reason="chdb comes with `make docs`")
    select = recipe("clickhouse: ledger.csv").removeprefix("INSERT INTO ledger\n").rstrip().rstrip(";")
    select = re.sub(r"'id Int64.*'\)\n", "'id Int64, words Nullable(String)') ORDER BY id\n", select)
    found = pa.ipc.open_file(pa.BufferReader(chdb.query(select, "Arrow").bytes())).read_all()
    assert found["words"].to_pylist() == odd_values_table.WORDS


@pytest.fixture
def increments(
    service: services.Longshore, longshore: Longshore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[tuple[Any, ...]]]:
    """The folders `ledger` and `increment` with two runs of many files, and the ledger as it is after the second."""
    monkeypatch.chdir(tmp_path)
    rows_of = "select id, comment from loyalty.wallet_ledger where chain_id = $1 order by id"
    changed = service.sql(rows_of, SMALL_CHAIN)[:40]
    write = """
        update loyalty.wallet_ledger set comment = text from unnest($1::bigint[], $2::text[]) one (number, text)
        where id = number
    """
    ids = [row["id"] for row in changed]
    keys: list[PartitionKey] = [{"field": "kind"}, {"field": "timestamp", "by": "year"}]
    task = longshore.exports.create(
        "wallet-ledger", format="parquet", fields=FIELDS, partition_by=keys, incremental="on_ack"
    ).wait(60)
    for folder in ("ledger", "increment"):
        Path(folder).mkdir()
    try:
        task.acknowledge(1)
        task.download("ledger/")
        service.sql(write, ids, ["new"] * len(ids))
        task.execute().wait(60)
        task.download("increment/")
        yield [tuple(row) for row in service.sql(rows_of, SMALL_CHAIN)]
    finally:
        service.sql(write, ids, [row["comment"] for row in changed])


def test_duckdb_loads_many_files_and_an_increment_of_many(increments: list[tuple[Any, ...]]) -> None:
    assert len(list(Path("increment").rglob("*.parquet"))) > 1
    with duckdb.connect() as connection:
        connection.execute(recipe("duckdb: many files"))
        for _ in range(2):  # applying an increment twice does no harm
            connection.execute(recipe("duckdb: increment of many files"))
        assert connection.execute("select id, comment from ledger order by id").fetchall() == increments
        assert len(connection.execute("select * from ledger limit 1").description) == len(FIELDS)


def test_clickhouse_loads_many_files_and_an_increment_of_many(increments: list[tuple[Any, ...]]) -> None:
    chdb = pytest.importorskip("chdb.session", reason="chdb comes with `make docs`")
    columns = re.search(r"'(id Int64.*)'\)\n", recipe("clickhouse: ledger.csv"))
    assert columns
    schema = columns[1].replace("\\'", "'")
    with chdb.Session() as session:
        session.query("create database d")
        session.query(f"create table d.ledger ({schema}) engine = MergeTree order by id")
        session.query("use d")
        for name in ("many files", "increment of many files", "increment of many files"):
            run_all(session, recipe(f"clickhouse: {name}"))
        found = session.query("select id, comment from ledger order by id", "Arrow").bytes()
    table = pa.ipc.open_file(pa.BufferReader(found)).read_all()
    assert [tuple(row.values()) for row in table.to_pylist()] == increments


def test_clickhouse_applies_changes() -> None:
    chdb = pytest.importorskip("chdb.session", reason="chdb comes with `make docs`")
    with chdb.Session() as session:
        session.query("create database d")
        session.query("use d")
        session.query("create table users (id Int64, comment Nullable(String)) engine = MergeTree order by id")
        session.query("insert into users values (1, 'a'), (2, 'b'), (3, 'c')")
        session.query(
            "create table changes (_change String, _reason Nullable(String), id Int64, comment Nullable(String))"
            " engine = MergeTree order by id"
        )
        session.query("insert into changes values ('upsert', null, 2, 'B'), ('upsert', null, 4, null)")
        session.query("insert into changes values ('delete', 'left', 3, null)")
        for _ in range(2):
            run_all(session, recipe("clickhouse: changes"))
            assert str(session.query("select id, comment from users order by id", "CSV")) == '1,"a"\n2,"B"\n4,\\N\n'


def run_all(session: Any, statements: str) -> None:
    """Run the statements of a recipe, one after another."""
    for statement in filter(str.strip, statements.split(";\n")):
        session.query(statement)


def test_a_copy_in_duckdb_is_kept_right_and_checked_against_its_mirror(
    service: services.Longshore, longshore: Longshore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "integrations"))
    from duckdb_copy import create, load

    with duckdb.connect() as warehouse:
        warehouse.execute("set timezone = 'UTC'")
        task = create(longshore, "vouchers")
        assert load(warehouse, task, "vouchers", tmp_path) == 1
        before = warehouse.execute("select id from vouchers order by id").fetchall()
        gone = before[0][0]
        service.sql("update loyalty.vouchers set chain_id = 4242 where id = $1", gone)
        try:
            assert load(warehouse, task.execute(), "vouchers", tmp_path) == 2
            assert [(run.full, run.rows) for run in task.runs()] == [(False, 1), (True, len(before))]
            found = warehouse.execute("select id from vouchers order by id").fetchall()
            assert found == before[1:]
        finally:
            service.sql("update loyalty.vouchers set chain_id = $2 where id = $1", gone, SMALL_CHAIN)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Amsterdam", "UTC"])
def test_interval_of_a_day_has_the_rows_of_that_day_in_a_column_without_time(
    odd_values_service: services.Longshore, zone: str
) -> None:
    start = datetime(2021, 2, 28, tzinfo=ZoneInfo(zone))
    with Longshore(odd_values_service.address, odd_values_service.token(), chain=CHAIN) as client:
        for day in (start, start - timedelta(days=1)):
            options = of_interval({"fields": ["id", "day"], "format": "parquet"}, "day", day, day + timedelta(days=1))
            found = client.exports.create("odd", **options).wait(60).to_arrow()["day"].to_pylist()
            assert {f"{each:%Y-%m-%d}" for each in found} == ({"2021-02-28"} if day == start else set())


class WithoutZone(datetime):
    """A time such as Airflow's (pendulum), whose differences have no zone unless that is of a class of its own."""

    def __sub__(self, other: Any) -> Any:
        return super().__sub__(other).replace(tzinfo=None)


@pytest.mark.parametrize("kind", [datetime, WithoutZone])
def test_interval_ends_a_microsecond_before_its_end_also_where_the_clock_is_set_back(kind: type[datetime]) -> None:
    zone = ZoneInfo("Europe/Amsterdam")
    begin = datetime(2026, 10, 25, tzinfo=UTC)
    ends = []
    for hour in range(3):
        start = kind(2026, 10, 25, hour, tzinfo=UTC)
        where = of_interval({}, "at", start.astimezone(zone), (start + timedelta(hours=1)).astimezone(zone))["where"]
        ends.append(where._operands["end_date"])
    assert ends == [begin + timedelta(hours=hour + 1, microseconds=-1) for hour in range(3)]
