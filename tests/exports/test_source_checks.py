"""`longshore catalog check` and the loading of a catalog refuse early: roles, extensions, search paths and SQL."""

import asyncio
import json
import re
from pathlib import Path

import asyncpg
import msgspec
import pytest

from longshore.database.connect import connected_to_read
from longshore.errors import LongshoreError
from longshore.exports import catalog, catalog_check, sql_fragment
from longshore.exports.catalog import Field, FieldType, Index
from longshore.exports.columns import FieldChoice, check_fields, choices, columns_of
from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.increments.keys import key_of
from longshore.findings import Finding
from tests.debian_postgres import DebianPostgres
from tests.exports.engine import CHAIN, export, index_over
from tests.exports.incremental import taken
from tests.exports.test_partitions import export as export_files
from tests.waiting import until

KEYWORD = FieldType.KEYWORD

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
create table shop."we""ird $1; --{{x}}" (id bigint, chain_id int);
create index on shop."we""ird $1; --{{x}}" (chain_id);
insert into shop."we""ird $1; --{{x}}" values (7, {CHAIN});
create role limited_reader login;
grant usage on schema shop to limited_reader;
grant select (id, chain_id, at) on shop.codes to limited_reader;
create role app login noinherit;
grant limited_reader to app;
alter role app in database checks set role = limited_reader;
"""


@pytest.fixture(scope="module")
def source(debian: DebianPostgres) -> DebianPostgres:
    debian.sql("create database checks")
    debian.sql(SETUP, database="checks")
    return debian


def findings(url: str, index: Index) -> list[tuple[str, bool]]:
    async def run() -> list[Finding]:
        async with connected_to_read(url, "test") as connection:
            return await catalog_check.check(connection, {"codes": index})

    return [(f"{found.where}: {found.what}", found.level == "warning") for found in asyncio.run(run())]


def codes(condition: str = "true", path: list[str] | None = None, **fields: Field) -> Index:
    known = {"id": Field(FieldType.NUMBER, ""), **fields}
    return Index("", "shop.codes", "chain_id", "Code", known, time="at", filter=condition, search_path=path or [])


def ids(url: str, index: Index) -> list[str]:
    return asyncio.run(export(url, index, "csv"))[0].decode().split()[1:]


def test_sql_that_means_something_else_in_psql_is_a_warning_that_a_search_path_resolves(
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


def test_a_search_path_of_the_whole_server_is_the_one_that_a_filter_is_checked_under(source: DebianPostgres) -> None:
    source.sql("alter system set search_path = 'shop'")  # where psql does not find the operators of citext either
    try:
        source.sql("select pg_reload_conf()")
        until(lambda: findings(source.url(database="checks"), codes("cit = 'ABC'")) == [], "the setting to count")
    finally:
        source.sql("alter system reset search_path")
        source.sql("select pg_reload_conf()")


def test_an_export_of_many_files_reads_as_the_role_that_is_set_for_sessions(
    source: DebianPostgres, tmp_path: Path
) -> None:
    url = source.url("app", "checks")
    assert ids(url, codes()) == ["1", "2", "3"]
    (file,) = asyncio.run(export_files(url, tmp_path, None, index=codes()))
    assert file.rows == 3


def test_a_view_over_a_function_that_needs_a_search_path_is_reported_with_the_remedy(source: DebianPostgres) -> None:
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


def test_a_relation_of_any_name_is_checked_and_exported(source: DebianPostgres) -> None:
    url = source.url(database="checks")
    index = Index("", 'shop."we""ird $1; --{x}"', "chain_id", "Odd", {"id": Field(FieldType.NUMBER, "")})
    assert findings(url, index) == []
    assert ids(url, index) == ["7"]


@pytest.mark.parametrize("sql", ["generate_series(1, 3)", "count(*)", "sum(id) over ()"])
def test_sql_that_changes_the_number_of_rows_is_refused_by_the_check_and_by_exports(
    source: DebianPostgres, sql: str
) -> None:
    url = source.url(database="checks")
    index = codes(many=Field(FieldType.NUMBER, "", sql=sql))
    assert [what for what, _ in findings(url, index) if what.startswith("codes.many: `sql` does not work: ")]
    with pytest.raises(asyncpg.PostgresError, match="not allowed in WHERE"):
        ids(url, index)


def test_a_grant_on_some_columns_is_reported_and_increments_are_refused(source: DebianPostgres) -> None:
    url = source.url("limited_reader", "checks")
    warnings = findings(url, codes(secret=Field(FieldType.TEXT, "")))
    assert any(warning and "only some columns of shop.codes may be read" in what for what, warning in warnings)
    assert any(not warning and "codes.secret: may not be read by this user" in what for what, warning in warnings)
    assert ids(url, codes()) == ["1", "2", "3"]

    async def increment() -> None:
        async with connected_to_read(url, "test") as connection:
            await taken(connection, codes(), None)

    with pytest.raises(LongshoreError, match=r"GRANT SELECT ON shop\.codes TO limited_reader"):
        asyncio.run(increment())


def test_a_setting_that_only_a_superuser_can_reset_is_reported(source: DebianPostgres) -> None:
    source.sql("alter database checks set zero_damaged_pages = on")
    try:
        warnings = findings(source.url(database="checks"), codes())
    finally:
        source.sql("alter database checks reset zero_damaged_pages")
    assert [what for what, warning in warnings if not warning] == [
        "zero_damaged_pages: is on, which changes what is read; a superuser must reset it for this role"
    ]


def test_an_export_of_a_database_without_an_encoding_works_where_text_is_utf_8(debian: DebianPostgres) -> None:
    debian.sql("create database ascii encoding 'SQL_ASCII' locale 'C' template template0")
    url = debian.url(database="ascii")
    debian.sql(
        f"create table public.words (id bigint, chain_id int, at timestamptz default now(), word text);"
        f"create index on words (chain_id); insert into words values (1, {CHAIN}, now(), E'\\xc3\\xa9')",
        database="ascii",
    )
    index = index_over("public.words", word=FieldType.KEYWORD)
    ((what, warning),) = findings(url, index)
    assert warning
    assert "is SQL_ASCII, so text may be of any encoding: a run ends in ERROR where a value is not UTF-8" in what
    assert ids(url, index) == ["é"]
    debian.sql(f"insert into words values (2, {CHAIN}, now(), E'\\xe8')", database="ascii")
    with pytest.raises(asyncpg.CharacterNotInRepertoireError):
        ids(url, index)
    page = (Path(__file__).parents[2] / "docs" / "databases.md").read_text()
    sql = re.findall(r"`(convert_from\(.*?)`", page)[0]
    latin = index_over("public.words", word=Field(FieldType.KEYWORD, "", sql=sql))
    latin = msgspec.structs.replace(latin, filter="id = 2")
    assert [what for what, warning in findings(url, latin) if not warning] == []
    assert ids(url, latin) == ["è"]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "UTF8"])
def test_a_key_of_several_columns_is_split_at_its_columns_in_every_encoding(
    debian: DebianPostgres, encoding: str
) -> None:
    database = f"keys_{encoding.lower()}"
    debian.sql(f"create database {database} encoding '{encoding}' locale 'C' template template0")
    debian.sql("create table words (id text, word text)", database=database)
    index = msgspec.structs.replace(index_over("words", id=KEYWORD, word=KEYWORD), key=["id", "word"])
    rows = [("é:è", "1:é"), ("", "ü"), ("a", "b")]

    async def keys() -> list[list[str]]:
        connection = await asyncpg.connect(debian.url(database=database))
        try:
            await connection.executemany("insert into words values ($1, $2)", rows)
            key = key_of(index, await columns_of(connection, index, choices(None, index)), "csv")
            assert key is not None
            return key.split([row[0].encode() for row in await connection.fetch(f"select {key.sql} from words")])
        finally:
            await connection.close()

    assert asyncio.run(keys()) == [list(texts) for texts in zip(*rows, strict=True)]


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet", "xlsx"])
def test_a_column_has_a_name_that_the_encoding_of_the_source_lacks(debian: DebianPostgres, format: str) -> None:
    database = f"latin_{format}"
    debian.sql(f"create database {database} encoding 'LATIN1' locale 'C' template template0")
    table = "create table public.words (id int, chain_id int, at timestamptz, word text)"
    debian.sql(f"{table}; insert into public.words values (1, {CHAIN}, now(), 'a')", database=database)
    index = index_over("public.words", **{"é 🚢": Field(KEYWORD, "", column="word")})
    found, _, _ = asyncio.run(export(debian.url(database=database), index, format))
    if format in ("json", "jsonl"):
        rows = json.loads(found)
        assert (rows[0] if format == "json" else rows) == {"é 🚢": "a"}
    elif format != "xlsx":
        assert "é 🚢".encode() in found


def test_a_field_inside_a_nested_one_whose_name_the_encoding_of_the_source_lacks_is_a_finding(
    debian: DebianPostgres,
) -> None:
    debian.sql("create database latin_nested encoding 'LATIN1' locale 'C' template template0")
    table = "create table public.lists (id int, chain_id int, at timestamptz, items jsonb)"
    value = f'insert into public.lists values (1, {CHAIN}, now(), \'[{{"é": "a"}}]\')'
    debian.sql(f"{table}; create index on public.lists (chain_id); {value}", database="latin_nested")
    url = debian.url(database="latin_nested")

    def items(name: str) -> Index:
        return index_over("public.lists", items=Field(FieldType.NESTED, "", fields={name: Field(KEYWORD, "")}))

    ((what, warning),) = findings(url, items("🚢"))
    assert '`fields` has "🚢", of which the encoding of the source lacks a character' in what
    assert not warning
    assert [what for what, warning in findings(url, items("é")) if not warning] == []
    found, _, _ = asyncio.run(export(url, items("é"), "jsonl"))
    assert json.loads(found) == {"items": [{"é": "a"}]}


@pytest.mark.parametrize("kind", ["int", "text"])
def test_rows_of_given_keys_are_found_whatever_the_name_of_the_column(debian: DebianPostgres, kind: str) -> None:
    debian.sql(f"create database given_{kind}")
    debian.sql(f"create table words (k1 {kind}); insert into words values (1), (2), (3)", database=f"given_{kind}")
    index = msgspec.structs.replace(index_over("words", k1=KEYWORD), key="k1")

    async def found() -> list[str]:
        connection = await asyncpg.connect(debian.url(database=f"given_{kind}"))
        try:
            key = key_of(index, await columns_of(connection, index, choices(None, index)), "csv")
            assert key is not None
            given = key.among([["2", "4"]], 1)
            query = f"select k1::text from words where {given.sql}"
            return [row[0] for row in await connection.fetch(query, *given.values)]
        finally:
            await connection.close()

    assert asyncio.run(found()) == ["2"]


def test_text_of_a_nondeterministic_collation_is_exported_for_spreadsheets(source: DebianPostgres) -> None:
    source.sql(
        f"""
        create collation shop.folded (provider = icu, locale = 'und-u-ks-level2', deterministic = off);
        create table shop.words (id int, chain_id int, at timestamptz, word text collate shop.folded);
        insert into shop.words values (1, {CHAIN}, now(), 'MAR1'), (2, {CHAIN}, now(), '=a'), (3, {CHAIN}, now(), 'ab');
        """,
        database="checks",
    )
    index = index_over("shop.words", word=FieldType.KEYWORD)
    found, _, _ = asyncio.run(export(source.url(database="checks"), index, "csv", csv=CsvOptions(profile="excel")))
    assert found.decode("utf-8-sig").split() == ["word", '"=""MAR1"""', "'=a", "ab"]


