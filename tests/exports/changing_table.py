"""A task with deletes that is run in this process, the copy that its reader keeps, and a table that changes."""

import asyncio
import csv
import io
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq

from longshore.database.connect import Connection, Pool, open_pool
from longshore.exports import catalog
from longshore.exports.exporter import Exporter, ExportSettings
from longshore.exports.manifest import SUFFIX
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections, SourceDatabases
from longshore.results.local import LocalStore
from longshore.tasks import attempts, requests, run_ends, watermarks
from longshore.tasks.attempts import Attempt
from longshore.tasks.model import ChainId, Interval, TaskId
from longshore.tasks.queue import Message
from longshore.vault import Vault
from tests.service import CHAIN

TABLES = """
create schema shop;
create table shop.things (
    id bigint not null,
    chain_id bigint not null default 1764,
    at timestamptz not null default clock_timestamp(),
    code text not null default '',
    line int not null default 0,
    kind text not null default 'sale',
    amount numeric,
    version bigint not null default 0,
    shelf int not null default 0
) partition by list (shelf);
create index on shop.things (id);
create table shop.shelf_0 partition of shop.things for values in (0);
create table shop.shelf_1 partition of shop.things for values in (1);
create table shop.hidden (id bigint);
grant usage on schema shop to longshore_export;
grant select on shop.things, shop.hidden to longshore_export;
alter table shop.things enable row level security;
create policy of_chain on shop.things using (
    chain_id = current_setting('longshore.chain')::bigint and id not in (select id from shop.hidden)
);
"""

FIELDS = """
id = { type = "number", description = "Number." }
code = { type = "keyword", description = "Code." }
line = { type = "number", description = "Line." }
kind = { type = "keyword", description = "Kind." }
amount = { type = "number", description = "Amount.", decimals = 4 }
version = { type = "number", description = "Changes with each write." }
loud = { type = "keyword", description = "The kind, loud.", sql = "upper(kind)" }
"""

KEYS = {"by-id": ["id"], "by-code": ["code", "line"], "by-number": ["code", "amount"]}

CATALOG = "".join(
    f"""
[{name}]
description = "Things."
relation = "shop.things"
chain = "chain_id"
time = "at"
prefix = "Thing"
key = {json.dumps(key)}
totals = {{ amount = "amount", per = "kind" }}
[{name}.fields]
{FIELDS}
"""
    for name, key in KEYS.items()
)

# The chain 9 is another tenant's. Rows of the kind `gift` are outside the segment.
SEGMENT = {
    "entity": "people",
    "join": "all",
    "chain_id": CHAIN,
    "rules": [{"field_name": "kind", "field_type": "keyword", "operator": "is", "value": "sale"}],
}

# As an export shows it: rows of the chain that no policy hides, and that match the segment.
EXPECTED = """
select id::text, code, line::text, kind, amount::text, version::text, upper(kind) as loud
from shop.things where chain_id = $1 and id not in (select id from shop.hidden) and ($2 or kind = 'sale')
"""

INSERT_TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug)
values ($1, '', 'export', $2, $3, '') returning id
"""

Row = dict[str, str | None]


class Copy:
    """The copy of a reader, who applies results by key."""

    def __init__(self, key: list[str]) -> None:
        self.rows: dict[tuple[Any, ...], Row] = {}
        self._key = key

    def apply(self, manifest: dict[str, Any], rows: list[Row]) -> None:
        """Apply the result of a run."""
        if manifest["full"]:
            self.rows.clear()
        seen = set()
        for row in rows:
            change, reason = row.pop("_change"), row.pop("_reason")
            key = tuple(row[name] for name in self._key)
            assert key not in seen, f"{key} comes twice"
            seen.add(key)
            if change == "upsert":
                assert reason is None
                self.rows[key] = row
            else:
                assert change == "delete"
                assert reason in ("left", "deleted")
                assert {name for name, value in row.items() if value is not None} == set(self._key)
                assert key in self.rows or manifest["given_again"], f"{key} was never there"
                self.rows.pop(key, None)


class ChangingDatabase:
    """A database with the table of this module, in a loop of its own; no process of the service runs."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.runner = asyncio.Runner()
        self._pool: Any = open_pool(url, size=6, name="test", **EXPORT_SESSION)
        self.pool: Pool = self.runner.run(self._pool.__aenter__())
        self.writer: Connection = self.runner.run(asyncpg.connect(url))
        self.late: Connection = self.runner.run(asyncpg.connect(url))
        (folder / "catalog.toml").write_text(CATALOG)
        self.runner.run(self.writer.execute(TABLES))

    def close(self) -> None:
        """Close everything."""
        self.runner.run(self.writer.close())
        self.runner.run(self.late.close())
        self.runner.run(self._pool.__aexit__(None, None, None))
        self.runner.close()


