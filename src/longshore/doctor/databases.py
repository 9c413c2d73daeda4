"""Checks of the service's database and the source: rights, version, settings, clock, workers, queue, catalog."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg

from longshore.api import service
from longshore.database import export_role, migrate
from longshore.database.connect import Connection, connect
from longshore.database.requirements import MIN_SERVER_VERSION
from longshore.errors import LongshoreError, first_line
from longshore.exports.catalog import Catalog
from longshore.exports.catalog_check import check as check_catalog
from longshore.exports.increments import transactions
from longshore.exports.source_limits import standby_lag
from longshore.findings import Finding
from longshore.settings import Settings
from longshore.tasks.queue import Message
from longshore.tasks.queue_metrics import QUEUE, WORKERS
from longshore.worker import process

MAX_CLOCK_SECONDS = 2.0
MAX_QUEUE_SECONDS = 900.0
MAX_USED_CONNECTIONS = 0.9
MIN_STANDBY_DELAY_SECONDS = 300
NOTIFY_SECONDS = 5.0
CHANNEL = "longshore_doctor"

SERVER = """
select current_setting('server_version_num')::int as number, current_setting('server_version') as version,
       pg_is_in_recovery() as recovery,
       pg_encoding_to_char(d.encoding) as encoding, current_setting('max_connections')::int as most,
       (select sum(numbackends)::int from pg_stat_database) as used,
       r.rolconnlimit as role_limit, current_user as role
from pg_database d, pg_roles r
where d.datname = current_database() and r.rolname = current_user
"""

# The service only appends to the audit log. It writes no migration, and only tries with an update whether it could.
TABLES_WITHOUT_RIGHTS = """
select string_agg(c.relname, ', ' order by c.relname)
from pg_class c
where c.relnamespace = 'longshore'::regnamespace and c.relkind in ('r', 'p')
  and not (has_table_privilege(c.oid, 'select')
           and (has_table_privilege(c.oid, 'insert') or c.relname = 'migrations')
           and (has_table_privilege(c.oid, 'update') or c.relname = 'audit')
           and (has_table_privilege(c.oid, 'delete') or c.relname in ('audit', 'migrations')))
"""

STANDBY = """
select current_setting('hot_standby_feedback') = 'on' as feedback,
       (select setting::bigint from pg_settings where name = 'max_standby_streaming_delay') / 1000.0 as delay
"""

POLICIES = f"""
select c.relrowsecurity as has_policies,
       row_security_active(c.oid)
       or exists (select from pg_roles where {export_role.READS.format("c.oid")}) as applied
from pg_class c
where c.oid = to_regclass($1)
"""


async def check_database(settings: Settings, url: str, connection: Connection) -> AsyncIterator[Finding]:
    """Check the service's database, its clock, its workers and its queue. `connection`: read-only."""
    row = await connection.fetchrow(SERVER)
    assert row is not None
    missing = await migrate.pending(connection)
    findings = [*_server("database", row), *_connections(settings, row)]
    if row["recovery"]:
        findings.append(Finding("database", "is a standby, which cannot be written to; name the primary"))
    if row["encoding"] != "UTF8":
        findings.append(Finding("database", f"has the encoding {row['encoding']}; make it anew with encoding UTF8"))
    findings += [finding async for finding in _writes(url)]
    if missing:
        findings.append(Finding("database", f"the schema lacks {', '.join(missing)}; run `longshore migrate`"))
    elif tables := await connection.fetchval(TABLES_WITHOUT_RIGHTS):
        what = f"the role {row['role']} may not read and write {tables}; GRANT SELECT, INSERT, UPDATE, DELETE ON them"
        findings.append(Finding("database", what))
    for finding in findings or [
        Finding("database", f"PostgreSQL {row['version']}, with all rights, at this version", "ok")
    ]:
        yield finding
    yield await _clock(connection)
    if not missing:
        if (problem := await export_role.why_unused(connection)) is not None:
            yield Finding("row security", problem)
        yield await _workers(connection)
        yield await _queue(connection)


def _connections(settings: Settings, row: Any) -> Iterator[Finding]:
    needed = process.connections_of(settings) + service.CONNECTIONS * settings.api_processes
    if 0 <= row["role_limit"] < needed:
        what = f"the role {row['role']} may have {row['role_limit']} connections"
        yield Finding("database", f"{what}; ALTER ROLE {row['role']} CONNECTION LIMIT {needed} or more")
    if row["used"] > MAX_USED_CONNECTIONS * row["most"]:
        what = f"{row['used']} of {row['most']} connections are in use"
        yield Finding("database", f"{what}; raise max_connections or end some")


def _server(area: str, row: Any) -> Iterator[Finding]:
    if row["number"] < MIN_SERVER_VERSION * 10_000:
        yield Finding(area, f"is PostgreSQL {row['version']}; upgrade it to {MIN_SERVER_VERSION} or later")


