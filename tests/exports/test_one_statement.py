"""An export stays one statement where several would not see the same rows; else dates of any year may cut it."""

import asyncio
from typing import Any

import pytest

from longshore.exports.catalog import Field, FieldType, Index
from longshore.exports.query_plans import reads_elsewhere
from tests.debian_postgres import DebianPostgres
from tests.exports.engine import CHAIN, export, index_over

ROWS = 120_000
SETUP = f"""
create extension postgres_fdw;
create schema shop;
create table shop.sales (id bigint, chain_id int, at timestamptz, note text default 'nothing to say of this one');
insert into shop.sales
select n, {CHAIN}, timestamptz '2026-01-01' + n * interval '1 minute' from generate_series(1, {ROWS}) n;
create index on shop.sales (chain_id, at);
create table shop.ages (id bigint, chain_id smallint, at timestamptz);
insert into shop.ages select id, chain_id, at from shop.sales;
update shop.ages set at = (array['20231-01-01', '0044-03-15 BC', 'infinity', '-infinity', null, '294276-12-31',
    '4714-11-24 BC']::timestamptz[])[id] where id <= 7;
create index on shop.ages (chain_id, at);
create table shop.days (id bigint, chain_id int, "on.day" date);
insert into shop.days select id, chain_id, (at at time zone 'UTC')::date from shop.sales;
update shop.days set "on.day" = '5874897-12-31' where id = 1;
create index on shop.days (chain_id, "on.day");
create table shop.unmeasured as select id, chain_id, at from shop.sales;
alter table shop.unmeasured alter at set statistics 0;
create index on shop.unmeasured (chain_id, at);
create table shop.hidden_times as select id, chain_id, at from shop.sales;
create index on shop.hidden_times (chain_id, at);
create table shop.timeless as select id, chain_id, note from shop.sales;
create server here foreign data wrapper postgres_fdw options (host '{{folder}}', port '{{port}}', dbname 'one');
create user mapping for public server here options (user 'postgres');
create foreign table shop.far (id bigint, chain_id int, at timestamptz, note text)
    server here options (schema_name 'shop', table_name 'sales');
create view shop.far_view as select * from shop.far;
create table shop.parted (id bigint, chain_id int, at timestamptz, note text) partition by range (at);
create foreign table shop.parted_far partition of shop.parted for values from ('2026-02-01') to (maxvalue)
    server here options (schema_name 'shop', table_name 'sales_late');
create table shop.sales_late as select * from shop.sales where at >= '2026-02-01';
create table shop.parted_near partition of shop.parted for values from (minvalue) to ('2026-02-01');
insert into shop.parted_near select * from shop.sales where at < '2026-02-01';
create index on shop.parted_near (chain_id, at);
create view shop.plain_view as select * from shop.sales;
create view shop.sampled as select * from shop.sales tablesample system (90);
create view shop.some as select * from shop.sales limit 110000;
create view shop.newest as select distinct on (id) * from shop.sales order by id, at;
create view shop.random as select * from shop.sales where random() < 2;
create view shop.past as select * from shop.sales where at < now() + interval '1000 years';
create view shop.past_by_old_names as
    select * from shop.sales where at < ('now'::text)::timestamptz + interval '1000 years';
create view shop.past_by_old_days as select * from shop.sales where at < (' Tomorrow '::text)::date + 365000;
create view shop.today as select *, current_date - at::date as age from shop.sales;
create function shop.looked_up(bigint) returns boolean stable language plpgsql as 'begin return true; end';
create view shop.with_function as select * from shop.sales where shop.looked_up(id);
create function shop.pure(bigint) returns boolean immutable language plpgsql as 'begin return true; end';
create role reader login;
grant usage on schema shop to reader;
grant select (id, chain_id) on shop.timeless, shop.hidden_times to reader;
grant select (id, chain_id, at) on shop.sales to reader;
"""


@pytest.fixture(scope="module")
def url(debian: DebianPostgres) -> str:
    debian.sql("create database one")
    debian.sql(SETUP.format(folder=debian.folder, port=debian.port), database="one")
    debian.sql("analyze", database="one")
    # So that PostgreSQL reads tables by the index on their time, though one chain has all their rows.
    debian.sql("alter database one set enable_seqscan = off")
    return debian.url(database="one")


def exported(url: str, relation: str, index: Index | None = None) -> tuple[list[str], int]:
    """Return the ids of the rows of an export, sorted, and the number of its statements."""
    content, _, cut = asyncio.run(export(url, index or index_over(relation, id=FieldType.NUMBER), "csv"))
    return sorted(content.decode().splitlines()[1:], key=int), len(cut.ranges) or 1


EVERYTHING = [str(number) for number in range(1, ROWS + 1)]


@pytest.mark.parametrize("relation", ["sales", "plain_view"])
def test_a_large_relation_is_read_in_several_statements(url: str, relation: str) -> None:
    ids, statements = exported(url, f"shop.{relation}")
    assert ids == EVERYTHING
    assert statements > 2


@pytest.mark.parametrize("relation", ["far", "far_view", "parted", "newest", "random", "past", "with_function"])
def test_a_relation_whose_rows_depend_on_the_session_is_read_in_one_statement(url: str, relation: str) -> None:
    assert exported(url, f"shop.{relation}") == (EVERYTHING, 1)