class ChangingTask:
    """A task with deletes, whose runs the test drives step by step."""

    def __init__(self, pool: Pool, folder: Path, id: int = 0) -> None:
        """`folder`: with the catalog. `id`: of a task that exists."""
        self._pool = pool
        self.folder = folder / "results"
        known = catalog.load(str(folder / "catalog.toml"))
        settings = ExportSettings(vault=Vault(("secret of the tests " * 2,), folder / "secret.key", may_use_file=False))
        self._exporter = Exporter(
            pool, SourceDatabases(SourceConnections(pool, 1)), known, LocalStore(self.folder), settings
        )
        self.id = TaskId(id)

    async def create(self, index: str = "by-id", *, segment: bool = True, **target: Any) -> None:
        """Create the task."""
        chosen = {
            "action": "export",
            "export_index": index,
            "export_format": "csv",
            "incremental": True,
            "deletes": True,
            "csv": {"null": "NULL"} if target.get("export_format", "csv") == "csv" else None,
            **target,
        }
        trigger = {"segment": {**SEGMENT, "index": index}} if segment else {}
        given = {key: value for key, value in chosen.items() if value is not None}
        self.id = TaskId(await self._pool.fetchval(INSERT_TASK, CHAIN, json.dumps(trigger), json.dumps(given)))

    async def begin(self) -> Attempt:
        """Begin a run, as the scheduler and a worker do."""
        async with self._pool.acquire() as connection, connection.transaction():
            await requests.execute(connection, ChainId(CHAIN), self.id)
        return await self.begin_attempt()

    async def begin_attempt(self) -> Attempt:
        """Begin the newest attempt."""
        newest = await self._pool.fetchval("select attempt from longshore.tasks where id = $1", self.id)
        begun = await attempts.begin(self._pool, Message(self.id, newest))
        assert begun is not None
        return begun

    async def export(self, attempt: Attempt) -> attempts.RunResult:
        """Run an attempt up to its end, which is not recorded."""
        return await self._exporter.run(attempt)

    async def lose(self, attempt: Attempt) -> Attempt:
        """Lose an attempt, and begin the next one of the run."""
        await attempts.retry(self._pool, attempt.message, "worker lost", 0, counts_as_failure=False)
        return await self.begin_attempt()

    async def fail(self, attempt: Attempt) -> None:
        """End a run as ERROR."""
        await run_ends.fail(self._pool, attempt.message, "failed: the test")

    async def finish(self, attempt: Attempt, result: attempts.RunResult) -> None:
        """End a run as DONE."""
        await run_ends.finish(self._pool, attempt.message, result, timedelta(days=7))

    async def run(self) -> tuple[dict[str, Any], list[Row]]:
        """Run once. Return the manifest and the rows of the result."""
        attempt = await self.begin()
        result = await self.export(attempt)
        await self.finish(attempt, result)
        return self.read(result)

    async def acknowledge(self, run: int) -> None:
        """Acknowledge a run."""
        await watermarks.acknowledge(self._pool, ChainId(CHAIN), self.id, run)

    async def newest(self) -> Attempt:
        """Return the newest attempt, which another process has begun."""
        row = await self._pool.fetchrow("select attempt, run, last_run_at from longshore.tasks where id = $1", self.id)
        assert row is not None
        message, interval = Message(self.id, row["attempt"]), Interval(None, row["last_run_at"])
        return Attempt(message, ChainId(CHAIN), "export", "", "", row["run"], 1, 0, interval)

    def read(self, result: attempts.RunResult) -> tuple[dict[str, Any], list[Row]]:
        """Return the manifest of a result, and its rows as text."""
        manifest, rows = self.read_location(str(result.location))
        manifest["given_again"] = bool(result.note and "again" in result.note)
        return manifest, rows

    def read_location(self, location: str) -> tuple[dict[str, Any], list[Row]]:
        """Return the manifest and the rows of the result at a location."""
        path = self.folder / location
        manifest = json.loads(path.with_name(path.name + SUFFIX).read_bytes())
        return {**manifest, "given_again": False}, rows_of(path)

    def lists(self) -> list[Path]:
        """Return the key lists in the store."""
        return sorted((self.folder / str(CHAIN) / str(self.id) / "keys").glob("*/*.parquet"))


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a result as text; None is NULL."""
    if path.suffix == ".csv":
        records = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""))
        return [{name: None if value == "NULL" else value for name, value in record.items()} for record in records]
    rows: list[dict[str, Any]]
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif path.suffix == ".json":
        rows = json.loads(path.read_bytes(), parse_float=str)
    else:
        rows = [json.loads(line, parse_float=str) for line in path.read_bytes().split(b"\n") if line]
    return [{name: None if value is None else str(value) for name, value in row.items()} for row in rows]


def fits(copy: Copy, manifest: dict[str, Any], expected: list[Row]) -> None:
    """Fail where a copy, or the mirror of a manifest, is not as a full export would be."""
    assert sorted(map(_comparable, copy.rows.values())) == sorted(map(_comparable, expected))
    sums = {one["value"]: (one["rows"], Decimal(one["sum"])) for one in manifest["mirror"]["totals"]["sums"]}
    wanted: dict[str | None, tuple[int, Decimal]] = {}
    for row in expected:
        rows, total = wanted.get(row["kind"], (0, Decimal(0)))
        wanted[row["kind"]] = rows + 1, total + Decimal(row["amount"] or 0)
    assert manifest["mirror"]["rows"] == len(expected)
    assert sums == wanted


def _comparable(row: Row) -> list[str]:
    # Parquet has decimals of one scale.
    amount = row["amount"] and f"{Decimal(row['amount']):.4f}"
    return [f"{name}={value}" for name, value in sorted({**row, "amount": amount}.items())]