async def _writes(url: str) -> AsyncIterator[Finding]:
    """Check that the database accepts writes and that notifications arrive, which a pooler may withhold."""
    arrived = asyncio.Event()
    connection = await connect(url, "longshore doctor")
    other = await connect(url, "longshore doctor")
    try:
        if await connection.fetchval("show transaction_read_only") == "on":
            yield Finding("database", "is read-only; ALTER DATABASE … RESET default_transaction_read_only, or wait")
            return
        await connection.add_listener(CHANNEL, lambda *_: arrived.set())
        await other.execute(f"notify {CHANNEL}")
        await asyncio.wait_for(arrived.wait(), NOTIFY_SECONDS)
    except TimeoutError:
        yield Finding("database", "notifications do not arrive; put the pooler before it in session mode")
    finally:
        await other.close()
        await connection.close()


async def _clock(connection: Connection) -> Finding:
    before = time.time()
    there = await connection.fetchval("select extract(epoch from clock_timestamp())::float8")
    after = time.time()
    ahead = before - there if there < before else min(0.0, after - there)
    if abs(ahead) > MAX_CLOCK_SECONDS:
        direction = "ahead of" if ahead > 0 else "behind"
        return Finding("clock", f"this machine is {abs(ahead):.0f} s {direction} the database; run NTP on both")
    return Finding("clock", "agrees with the database", "ok")


async def _workers(connection: Connection) -> Finding:
    count = await connection.fetchval(WORKERS)
    if not count:
        return Finding("workers", "none is connected; start `longshore worker`, or `longshore serve` for all")
    return Finding("workers", f"{count} connected", "ok")


async def _queue(connection: Connection) -> Finding:
    row = await connection.fetchrow(QUEUE, Message.entrypoint)
    assert row is not None
    oldest = row["queue_oldest_seconds"]
    if oldest > MAX_QUEUE_SECONDS:
        what = f"a task has waited for {oldest / 60:.0f} min; start more workers or raise LONGSHORE_WORKER_TASKS"
        return Finding("queue", what)
    waiting = row["queue_tasks"] - row["queue_parked_tasks"]
    return Finding("queue", f"{waiting} tasks wait for a worker, the oldest for {oldest:.0f} s", "ok")


async def check_source(settings: Settings, connection: Connection, known: Catalog) -> AsyncIterator[Finding]:
    """Check the source, the catalog against it, and its row-level security. `connection`: read-only."""
    row = await connection.fetchrow(SERVER)
    assert row is not None
    findings = list(_server("source", row))
    if row["recovery"]:
        standby = await connection.fetchrow(STANDBY)
        assert standby is not None
        if not standby["feedback"] and 0 <= standby["delay"] < MIN_STANDBY_DELAY_SECONDS:
            what = f"is a standby that cancels what reads for longer than {standby['delay']:.0f} s"
            findings.append(Finding("source", f"{what}; set hot_standby_feedback = on there", "warning"))
        findings += await _check_lag(settings.source_lag_seconds, connection)
    try:
        with transactions.needs_log():
            await connection.fetchrow(transactions.POSITION, "pg_catalog.pg_class")
    except (LongshoreError, asyncpg.PostgresError) as error:
        findings.append(Finding("source", first_line(error), "warning"))
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.fetchval("select pg_export_snapshot()")
    except asyncpg.PostgresError as error:
        findings.append(
            Finding("source", f"a snapshot cannot be shared: {first_line(error)}; set LONGSHORE_EXPORT_CONNECTIONS=1")
        )
    for finding in findings or [Finding("source", f"PostgreSQL {row['version']}, snapshots can be shared", "ok")]:
        yield finding
    # The service's own tables are in its own database.
    those = {name: index for name, index in known.items() if not (settings.source_url and index.in_service_database)}
    catalog_findings = await check_catalog(connection, those)
    for one in catalog_findings:
        yield Finding("catalog", f"{one.where}: {one.what}", one.level)
    if known and not catalog_findings:
        yield Finding("catalog", f"{len(those)} indexes fit the source", "ok")
    async for finding in _row_security(connection, those):
        yield finding


async def _check_lag(max_seconds: float, connection: Connection) -> list[Finding]:
    if not max_seconds:
        return []
    try:
        lag = await standby_lag(connection)
    except LongshoreError as error:
        return [Finding("source", str(error))]
    if lag <= max_seconds:
        return []
    what = f"is {lag:.0f} s behind its primary, and may be {max_seconds} s"
    return [Finding("source", f"{what}; mend the replication or raise LONGSHORE_SOURCE_LAG_SECONDS")]


async def _row_security(connection: Connection, known: Catalog) -> AsyncIterator[Finding]:
    protected = 0
    for name, index in known.items():
        row = await connection.fetchrow(POLICIES, index.regclass)
        if row is None or not row["has_policies"]:
            continue
        protected += 1
        if not row["applied"]:
            role, relation = export_role.ROLE, index.relation
            what = f"{name}: the policies of {relation} do not apply to this user"
            yield Finding("row security", f"{what}; GRANT {role} TO it and GRANT SELECT ON {relation} TO {role}")
            return
    yield Finding("row security", f"applies to {protected} of {len(known)} indexes", "ok")
