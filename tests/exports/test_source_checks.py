"""`longshore catalog check` and the loading of a catalog refuse early: roles, extensions, search paths and SQL."""

import asyncio
from pathlib import Path

import pytest

from longshore.database.connect import connected_to_read
from longshore.exports import catalog, catalog_check
from longshore.exports.catalog import CatalogError, Field, FieldType, Index
from longshore.exports.increments import IncrementError
from tests.debian_postgres import DebianPostgres
from tests.exports.engine import CHAIN, export, index_over
from tests.exports.incremental import taken

SETUP = f"""
create extension citext;
create schema shop;
create function public.shout(text) returns text language sql immutable as 'select upper($1)';
create table shop.codes (id bigint, chain_id smallint, at timestamptz default now(), cit citext, secret text);
create index on shop.codes (chain_id);
insert into shop.codes (id, chain_id, cit) values (1, {CHAIN}, 'ABC'), (2, {CHAIN}, 'abc'), (3, {CHAIN}, 'x');
create function public.folded(bigint) returns text language sql stable
    as 'select shout(cit::text) from shop.codes where id = $1';
create view shop.shouted as select id, chain_id, at, public.folded(id) as loud from shop.codes;
create table shop."a.b" (id bigint, chain_id int, at timestamptz, "c.d" text);
create index on shop."a.b" (chain_id);
insert into shop."a.b" values (1, {CHAIN}, now(), 'dotted');
create role somebody login;
grant usage on schema shop to somebody;
grant select (id, chain_id, at) on shop.codes to somebody;
"""


@pytest.fixture(scope="module")
def source(debian: DebianPostgres) -> DebianPostgres:
    debian.sql("create database checks")
    debian.sql(SETUP, database="checks")
    return debian


def findings(url: str, index: Index) -> list[tuple[str, bool]]:
    async def run() -> list[catalog_check.Finding]:
        async with connected_to_read(url, "test") as connection:
            return await catalog_check.check(connection, {"codes": index})

    return [(f"{found.where}: {found.what}", found.warning) for found in asyncio.run(run())]


def codes(condition: str = "true", path: list[str] | None = None, **fields: Field) -> Index:
    known = {"id": Field(FieldType.NUMBER, ""), **fields}
    return Index("", "shop.codes", "chain_id", "Code", known, time="at", filter=condition, search_path=path or [])


def ids(url: str, index: Index) -> list[str]:
    return asyncio.run(export(url, index, "csv"))[0].decode().split()[1:]


def test_sql_that_means_something_else_in_psql_is_warned_of_and_a_search_path_makes_it_the_same(
    source: DebianPostgres,
) -> None:
    url = source.url(database="checks")
    exact, folded = codes("cit = 'ABC'"), codes("cit = 'ABC'", ["public"])
    assert ids(url, exact) == ["1"]
    ((what, warning),) = findings(url, exact)
    assert warning
    assert 'means something else under this role\'s search path, "$user", public' in what
    assert findings(url, folded) == []
    assert ids(url, folded) == ["1", "2"]
    assert findings(url, codes("id > 0 and cit::text = 'ABC'")) == []


def test_a_view_over_a_function_that_needs_a_search_path_is_told_of_with_what_to_do(source: DebianPostgres) -> None:
    url = source.url(database="checks")
    loud = {"loud": FieldType.TEXT}
    index = index_over("shop.shouted", **loud)
    wrong = [what for what, warning in findings(url, index) if not warning]
    assert any("shout(text) does not exist" in what and "search_path = [...]" in what for what in wrong), wrong
    named = Index("", "shop.shouted", "chain_id", "Loud", index.fields, time="at", search_path=["public"])
    assert [what for what, warning in findings(url, named) if not warning] == []
    assert ids(url, named) == ["ABC", "ABC", "X"]


def test_columns_and_relations_with_dots_in_their_names_are_checked_and_exported(source: DebianPostgres) -> None:
    url = source.url(database="checks")
    index = Index("", 'shop."a.b"', "chain_id", "Dot", {"c.d": Field(FieldType.KEYWORD, "")})
    assert findings(url, index) == []
    assert ids(url, index) == ["dotted"]


def test_a_grant_on_some_columns_is_told_of_and_increments_are_refused(source: DebianPostgres) -> None:
    url = source.url("somebody", "checks")
    told = findings(url, codes(secret=Field(FieldType.TEXT, "")))
    assert any(warning and "only some columns of shop.codes may be read" in what for what, warning in told)
    assert any(not warning and "codes.secret: may not be read by this user" in what for what, warning in told)
    assert ids(url, codes()) == ["1", "2", "3"]

    async def increment() -> None:
        async with connected_to_read(url, "test") as connection:
            await taken(connection, codes(), None)

    with pytest.raises(IncrementError, match=r"GRANT SELECT ON shop\.codes"):
        asyncio.run(increment())


def test_a_setting_that_only_a_superuser_can_reset_is_told_of(source: DebianPostgres) -> None:
    source.sql("alter database checks set zero_damaged_pages = on")
    try:
        told = findings(source.url(database="checks"), codes())
    finally:
        source.sql("alter database checks reset zero_damaged_pages")
    assert [what for what, warning in told if not warning] == [
        "zero_damaged_pages: is on, which changes what is read; a superuser must reset it for this role"
    ]


@pytest.mark.parametrize("place", ["filter", "sql"])
@pytest.mark.parametrize("sql", ["'costs $999' <> ''", "true -- of $1", "$x$ $2 $x$ <> ''"])
def test_sql_with_what_looks_like_a_parameter_is_refused_when_the_catalog_is_loaded(
    tmp_path: Path, place: str, sql: str
) -> None:
    text = '[codes]\ndescription = ""\nrelation = "shop.codes"\nchain = "chain_id"\nprefix = "Code"\n'
    text += f'filter = """{sql}"""\n' if place == "filter" else ""
    text += '[codes.fields]\nid = { type = "number", description = "" }\n'
    text += f'odd = {{ type = "boolean", description = "", sql = """{sql}""" }}\n' if place == "sql" else ""
    path = tmp_path / "catalog.toml"
    path.write_text(text)
    with pytest.raises(CatalogError, match=r"stands for a parameter; write the dollar sign as chr\(36\)"):
        catalog.load(str(path))


@pytest.mark.parametrize("schema", ["pg_catalog", "$user", "pg_temp", ""])
def test_a_search_path_names_schemas_of_the_source_alone(tmp_path: Path, schema: str) -> None:
    text = '[codes]\ndescription = ""\nrelation = "codes"\nchain = "chain_id"\nprefix = "Code"\n'
    text += f'search_path = ["{schema}"]\n[codes.fields]\nid = {{ type = "number", description = "" }}\n'
    (tmp_path / "catalog.toml").write_text(text)
    with pytest.raises(CatalogError, match="may only name schemas of the source"):
        catalog.load(str(tmp_path / "catalog.toml"))
