"""COPY of a load's file, into a temporary table or into a new table of the load."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from longshore.database.connect import DirectConnection
from longshore.destinations.kind import TableLoad
from longshore.destinations.postgresql import apply, rows
from longshore.destinations.postgresql.errors import STAGING_NAME, needing
from longshore.destinations.postgresql.table import Column, Target
from longshore.destinations.postgresql.types import quoted
from longshore.exports import columns as exports_columns
from longshore.exports.catalog import Field, FieldType
from longshore.exports.target import CHANGE_NAMES

LOST_SECONDS = 1.0  # that asyncpg may take to report a lost connection


async def stage(connection: DirectConnection, target: Target, load: TableLoad) -> None:
    """Copy the file into the temporary table `apply.STAGING`, which has the types that the table will have."""
    spelled = [column for column in target.columns if load.format == "parquet" and column.is_to_be_spelled]
    staged = [msgspec.structs.replace(one, type=one.want) if one in spelled else one for one in target.columns]
    columns = msgspec.structs.replace(target, columns=staged).definitions(load.key if load.mode == "merge" else ())
    if load.has_changes:
        columns = [*(f"{quoted(name)} text" for name in CHANGE_NAMES), *columns]
    with needing("create temporary tables", "grant temporary on database … to the role"):
        await connection.execute(f"create temporary table {STAGING_NAME} ({', '.join(columns)}) on commit drop")
    await copy(connection, load, "pg_temp", STAGING_NAME)
    if spelled:
        await _spell(connection, spelled)


async def _spell(connection: DirectConnection, columns: Sequence[Column]) -> None:
    """Make texts of staged values, as a CSV file has them: Arrow spells some otherwise."""
    changes = []
    for column in columns:
        name = quoted(column.name)
        value = exports_columns.Column("", Field(FieldType.TEXT, ""), name, column.want.name)
        changes.append(f"alter {name} type {column.type.sql} using {value.text_sql}")
    zone = await connection.fetchval("select pg_catalog.current_setting('timezone')")
    await connection.execute(f"set local timezone = 'UTC'; alter table {apply.STAGING} {', '.join(changes)}")
    await connection.fetchval("select pg_catalog.set_config('timezone', $1, true)", zone)


async def copy(connection: DirectConnection, load: TableLoad, schema: str, table: str) -> None:
    """Copy the file into a table that has its columns. Raises DestinationError where the file has other rows.

    asyncpg waits for ever where a connection is lost while it waits to send, so this watches the connection.
    """
    names = [*(CHANGE_NAMES if load.has_changes else ()), *(column.name for column in load.columns)]
    is_csv = load.format == "csv"
    chunks = rows.csv_chunks(load.file) if is_csv else rows.parquet_chunks(load.file, names)
    header: Any = "match" if is_csv else False  # with the names of the columns
    lost = asyncio.Event()

    def lose(_: object) -> None:
        lost.set()

    async with contextlib.aclosing(rows.in_thread(chunks)) as source:
        copying = asyncio.ensure_future(
            connection.copy_to_table(
                table, source=source, columns=names, schema_name=schema, format="csv", header=header
            )
        )
        watching = asyncio.ensure_future(lost.wait())
        connection.add_termination_listener(lose)
        try:
            await asyncio.wait({copying, watching}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({copying}, timeout=LOST_SECONDS)
            if not copying.done():
                raise ConnectionError("the connection was lost")
            load.require_rows(int((await copying).rpartition(" ")[2]), f"the table {load.table}")
        finally:
            connection.remove_termination_listener(lose)
            watching.cancel()
            copying.cancel()
            await asyncio.gather(copying, watching, return_exceptions=True)