def test_policies_of_the_role_that_do_not_hold_for_exports_are_reported(source: DebianPostgres) -> None:
    source.sql(
        """
        do $$ begin create role longshore_export; exception when duplicate_object then null; end $$;
        create role reads_policies login;
        grant longshore_export to reads_policies;
        create table shop.guarded (id bigint, chain_id int, at timestamptz);
        create index on shop.guarded (chain_id);
        alter table shop.guarded enable row level security;
        grant usage on schema shop to reads_policies, longshore_export;
        grant select on shop.guarded to reads_policies, longshore_export;
        create policy own on shop.guarded to reads_policies using (id > 0);
        create policy everybody on shop.guarded using (true);
        """,
        database="checks",
    )
    index = Index("", "shop.guarded", "chain_id", "Guarded", {"id": Field(FieldType.NUMBER, "")}, time="at")
    url = source.url("reads_policies", "checks")
    ((what, warning),) = findings(url, index)
    assert warning
    assert "as longshore_export, for which these policies of this role do not hold: own; run ALTER POLICY" in what
    assert findings(source.url(database="checks"), index) == []  # a superuser has no policies
    source.sql("alter policy own on shop.guarded to reads_policies, longshore_export", database="checks")
    assert findings(url, index) == []


def test_row_security_without_a_policy_that_lets_the_reader_read_is_reported(source: DebianPostgres) -> None:
    source.sql(
        """
        create role hidden_reader login;
        create table shop.hidden (id bigint, chain_id int, at timestamptz);
        create index on shop.hidden (chain_id);
        alter table shop.hidden enable row level security;
        grant usage on schema shop to hidden_reader;
        grant select on shop.hidden to hidden_reader;
        create policy writes on shop.hidden for insert with check (true);
        create policy others on shop.hidden to pg_monitor using (true);
        create policy narrower on shop.hidden as restrictive using (true);
        """,
        database="checks",
    )
    index = Index("", "shop.hidden", "chain_id", "Hidden", {"id": Field(FieldType.NUMBER, "")}, time="at")
    url = source.url("hidden_reader", "checks")
    ((what, warning),) = findings(url, index)
    assert warning
    assert "is on for hidden_reader and no policy lets it read, so all exports are empty; run CREATE POLICY" in what
    assert findings(source.url(database="checks"), index) == []  # a superuser has no policies
    source.sql("create policy reads on shop.hidden for select to hidden_reader using (true)", database="checks")
    assert findings(url, index) == []


