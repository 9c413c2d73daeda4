"""No setting of a role, a database or a server changes a byte of a result, or the service's own sessions."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from longshore.database.connect import open_pool
from longshore.database.pinned_settings import PINNED_SETTINGS
from longshore.exports import snapshot
from longshore.exports.catalog import Field, FieldType
from longshore.exports.files.partitions import PartitionKey
from longshore.exports.snapshot import SourceConnections
from longshore.exports.target import Split
from tests.debian_postgres import DebianPostgres
from tests.exports.engine import export, index_over
from tests.exports.test_partitions import export as export_files
from tests.service import Longshore, in_own_loop

# Of these categories of pg_settings every setting is pinned, or is EXEMPT for a reason.
CATEGORIES = "^(Client Connection Defaults|Version and Platform Compatibility|Error Handling|Lock Management)"

PLACES = "says where new objects go, or how they are stored"
EXEMPT = {
    "default_transaction_read_only": "the operator's or the provider's guard, which the service respects",
    "restrict_nonsystem_relation_kind": "refuses relations and never changes what they hold",
    "transaction_deferrable": "of the transaction, not of the session",
    "transaction_isolation": "of the transaction, not of the session",
    "transaction_read_only": "of the transaction, not of the session",
    "check_function_bodies": "checks, and changes nothing",
    "icu_validation_level": "checks, and changes nothing",
    "createrole_self_grant": "the service creates no roles",
    "local_preload_libraries": "loads code, and is no setting of output",
    "gin_pending_list_limit": PLACES,
    "default_table_access_method": PLACES,
    "default_tablespace": PLACES,
    "default_toast_compression": PLACES,
    "temp_tablespaces": PLACES,
}

# Unusual values, for settings whose kind alone does not yield one. Timeouts leave a session the
# time to pin its settings, which it does right after connecting.
UNUSUAL = {
    "DateStyle": "SQL, DMY",
    "TimeZone": "Asia/Kathmandu",
    "client_encoding": "LATIN1",
    "default_text_search_config": "pg_catalog.german",
    "extra_float_digits": "-15",
    "gin_fuzzy_search_limit": "1",
    "idle_in_transaction_session_timeout": "2s",
    "idle_session_timeout": "2s",
    "lc_monetary": "POSIX",
    "lc_numeric": "POSIX",
    "lc_time": "POSIX",
    "lock_timeout": "1",
    "search_path": "nowhere, public",
    "statement_timeout": "2s",
    "timezone_abbreviations": "Australia",
    "transaction_timeout": "5s",
    "xmloption": "document",
}

SETTINGS = f"""
select name, vartype, context, setting, enumvals from pg_settings
where category ~ '{CATEGORIES}' and name !~ '^vacuum_' or name = 'synchronous_commit' order by name
"""

TABLE = r"""
create table public.things (
    id bigint, chain_id bigint, at timestamptz, day date, local timestamp, clock timetz, span interval, single real,
    double double precision, price money, raw bytea, doc xml, words text, list text[], flag boolean
);
insert into public.things
select n, 1764, '2026-05-26 12:00:00.123456+02', '2026-02-01', '2026-05-26 12:00', '12:00:00+05:45',
       '1 year 2 mons -3 days 04:05:06.7', 0.1 + n, 1.0 / 3 + n, 1234.56, '\x00ff5c27', '<a>1</a>', E'it''s \\ "\n$1',
       array['a', null, 'NULL'], n % 2 = 0
