"""A service whose tables tests may write to, for tasks that export several times."""

import asyncio
from collections.abc import Callable, Iterator

import httpx2
import pytest

from longshore.database.migrate import connected_if_current
from longshore.exports.increments import change_writer, transactions
from tests.debian_postgres import DebianPostgres, debian_postgres
from tests.exports.changing_table import ChangingDatabase
from tests.exports.incremental import CATALOG, TABLES, Session
from tests.service import Longshore, database_in


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """Yield a service with the tables of `tests.exports.incremental`. Tests must not stop it."""
    data = tmp_path_factory.mktemp("shop")
    (data / "catalog.toml").write_text(CATALOG)
    with database_in(data) as url:
        asyncio.run(_make_tables(url))
        longshore = Longshore(data, url, catalog=str(data / "catalog.toml"))
        try:
            longshore.start("worker")
            longshore.start_api()
            yield longshore
        finally:
            longshore.stop()


@pytest.fixture(scope="session")
def debian() -> Iterator[DebianPostgres]:
    """Yield a PostgreSQL 15 with its extensions. Tests create databases of their own in it."""
    with debian_postgres(settings={"lc_messages": "C"}) as server:
        yield server


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChangingDatabase]:
    """Yield a database with the table of `tests.exports.changing_table`; tests run its tasks in their own process."""
    folder = tmp_path_factory.mktemp("changes")
    with pytest.MonkeyPatch.context() as patch, database_in(folder) as url:
        patch.setattr(transactions, "SETTLE_SECONDS", 0.0)  # tests leave transactions open on purpose
        patch.setattr(change_writer, "MAX_KEYS", 2)
        world = ChangingDatabase(url, folder)
        try:
            yield world
        finally:
            world.close()


async def _make_tables(url: str) -> None:
    async with connected_if_current(url) as connection:
        await connection.execute(TABLES)


@pytest.fixture
def client(shop: Longshore) -> Iterator[httpx2.Client]:
    """Yield a client of the shop, whose table of entries is empty."""
    shop.sql("truncate shop.entries, shop.parted")
    with shop.client() as client:
        yield client


@pytest.fixture
def session(shop: Longshore) -> Iterator[Callable[[], Session]]:
    """Yield a function that opens sessions that write to the shop's tables."""
    sessions: list[Session] = []

    def make() -> Session:
        sessions.append(Session(shop.url))
        return sessions[-1]

    yield make
    for made in sessions:
        made.close()