@pytest.mark.parametrize("relation", ["past_by_old_names", "past_by_old_days"])
def test_a_view_that_asks_for_the_time_as_before_postgresql_10_is_read_in_one_statement(
    url: str, relation: str
) -> None:
    assert exported(url, f"shop.{relation}") == (EVERYTHING, 1)


@pytest.mark.parametrize("relation", ["sampled", "some"])
def test_a_relation_that_takes_some_rows_of_many_is_read_in_one_statement(url: str, relation: str) -> None:
    ids, statements = exported(url, f"shop.{relation}")
    assert statements == 1
    assert len(set(ids)) == len(ids) > ROWS // 2


@pytest.mark.parametrize("sql", ["now()", "current_timestamp", "clock_timestamp()", "age(at)", "shop.looked_up(id)"])
def test_a_field_that_depends_on_the_session_is_read_in_one_statement(url: str, sql: str) -> None:
    field = Field(FieldType.TEXT, "", sql=f"({sql})::text")
    index = index_over("shop.sales", id=FieldType.NUMBER, inner=field)
    _, copied, cut = asyncio.run(export(url, index, "csv"))
    assert (copied.rows, len(cut.ranges) or 1) == (ROWS, 1)


# EXPLAIN of Citus 12, shortened.
CITUS: dict[str, Any] = {
    "Node Type": "Custom Scan", "Custom Plan Provider": "Citus Adaptive", "Plan Rows": 100000,
    "Distributed Query": {"Job": {"Task Count": 32, "Tasks Shown": "One of 32"}},
}  # fmt: skip


def test_rows_of_other_servers_are_recognized_by_the_plan_that_reads_them() -> None:
    own = {"Node Type": "Seq Scan", "Plan Rows": 1}
    policy = {"Node Type": "Foreign Scan", "Parent Relationship": "SubPlan"}
    assert reads_elsewhere(CITUS)
    assert reads_elsewhere({**own, "Node Type": "Append", "Plans": [{**CITUS, "Parent Relationship": "Member"}]})
    assert reads_elsewhere({**own, "Plans": [policy]})
    assert not reads_elsewhere({**own, "Plans": [policy]}, aside=False)
    assert not reads_elsewhere(own)


@pytest.mark.parametrize("sql", [
    "jsonb_build_object('current_date', id) ->> 'current_date'",
    "(jsonb_build_object('today', at::text) ->> 'today')::date",
])  # fmt: skip
def test_a_field_that_only_names_the_time_is_read_in_several_statements(url: str, sql: str) -> None:
    index = index_over("shop.sales", id=FieldType.NUMBER, named=Field(FieldType.TEXT, "", sql=sql))
    _, copied, cut = asyncio.run(export(url, index, "csv"))
    assert copied.rows == ROWS
    assert len(cut.ranges) > 2


def test_a_field_of_an_immutable_function_is_read_in_several_statements(url: str) -> None:
    pure = Field(FieldType.TEXT, "", sql="shop.pure(id)::text || to_char(at, 'YYYY')")
    _, copied, cut = asyncio.run(export(url, index_over("shop.sales", pure=pure), "csv"))
    assert (copied.rows, len(cut.ranges) or 1) == (ROWS, 4)


def test_dates_of_any_year_cut_an_export_and_lose_no_row(url: str) -> None:
    assert exported(url, "shop.ages") == (EVERYTHING, 4)


def test_a_time_column_without_a_time_of_day_and_with_a_dot_in_its_name_cuts_an_export(url: str) -> None:
    index = Index("", "shop.days", "chain_id", "Day", {"id": Field(FieldType.NUMBER, "")}, time="on.day")
    assert exported(url, "", index) == (EVERYTHING, 4)


def test_a_table_without_a_time_column_is_exported(url: str) -> None:
    index = Index("", "shop.timeless", "chain_id", "Timeless", {"id": Field(FieldType.NUMBER, "")})
    ids, _ = exported(url, "", index)
    assert ids == EVERYTHING


@pytest.mark.parametrize("relation", ["timeless", "sales"])
@pytest.mark.usefixtures("url")
def test_a_role_that_may_read_some_columns_exports_these(debian: DebianPostgres, relation: str) -> None:
    address = debian.url("reader", "one", options="-c enable_indexscan=off -c enable_bitmapscan=off")
    ids, statements = exported(address, f"shop.{relation}")
    assert (ids, statements) == (EVERYTHING, 1)


def test_times_of_which_the_planner_knows_nothing_are_cut_in_a_bounded_number_of_estimates(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It expects as many rows of each part, however short: more than a range is to have."""
    monkeypatch.setattr("longshore.exports.ranges.RANGE_ROWS", 100)
    index = index_over("shop.unmeasured", id=FieldType.NUMBER)
    content, _, cut = asyncio.run(asyncio.wait_for(export(url, index, "csv"), 60))
    assert sorted(content.decode().splitlines()[1:], key=int) == EVERYTHING
    assert 2 < len(cut.ranges) <= 520


def test_a_table_whose_times_the_role_may_not_read_is_read_in_one_statement(url: str) -> None:
    assert exported(url.replace("postgres@", "reader@"), "shop.hidden_times") == (EVERYTHING, 1)