def test_row_security_without_a_policy_for_the_role_of_exports_is_reported(source: DebianPostgres) -> None:
    source.sql(
        """
        do $$ begin create role longshore_export; exception when duplicate_object then null; end $$;
        create role reads_as_export login;
        grant longshore_export to reads_as_export;
        create table shop.walled (id bigint, chain_id int, at timestamptz);
        create index on shop.walled (chain_id);
        alter table shop.walled enable row level security;
        grant usage on schema shop to reads_as_export, longshore_export;
        grant select on shop.walled to reads_as_export, longshore_export;
        """,
        database="checks",
    )
    index = Index("", "shop.walled", "chain_id", "Walled", {"id": Field(FieldType.NUMBER, "")}, time="at")
    url = source.url("reads_as_export", "checks")
    ((what, _),) = findings(url, index)
    assert "row-level security of shop.walled is on for longshore_export and no policy lets it read" in what
    source.sql("create policy of_chain on shop.walled to longshore_export using (true)", database="checks")
    assert findings(url, index) == []


@pytest.mark.parametrize("place", ["filter", "sql"])
@pytest.mark.parametrize("sql", ["'costs $999' <> ''", "true -- of $1", "$x$ $2 $x$ <> ''"])
def test_sql_that_looks_like_a_parameter_is_refused_when_the_catalog_is_loaded(
    tmp_path: Path, place: str, sql: str
) -> None:
    text = '[codes]\ndescription = ""\nrelation = "shop.codes"\nchain = "chain_id"\nprefix = "Code"\n'
    text += f'filter = """{sql}"""\n' if place == "filter" else ""
    text += '[codes.fields]\nid = { type = "number", description = "" }\n'
    text += f'odd = {{ type = "boolean", description = "", sql = """{sql}""" }}\n' if place == "sql" else ""
    path = tmp_path / "catalog.toml"
    path.write_text(text)
    with pytest.raises(LongshoreError, match=r"stands for a parameter; write the dollar sign as chr\(36\)"):
        catalog.load(str(path))


