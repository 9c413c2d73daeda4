"""The demo's data: one large chain and two smaller ones in the same tables."""

from collections.abc import Callable
from importlib import resources

from longshore.database.connect import Connection, connected
from longshore.errors import LongshoreError

CHAIN = 1764
SMALLER_CHAINS = (1765, 9)
MAX_PRODUCTS = 2000
VERSION = 4  # of the data; data of another version is replaced

# Each table with its time column; an index on chain and time serves exports of a chain's period.
TABLES = {
    "products": "last_modified_date",
    "product_variants": "last_modified_date",
    "users": "created_date",
    "vouchers": "date_time_created",
    "transactions": "timestamp",
    "wallet_ledger": "timestamp",
}


async def seed(url: str, rows: int, report: Callable[[str], None]) -> bool:
    """Write `rows` ledger entries for chain 1764, and a tenth of that for each of the chains 1765 and 9.

    `report` is called with the name of each step. Returns False if the data was written before.
    Raises LongshoreError if the schema `loyalty` was not made by the demo.
    """
    async with connected(url, "longshore seed") as connection:
        if await connection.fetchval("select to_regnamespace('loyalty') is not null"):
            if not await connection.fetchval("select to_regclass('loyalty.demo') is not null"):
                raise LongshoreError(
                    "this database has a schema `loyalty` that the demo did not make; it stays as it is"
                )
            columns = "select rows = $1 and to_jsonb(demo) ->> 'version' = $2 from loyalty.demo"
            if await connection.fetchval(columns, rows, str(VERSION)):
                return False
        async with connection.transaction():
            await _write(connection, rows, report)
        report("collecting statistics")
        for table in TABLES:
            await connection.execute(f"vacuum analyze loyalty.{table}")
    return True


async def _write(connection: Connection, rows: int, report: Callable[[str], None]) -> None:
    await connection.execute("drop schema if exists loyalty cascade")
    await connection.execute(_sql("loyalty.sql"))
    await connection.execute("set local work_mem = '256MB'; set local maintenance_work_mem = '256MB'")
    first_id = 1
    for chain, count in ((CHAIN, rows), *((chain, rows // 10) for chain in SMALLER_CHAINS)):
        if count:
            report(f"writing {count:,} ledger entries and what belongs to them for chain {chain}")
            await _write_chain(connection, chain, count, first_id)
        first_id += 3 * count + 3 * MAX_PRODUCTS
    report("building indexes")
    for table, column in TABLES.items():
        await connection.execute(f'create index on loyalty.{table} (chain_id, "{column}")', timeout=None)
    await connection.execute("insert into loyalty.demo values ($1, $2)", rows, VERSION)


async def _write_chain(connection: Connection, chain: int, count: int, first_id: int) -> None:
    products = max(1, min(MAX_PRODUCTS, count // 100))
    counts = {
        "products": (products,),
        "product_variants": (products,),
        "users": (max(1, count // 25),),
        "vouchers": (max(1, count // 20),),
        "transactions": (max(1, count // 10), products),
        "wallet_ledger": (count,),
    }
    for table, (number, *more) in counts.items():
        await connection.execute(_sql(f"{table}.sql"), chain, number, first_id, *more, timeout=None)


def _sql(name: str) -> str:
    return (resources.files("longshore.demo") / name).read_text(encoding="utf-8")
