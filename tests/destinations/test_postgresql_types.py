"""Every PostgreSQL type, exported and delivered: into PostgreSQL 15 and 18, through CSV and Parquet, and back equal."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longshore.destinations.kind import BytesFile, DestinationError
from longshore.destinations.postgresql.types import Type, widened
from longshore.exports.catalog import FieldType, Index
from longshore.exports.columns import choices, columns_of
from longshore.exports.totals import Sum, Totals
from tests.debian_postgres import DebianPostgres
from tests.destinations.warehouse import Warehouse, a_load
from tests.exports.engine import export, index_over
from tests.exports.test_type_zoo import NAMES, ROWS, execute, fill
from tests.exports.type_zoo import KINDS

INDEX = index_over(
    "zoo.animals", id=FieldType.NUMBER, **{name: kind.field for name, kind in zip(NAMES, KINDS, strict=True)}
)
TEXT_INSTEAD = {"zoo.mood": "text", "zoo.pair": "text"}


@pytest.fixture(scope="module")
def filled(warehouse_server: DebianPostgres) -> Iterator[str]:
    url = warehouse_server.url(database="warehouse")
    asyncio.run(fill(url))
    yield url
    asyncio.run(execute(url, "drop schema zoo cascade"))


@pytest.fixture(params=["PostgreSQL 15", "PostgreSQL 18"])
def to(request: pytest.FixtureRequest) -> Warehouse:
    found = request.getfixturevalue("warehouse" if request.param == "PostgreSQL 15" else "warehouse_18")
    assert isinstance(found, Warehouse)
    return found


async def columns(url: str, index: Index = INDEX) -> dict[str, str]:
    connection = await asyncpg.connect(url)
    try:
        found = await columns_of(connection, index, choices(None, index))
    finally:
        await connection.close()
    return {one.name: one.declared_type for one in found}


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("mode", ["append", "merge"])
def test_every_type_arrives_as_it_is_in_the_source(filled: str, to: Warehouse, form: str, mode: str) -> None:
    content, _, _ = asyncio.run(export(filled, INDEX, form))
    types = asyncio.run(columns(filled))
    load = a_load(types, [()] * ROWS, mode, table=f"{form} {mode}", format=form, file=BytesFile(content))
    assert to.load(load).rows == ROWS
    made = list(to.types(f"{form} {mode}").values())[1:]
    shown = {"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone", "time":
             "time without time zone", "timetz": "time with time zone", "char(3)": "character(3)",
             "varbit": "bit varying", "zoo.code": "text", "zoo.price": "numeric(12,2)", **TEXT_INSTEAD}  # fmt: skip
    assert made == [shown.get(kind.sql, kind.sql) for kind in KINDS]
    source = Warehouse(filled, to.settings, to.secret)
    text = ", ".join(f"{name}::text" for name in NAMES)
    pinned = "set_config('timezone', 'UTC', false), set_config('lc_monetary', 'C', false)"
    expected = source.sql(f"select id, {text} from zoo.animals, (select {pinned}) s order by id")
    found = to.sql(f'select id, {text} from "{form} {mode}", (select {pinned}) s order by id')
    for number, kind in enumerate(KINDS, 1):
        got, want = ([row[number] for row in rows] for rows in (found, expected))
        if form == "parquet" and kind.sql == "numeric":  # a decimal of ten places
            got, want = ([one and one.rstrip("0").rstrip(".") for one in some] for some in (got, want))
        assert got == want, kind.sql


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_text_columns_have_the_values_of_csv_whatever_the_format_is(filled: str, to: Warehouse, mode: str) -> None:
    types = asyncio.run(columns(filled))
    made = {}
    to.sql(f"alter role {to.settings.username} set timezone = 'Asia/Tokyo'")
    try:
        for form in ("csv", "parquet"):
            table = f"{form} text {mode}"
            to.sql(
                f'create table "{table}" ({", ".join(f"{name} text" for name in types)});'
                f'alter table "{table}" owner to {to.settings.username}'
            )
            content, _, _ = asyncio.run(export(filled, INDEX, form))
            to.load(a_load(types, [()] * ROWS, mode, table=table, format=form, file=BytesFile(content)))
            made[form] = to.sql(f'select {", ".join(types)} from "{table}" order by id::int')
    finally:
        to.sql(f"alter role {to.settings.username} reset timezone")
    for number, kind in enumerate(KINDS, 1):
        got, want = ([row[number] for row in made[form]] for form in ("parquet", "csv"))
        if kind.sql == "numeric":  # a decimal of ten places
            got, want = ([one and one.rstrip("0").rstrip(".") for one in some] for some in (got, want))
        assert got == want, kind.sql


def test_rows_are_merged_by_a_key_that_is_text_in_the_table_whatever_the_format_is(warehouse: Warehouse) -> None:
    warehouse.sql("create table orders (id text primary key, name text); alter table orders owner to loader")
    types = {"id": "timestamptz", "name": "text"}
    warehouse.load(a_load(types, [("2026-05-01T10:00:00.120000Z", "old")], "merge"))
    sink = pa.BufferOutputStream()
    moment = pa.array([1777629600120000], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"id": moment, "name": ["new"]}), sink)
    file = BytesFile(sink.getvalue().to_pybytes())
    warehouse.load(a_load(types, [()], "merge", run=2, format="parquet", file=file))
    assert warehouse.sql("select id, name from orders") == [("2026-05-01T10:00:00.120000Z", "new")]


LIMITED = {
    "name": "varchar(20)", "code": "char(3)", "seen": "timestamptz(3)", "flags": "bit(3)", "rate": "numeric(12,4)",
    "rates": "numeric(12,4)[]", "names": "varchar(20)[]", "alias": "alias", "took": "interval(3)",
}  # fmt: skip


def test_table_of_another_owner_with_the_types_of_the_source_is_left_as_it_is(warehouse: Warehouse) -> None:
    fields = ", ".join(f"{name} {kind}" for name, kind in LIMITED.items())
    warehouse.sql(
        "create domain word as varchar(20); create domain alias as word;"
        f"create table source (id int8, chain_id int, at timestamptz, {fields});"
        f"create table orders (id int8, {fields.replace('interval(3)', 'interval')});"
        "create view seen as select * from orders; grant select, insert on orders to loader"
    )
    relation = f"{warehouse.settings.schema}.source"
    index = index_over(relation, id=FieldType.NUMBER, **dict.fromkeys(LIMITED, FieldType.KEYWORD))
    types = asyncio.run(columns(warehouse.admin, index))
    before = warehouse.types()
    row = ("1", "Ann", "ab ", "2026-05-01T10:00:00.123000Z", "101", "1.2345", "{1.2345}", "{Ann}", "A", "00:00:01.5")
    assert warehouse.load(a_load(types, [row])).rows == 1
    assert warehouse.types() == before
    assert warehouse.sql("select rates::text, code::text, took::text from seen") == [("{1.2345}", "ab", "00:00:01.5")]


def test_new_table_has_the_limits_of_the_source(warehouse: Warehouse) -> None:
    fields = ", ".join(f"{name} {kind}" for name, kind in LIMITED.items() if name != "alias")
    warehouse.sql(f"create table source (id int8, chain_id int, at timestamptz, {fields})")
    relation = f"{warehouse.settings.schema}.source"
    index = index_over(relation, **{name: FieldType.KEYWORD for name in LIMITED if name != "alias"})
    warehouse.load(a_load(asyncio.run(columns(warehouse.admin, index)), []))
    assert warehouse.types() == {
        "name": "character varying(20)", "code": "character(3)", "seen": "timestamp(3) with time zone",
        "flags": "bit(3)", "rate": "numeric(12,4)", "rates": "numeric(12,4)[]", "names": "character varying(20)[]",
        "took": "interval",
    }  # fmt: skip


def test_merge_writes_changed_values_into_columns_of_domains(warehouse: Warehouse) -> None:
    warehouse.sql(
        "create domain price as numeric(12,2) check (value > 0); create domain offer as price;"
        "create table orders (id bigint primary key, price price, offer offer); alter table orders owner to loader"
    )
    types = {"id": "int8", "price": "numeric(12,2)", "offer": "numeric(12,2)"}
    warehouse.load(a_load(types, [("1", "0.10", "0.05"), ("2", "0.20", None)], "merge"))
    warehouse.load(a_load(types, [("1", "0.30", "0.15"), ("2", "0.20", None)], "merge", run=2))
    assert warehouse.sql("select id, price::text, offer::text from orders order by id") == [
        (1, "0.30", "0.15"), (2, "0.20", None)
    ]  # fmt: skip


def test_values_that_a_collation_of_the_table_calls_equal_stay_apart(warehouse: Warehouse) -> None:
    warehouse.sql(
        "create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "create table orders (id text collate folded, currency text collate folded, amount numeric);"
        "alter table orders owner to loader; insert into orders values ('a', 'old', 1)"
    )
    types = {"id": "text", "currency": "text", "amount": "numeric"}
    rows = [("a", "eur", "1"), ("A", "EUR", "2")]
    totals = Totals("amount", "currency", [Sum("EUR", 1, "2"), Sum("eur", 1, "1")])
    assert warehouse.load(a_load(types, rows, "merge", totals=totals)).totals == totals
    assert set(warehouse.sql("select id, currency, amount from orders")) == {
        ("a", "eur", Decimal(1)), ("A", "EUR", Decimal(2))
    }  # fmt: skip


def test_keys_that_a_unique_index_of_the_table_calls_equal_are_refused(warehouse: Warehouse) -> None:
    warehouse.sql(
        "create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "create table orders (id text collate folded primary key, amount numeric); alter table orders owner to loader"
    )
    with pytest.raises(DestinationError, match="23505"):
        warehouse.load(a_load({"id": "text", "amount": "numeric"}, [("a", "1"), ("A", "2")], "merge"))
    assert warehouse.sql("select * from orders") == []


INT, BIG, NUMERIC = Type("int4"), Type("int8"), Type("numeric")
NUMERICS = Type("numeric", limits=(12, 4), is_array=True)


@pytest.mark.parametrize(
    ("have", "want", "kept"),
    [
        (INT, INT, INT),
        (INT, BIG, BIG),
        (BIG, INT, BIG),
        (Type("numeric", limits=(10, 2)), Type("numeric", limits=(12, 2)), Type("numeric", limits=(12, 2))),
        (Type("numeric", limits=(10, 2)), Type("numeric", limits=(10, 4)), Type("numeric", limits=(12, 4))),
        (Type("numeric", limits=(12, 4)), Type("numeric", limits=(10, 2)), Type("numeric", limits=(12, 4))),
        (Type("numeric", limits=(10, 2)), NUMERIC, NUMERIC),
        (NUMERIC, Type("numeric", limits=(10, 2)), NUMERIC),
        (Type("numeric", limits=(10, 2)), INT, Type("numeric", limits=(12, 2))),
        (Type("numeric", limits=(12, 2)), INT, Type("numeric", limits=(12, 2))),
        (INT, Type("numeric", limits=(12, 2)), Type("numeric", limits=(12, 2))),
        (INT, Type("numeric", limits=(9, 0)), INT),
        (INT, Type("numeric", limits=(10, 0)), Type("numeric", limits=(10, 0))),
        (INT, NUMERIC, NUMERIC),
        (Type("numeric", limits=(999, 1)), Type("numeric", limits=(999, 998)), NUMERIC),
        (Type("float4"), Type("float8"), Type("float8")),
        (Type("float8"), INT, Type("float8")),
        (Type("float8"), BIG, None),
        (Type("float8"), NUMERIC, None),
        (NUMERIC, Type("float8"), None),
        (Type("varchar", limits=(5,)), Type("varchar", limits=(9,)), Type("varchar", limits=(9,))),
        (Type("varchar", limits=(9,)), Type("varchar", limits=(5,)), Type("varchar", limits=(9,))),
        (Type("varchar", limits=(5,)), Type("text"), Type("text")),
        (Type("varchar"), Type("text"), Type("varchar")),
        (Type("text"), Type("varchar", limits=(5,)), Type("text")),
        (Type("text"), BIG, Type("text")),
        (Type("text"), Type("numeric", is_array=True), Type("text")),
        (BIG, Type("text"), None),
        (Type("timestamptz", limits=(3,)), Type("timestamptz"), Type("timestamptz")),
        (Type("timestamp"), Type("timestamptz"), None),
        (Type("date"), Type("timestamp"), None),
        (Type("jsonb"), Type("json"), None),
        (Type("numeric", limits=(5, 1), is_array=True), Type("numeric", is_array=True), Type("numeric", is_array=True)),
        (NUMERICS, Type("numeric", limits=(10, 2), is_array=True), NUMERICS),
        (Type("numeric", limits=(10, 2), is_array=True), NUMERICS, NUMERICS),
        (Type("varchar", limits=(9,), is_array=True), Type("varchar", limits=(5,), is_array=True),
         Type("varchar", limits=(9,), is_array=True)),
        (Type("int4", is_array=True), INT, None),
        (Type("mood", "public"), Type("varchar", limits=(5,)), Type("mood", "public")),
        (Type("mood", "public"), BIG, None),
        (Type("int4", is_domain=True), BIG, None),
        (Type("int8", is_domain=True), INT, Type("int8", is_domain=True)),
        (Type("numeric", limits=(9, 2), is_domain=True), NUMERIC, None),
    ],
    ids=str,
)  # fmt: skip
def test_columns_are_widened_and_never_narrowed(have: Type, want: Type, kept: Type | None) -> None:
    assert widened(have, want) == kept


def test_table_of_a_load_is_widened(warehouse: Warehouse) -> None:
    types = {"id": "int4", "amount": "numeric(4,2)", "name": "varchar(3)", "small": "int2"}
    warehouse.load(a_load(types, [("1", "99.99", "abc", "1")]))
    wider = {"id": "int8", "extra": "uuid", "name": "text", "amount": "numeric(6,3)", "small": "int2"}
    uuid = "00000000-0000-0000-0000-000000000001"
    warehouse.load(a_load(wider, [("9223372036854775807", uuid, "abcdef", "999.125", "2")], run=2))
    assert warehouse.types() == {
        "id": "bigint", "amount": "numeric(6,3)", "name": "text", "small": "smallint", "extra": "uuid"
    }  # fmt: skip
    rows = warehouse.sql("select id, amount::text, name, small, extra::text from orders order by id")
    assert rows == [(1, "99.990", "abc", 1, None), (9223372036854775807, "999.125", "abcdef", 2, uuid)]


def test_type_in_the_way_is_named_with_the_column_and_nothing_is_changed(warehouse: Warehouse) -> None:
    warehouse.sql("create table orders (id bigint, at timestamp); alter table orders owner to loader")
    with pytest.raises(DestinationError, match=r'column "at" of ".*"."orders" is timestamp .* load\'s is timestamptz'):
        warehouse.load(a_load({"id": "int8", "at": "timestamptz", "new": "text"}, [("1", None, None)]))
    assert list(warehouse.types()) == ["id", "at"]


def test_enum_domain_and_extension_columns_of_the_customer_take_values_of_the_same_type(warehouse: Warehouse) -> None:
    warehouse.sql(
        "create type mood as enum ('sad', 'so, so'); create domain price as numeric(12,2) check (value > 0);"
        "create table orders (id bigint, mood mood, moods mood[], price price);"
        "alter table orders owner to loader"
    )
    schema = warehouse.settings.schema
    warehouse.sql(f'grant usage on type "{schema}".mood, "{schema}".price to loader')
    types = {"id": "int8", "mood": "text", "moods": "text", "price": "numeric(12,2)"}
    warehouse.load(a_load(types, [("1", "so, so", '{sad,"so, so"}', "0.10")]))
    assert warehouse.sql("select mood::text, moods::text, price::text from orders") == [
        ("so, so", '{sad,"so, so"}', "0.10")
    ]
    for value, price in (("glad", "1.00"), ("sad", "-1.00")):
        with pytest.raises(DestinationError, match=r"22P02|23514"):
            warehouse.load(a_load(types, [("2", value, None, price)], run=2))
