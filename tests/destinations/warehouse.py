"""A database that takes tables, for tests: the kind `postgresql` as a delivery opens it, and plain SQL beside."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import asyncpg
import msgspec

from longshore.destinations.kind import (
    BytesFile,
    DeliveryRecord,
    Step,
    TableColumn,
    TableEvidence,
    TableLoad,
    TablePlace,
)
from longshore.destinations.postgresql import postgresql
from longshore.destinations.postgresql.connect import PostgresqlSecret, PostgresqlSettings
from longshore.settings import Settings
from tests.service import in_own_loop

ALLOW = (ip_network("127.0.0.0/8"),)
KIND = postgresql(Settings())
END = datetime(2026, 5, 27, tzinfo=UTC)

Row = Sequence[str | None]


def csv_file(names: Sequence[str], rows: Sequence[Row]) -> BytesFile:
    """A file as exports write it: NULL is empty, every text in quotes, CRLF."""
    head = io.StringIO()
    csv.writer(head).writerow(names)
    lines = [",".join("" if value is None else '"' + value.replace('"', '""') + '"' for value in row) for row in rows]
    return BytesFile((head.getvalue() + "".join(line + "\r\n" for line in lines)).encode())


def a_load(
    columns: dict[str, str],
    rows: Sequence[Row],
    mode: Any = "append",
    *,
    run: int = 1,
    table: str = "orders",
    **more: Any,
) -> TableLoad:
    """A load of a CSV file. `columns`: types in the source, by name; `more`: fields of the load."""
    has_changes = more.get("has_changes", False)
    names = (["_change", "_reason"] if has_changes else []) + list(columns)
    file = more.pop("file", None) or csv_file(names, rows)
    since, until = more.pop("watermarks", (None, None))
    line = DeliveryRecord(12, run, None, END, since, until, len(rows), file.sha256)
    fields: dict[str, Any] = {
        "key": ["id"] if mode == "merge" else [],
        "has_changes": False,
        "is_full": False,
        "format": "csv",
        "totals": None,
        **more,
    }
    typed = [TableColumn(name, "text", kind) for name, kind in columns.items()]
    return TableLoad(table=table, mode=mode, columns=typed, file=file, line=line, **fields)


class Warehouse(msgspec.Struct):
    """A database of a customer: how the kind connects, and the address for its superuser."""

    admin: str
    settings: PostgresqlSettings
    secret: PostgresqlSecret

    def sql(self, statement: str, *args: Any) -> list[Any]:
        """Run a statement as the superuser, in the schema of the tables."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.admin)
            try:
                await connection.execute(f'set search_path = "{self.settings.schema}", public')
                if args or statement.lstrip().lower().startswith(("select", "table", "explain")):
                    return [tuple(row) for row in await connection.fetch(statement, *args)]
                await connection.execute(statement)
                return []
            finally:
                await connection.close()

        return in_own_loop(run())

    def load(self, *loads: TableLoad) -> TableEvidence:
        """Open the destination and load, one after the other; return the last evidence."""
        return in_own_loop(self.loaded(*loads))

    async def loaded(self, *loads: TableLoad) -> TableEvidence:
        """As `load`, within a running loop."""
        async with KIND.open(self.settings, self.secret, ALLOW) as place:
            for load in loads:
                evidence = await as_tables(place).load(load)
        return evidence

    def test(self, allow: Any = ALLOW, **changes: Any) -> list[Step]:
        """The steps of the test, with some settings changed; `password` too."""
        secret = PostgresqlSecret(changes.pop("password")) if "password" in changes else self.secret
        settings = msgspec.structs.replace(self.settings, **changes)

        async def run() -> list[Step]:
            return [step async for step in KIND.test(settings, secret, allow)]

        return in_own_loop(run())

    def types(self, table: str = "orders") -> dict[str, str]:
        """The types of a table's columns, by name."""
        query = (
            "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = to_regclass($1)"
            " and attnum > 0 and not attisdropped order by attnum"
        )
        return dict(self.sql(query, f'"{self.settings.schema}"."{table}"'))


def as_tables(place: Any) -> TablePlace:
    """A place, as one that takes tables."""
    return place  # type: ignore[no-any-return]
