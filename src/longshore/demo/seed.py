"""The demo's data: one large chain and two smaller ones in the same tables."""

from collections.abc import Callable
from importlib import resources

import asyncpg

from longshore.database.connect import Connection
from longshore.errors import LongshoreError

CHAIN = 1764
SMALLER_CHAINS = (1765, 9)


class SeedError(LongshoreError):
    """The data cannot be written here; the message says why."""


async def seed(url: str, rows: int, tell: Callable[[str], None]) -> bool:
    """Write `rows` ledger entries for chain 1764, and a tenth of that for each of the chains 1765 and 9.

    `tell` is called with what is being done. Gives False when the data was there already. Raises SeedError when the
    schema `loyalty` holds somebody's own data.
    """
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("select to_regnamespace('loyalty') is not null"):
            if not await connection.fetchval("select to_regclass('loyalty.demo') is not null"):
                raise SeedError("this database has a schema `loyalty` that the demo did not make; it stays as it is")
            if await connection.fetchval("select max(rows) from loyalty.demo") == rows:
                return False
        async with connection.transaction():
            await _write(connection, rows, tell)
        tell("collecting statistics")
        await connection.execute("vacuum analyze loyalty.wallet_ledger")
    finally:
        await connection.close()
    return True


async def _write(connection: Connection, rows: int, tell: Callable[[str], None]) -> None:
    await connection.execute("drop schema if exists loyalty cascade")
    await connection.execute(_sql("loyalty.sql"))
    await connection.execute("set local work_mem = '256MB'; set local maintenance_work_mem = '256MB'")
    first_id = 1
    for chain, count in ((CHAIN, rows), *((chain, rows // 10) for chain in SMALLER_CHAINS)):
        if count:
            tell(f"writing {count:,} ledger entries for chain {chain}")
            await connection.execute(_sql("wallet_ledger.sql"), chain, count, first_id, timeout=None)
        first_id += count
    tell("building indexes")
    await connection.execute('create index on loyalty.wallet_ledger (chain_id, "timestamp")', timeout=None)
    await connection.execute("insert into loyalty.demo (rows) values ($1)", rows)


def _sql(name: str) -> str:
    return (resources.files("longshore.demo") / name).read_text(encoding="utf-8")