from generate_series(1, 50) n;
"""

WORDS = ("clock", "span", "price", "raw", "doc", "words", "list")
TYPES: dict[str, FieldType | Field] = {
    "id": FieldType.NUMBER,
    "at": FieldType.DATE,
    "day": FieldType.DATE,
    "local": FieldType.DATE,
    "single": FieldType.NUMBER,
    "double": FieldType.NUMBER,
    "flag": FieldType.BOOLEAN,
    **dict.fromkeys(WORDS, FieldType.TEXT),
    "formatted": Field(
        FieldType.TEXT, "", sql="to_char(double, 'FM999D99') || to_char(at, 'TZ TMMonth') || to_tsvector('the ships')"
    ),
    "parsed": Field(FieldType.TEXT, "", sql="'01/02/2026'::date || '2026-01-01 12:00 EST'::timestamptz::text"),
    "compared": Field(
        FieldType.TEXT, "", sql=r"coalesce((words = null)::text, 'unknown') || '\n' || '{NULL}'::text[]::text"
    ),
}
XML = {"shown": Field(FieldType.TEXT, "", sql="xmlelement(name a, raw)::text || xmlserialize(content doc as text)")}


def unusual(name: str, kind: str, setting: str, values: list[str] | None) -> str:
    if name in UNUSUAL:
        return UNUSUAL[name]
    if kind == "bool":
        return "off" if setting == "on" else "on"
    assert kind == "enum" and values is not None, f"{name} needs an unusual value in this test, or a reason in EXEMPT"
    return next(value for value in reversed(values) if value not in (setting, PINNED_SETTINGS.get(name.lower())))


async def make_databases(url: str, table: str) -> dict[str, str]:
    """Make two databases with the same rows, one of them with unusual settings; return these."""
    first = await asyncpg.connect(url)
    for name in ("usual", "unusual"):
        await first.execute(f"drop database if exists {name}")
        await first.execute(f"create database {name}")
        connection = await asyncpg.connect(url, database=name)
        await connection.execute(table)
        await connection.close()
    changed = {}
    for row in await first.fetch(SETTINGS):
        # No session of the service can pin a setting of superusers; `longshore catalog check` looks at those.
        if row["context"] != "user" or row["name"] in EXEMPT:
            continue
        changed[row["name"]] = unusual(row["name"], row["vartype"], row["setting"], row["enumvals"])
        value = changed[row["name"]].replace("'", "''")
        shown = value if row["name"] == "search_path" else f"'{value}'"
        await first.execute(f"alter database unusual set {row['name']} = {shown}")
    await first.close()
    return changed


def address(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


class Databases:
    """Two databases of one server; `changed` are the settings of the database `unusual`."""

    def __init__(self, url: str, table: str, types: dict[str, FieldType | Field]) -> None:
        self.types = types
        self.changed = in_own_loop(make_databases(url, table))
        self.urls = [urlsplit(url)._replace(path=f"/{name}").geturl() for name in ("usual", "unusual")]


@pytest.fixture(scope="module", params=["embedded", "debian"])
def databases(request: pytest.FixtureRequest, service: Longshore, debian: DebianPostgres) -> Databases:
    if request.param == "debian":
        return Databases(debian.url(), TABLE, {**TYPES, **XML})
    return Databases(service.url, TABLE.replace("doc xml", "doc text"), TYPES)  # it is built without libxml


def test_sessions_hold_every_setting_that_changes_output_whatever_the_database_says(databases: Databases) -> None:
    async def settings(url: str) -> dict[str, str]:
        async with open_pool(url, size=1, name="test") as pool:
            found = await pool.fetch("select name, setting from pg_settings where name = any($1)", [*databases.changed])
            return {row["name"]: row["setting"] for row in found}

    usual, unusual = (asyncio.run(settings(url)) for url in databases.urls)
    assert len(usual) > 25
    assert unusual == usual


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet", "xlsx"])
def test_every_format_gives_the_same_bytes_whatever_the_database_says(databases: Databases, format: str) -> None:
    index = index_over("public.things", **databases.types)
    usual, unusual = (asyncio.run(export(url, index, format))[0] for url in databases.urls)
    assert len(usual) > 2000
    assert unusual == usual


@pytest.mark.parametrize(("keys", "split"), [(None, Split(rows=20)), ([PartitionKey("words")], None)])
def test_exports_of_many_files_give_the_same_bytes_whatever_the_database_says(
    databases: Databases, tmp_path: Path, keys: list[PartitionKey] | None, split: Split | None
) -> None:
    path = Field(FieldType.TEXT, "", sql="current_setting('search_path')")  # by which PostgreSQL finds an operator
    index = index_over("public.things", **databases.types, path=path)
    folders = [tmp_path / "usual", tmp_path / "unusual"]
    for url, folder in zip(databases.urls, folders, strict=True):
        asyncio.run(export_files(url, folder, keys, split=split, index=index))
    usual, unusual = ([file.read_bytes() for file in sorted(folder.rglob("*.csv"))] for folder in folders)
    assert usual
    assert unusual == usual


def test_a_connection_that_has_joined_a_snapshot_waits_for_locks_as_long_as_others(databases: Databases) -> None:
    async def lock_timeouts(url: str) -> list[str]:
        async with open_pool(url, size=2, name="test", **snapshot.EXPORT_SESSION) as pool:
            database = SourceConnections(pool, 1)
            async with database.snapshot() as (first, _), database.connections(first, 1) as connections:
                for connection in connections:
                    await snapshot.lock_tables(connection, "select from public.things")
                return [await each.fetchval("select current_setting('lock_timeout')") for each in connections]

    assert [asyncio.run(lock_timeouts(url)) for url in databases.urls] == [["0", "0"], ["0", "0"]]