@pytest.mark.parametrize(
    "sql",
    ["true) or (true", "true)) or ((true", "id in (1", "a[1", "true; select 1", "true -- all", "true /* all */",
     "cit = 'x) or (true", "E'\\\\') or (true"],
)  # fmt: skip
def test_sql_that_could_close_its_parentheses_is_refused_when_the_catalog_is_loaded(sql: str) -> None:
    assert sql_fragment.violation_of(sql) is not None


@pytest.mark.parametrize(
    "sql",
    ["true", "cit = ')'", "cit = E'\\') or (' or true", "cit = $$)$$", "cit = $a$ ' ) $a$", "a[1] = any('{1}')",
     '"we)ird" = 1', "coalesce(cit, ')') || '('", "data->>'a--b' = ';'", "n$$ = 1"],
)  # fmt: skip
def test_sql_whose_parentheses_are_in_quotes_or_in_pairs_is_accepted(sql: str) -> None:
    assert sql_fragment.violation_of(sql) is None


@pytest.mark.parametrize("prefix", ["", "../evil", "a b", "a\\r\\nX", "é", "x" * 41])
def test_a_prefix_has_only_characters_of_a_file_name(tmp_path: Path, prefix: str) -> None:
    text = f'[codes]\ndescription = ""\nrelation = "codes"\nchain = "chain_id"\nprefix = "{prefix}"\n'
    (tmp_path / "catalog.toml").write_text(text + '[codes.fields]\nid = { type = "number", description = "" }\n')
    with pytest.raises(LongshoreError, match="`prefix` must be 1 to 40 ASCII letters"):
        catalog.load(str(tmp_path / "catalog.toml"))


@pytest.mark.parametrize("schema", ["pg_catalog", "$user", "pg_temp", ""])
def test_a_search_path_names_schemas_of_the_source_alone(tmp_path: Path, schema: str) -> None:
    text = '[codes]\ndescription = ""\nrelation = "codes"\nchain = "chain_id"\nprefix = "Code"\n'
    text += f'search_path = ["{schema}"]\n[codes.fields]\nid = {{ type = "number", description = "" }}\n'
    (tmp_path / "catalog.toml").write_text(text)
    with pytest.raises(LongshoreError, match="may only name schemas of the source"):
        catalog.load(str(tmp_path / "catalog.toml"))


