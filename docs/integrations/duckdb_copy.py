"""A copy of an export index in DuckDB, kept right by the changes that each run gives."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from longshore import Longshore
from longshore.client import Task


def create(client: Longshore, index: str) -> Task:
    """Create the task of a copy. A change of the catalog ends its runs in ERROR rather than changing the table."""
    schema = client.indexes.get(index).schema
    return client.exports.create(index, format="parquet", incremental="on_ack", deletes=True, schema=schema)


def load(warehouse: duckdb.DuckDBPyConnection, task: Task, table: str, folder: Path) -> int:
    """Apply the newest run of a task to a table, and acknowledge it once the table is right. Return its number."""
    run = task.wait(timeout=3600).runs(limit=1)[0]
    manifest = task.manifest(run.run)
    file = task.download(folder / "changes.parquet")
    key = ", ".join(f'"{name}"' for name in manifest["key"])
    warehouse.begin()
    try:
        if run.full:
            columns = f"select * exclude (_change, _reason) from '{file}'"
            warehouse.execute(f"create or replace table {table} as {columns} limit 0")
        warehouse.execute(f"delete from {table} where ({key}) in (select ({key}) from '{file}')")
        upserts = f"select * exclude (_change, _reason) from '{file}' where _change = 'upsert'"
        warehouse.execute(f"insert into {table} by name {upserts}")
        check(warehouse, table, manifest["mirror"])
    except BaseException:
        warehouse.rollback()
        raise
    warehouse.commit()
    return task.acknowledge(run.run).run


def check(warehouse: duckdb.DuckDBPyConnection, table: str, mirror: dict[str, Any]) -> None:
    """Compare a copy with the rows and control totals that it must have, in one query."""
    wanted: set[tuple[Any, ...]]
    if mirror["totals"] is None:
        query = f"select count(*) from {table}"
        wanted = {(mirror["rows"],)}
    else:
        per, amount = mirror["totals"]["per"], mirror["totals"]["amount"]
        query = f'select "{per}", count(*), coalesce(sum("{amount}"), 0) from {table} group by 1'
        wanted = {(one["value"], one["rows"], Decimal(one["sum"])) for one in mirror["totals"]["sums"]}
    found = set(warehouse.execute(query).fetchall())
    if found != wanted:
        raise RuntimeError(f"{table} has {found} and must have {wanted}")