def test_the_catalog_of_the_docs_is_loaded(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 1
    assert "from `[audit]` to its end" in " ".join(page.split())
    shipped = (Path(catalog.__file__).parent / "catalog.toml").read_text()
    examples.append(shipped[shipped.index("[audit]") :])
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.toml"
        path.write_text(example)
        assert catalog.load(str(path))


FIELDS = '[codes.fields]\nid = { type = "number", description = "" }\n'
INDEX = '[codes]\ndescription = ""\nrelation = "codes"\nchain = "chain_id"\nprefix = "Code"\n'
NESTED = '[codes.fields.lines]\ntype = "nested"\ndescription = ""\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{INDEX}{FIELDS}x = {{ type = "strng", description = "" }}\n', 'codes.x.type: expected "date" or'),
        (f'{INDEX}{FIELDS}x = {{ type = "txt", description = "" }}\n', 'codes.x.type: "txt" is not known; did'),
        (f'{INDEX}{FIELDS}x = {{ type = "text" }}\n', "codes.x.description: is required"),
        (f'{INDEX}{FIELDS}x = {{ type = "text", description = "", colum = "y" }}\n', "codes.x.colum: unknown key; did"),
        (f'{INDEX}{FIELDS}x = {{ type = "text", description = 1 }}\n', "codes.x.description: expected a string"),
        (f'{INDEX}{FIELDS}x = "text"\n', "codes.x: expected an object, got a string"),
        (f"{INDEX}fields = 3\n", "codes.fields: expected an object, got a number"),
        (f"{INDEX}", "codes.fields: is required"),
        (f'{INDEX}levl = "read"\n{FIELDS}', 'codes.levl: unknown key; did you mean "level"?'),
        (f'{INDEX}level = "root"\n{FIELDS}', 'codes.level: expected "read" or "write" or "admin"'),
        (f'{INDEX}totals = {{ amount = "id" }}\n{FIELDS}', "codes.totals.per: is required"),
        (f'{INDEX}{FIELDS}"" = {{ type = "text", description = "" }}\n', "codes.: the name of a field has 1 to 63"),
        (
            f'{INDEX}{FIELDS}x = {{ type = "text", description = "", column = "a", sql = "b" }}\n',
            "codes.x: has `column` and `sql`; keep one",
        ),
        (
            f'{INDEX}{FIELDS}x = {{ type = "text", description = "", decimals = 2 }}\n',
            "codes.x: `decimals` is for fields of type number alone",
        ),
        (
            f'{INDEX}{FIELDS}x = {{ type = "number", description = "", decimals = -1 }}\n',
            "codes.x: `decimals` must be 0 to 38, not -1",
        ),
        (
            f'{INDEX}{FIELDS}x = {{ type = "text", description = "", on_odd = "error" }}\n',
            "codes.x: `on_odd` is for nested fields alone",
        ),
        (
            f'{INDEX}{FIELDS}{NESTED}fields.sku = {{ type = "keyword", description = "", sql = "upper(sku)" }}\n',
            "codes.lines.sku: `sql` is for the fields of an index",
        ),
        (
            f'{INDEX}{FIELDS}{NESTED}fields.sku = {{ type = "keyword", description = "", decimals = 2 }}\n',
            "codes.lines: `decimals` of sku is for fields of type number alone",
        ),
        (f'{INDEX}{FIELDS}"x\\u0000" = {{ type = "text", description = "" }}\n', "codes.x\x00: has U+0000, which"),
        (f'{INDEX}filter = "word <> \\u0000"\n{FIELDS}', "codes.filter: has U+0000, which PostgreSQL cannot read"),
        (
            f'{INDEX}{FIELDS}{NESTED}fields.sku = {{ type = "keywrd", description = "" }}\n',
            'codes.lines.sku.type: "keywrd" is not known; did you mean "keyword"?',
        ),
    ],
)
def test_a_key_of_the_catalog_that_cannot_be_used_is_named_with_its_index_and_field(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "catalog.toml").write_text(text)
    with pytest.raises(LongshoreError) as caught:
        catalog.load(str(tmp_path / "catalog.toml"))
    assert f"is not usable: {message}" in str(caught.value)


def test_an_empty_name_of_a_column_is_a_violation() -> None:
    named = choices([FieldChoice("id", "")], codes())
    (violation,) = check_fields(named, codes(), "/target/fields")
    assert (violation.pointer, violation.detail) == ("/target/fields/0", "expected a name of 1 to 63 characters")
