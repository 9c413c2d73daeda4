"""One PostgreSQL, API and worker for all tests that do not break things; a service of their own for the rest."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from longshore.demo.seed import seed
from tests.service import Longshore, database_in

ROWS = 20_000  # of chain 1764; the chains 1765 and 9 have 2,000 each


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """A service with the demo's data. Tests must not stop it."""
    data = tmp_path_factory.mktemp("service")
    with database_in(data) as url:
        asyncio.run(seed(url, ROWS, lambda _: None))
        longshore = Longshore(data, url)
        try:
            longshore.start("worker")
            longshore.start_api()
            yield longshore
        finally:
            longshore.stop()


@pytest.fixture
def new_service(tmp_path: Path) -> Iterator[Callable[..., Longshore]]:
    """Makes services of a test's own, with no process started yet; `rows` of demo data, settings by name."""
    with ExitStack() as stack:

        def make(rows: int = 0, **settings: str) -> Longshore:
            data = tmp_path / "service"
            url = stack.enter_context(database_in(data))
            if rows:
                asyncio.run(seed(url, rows, lambda _: None))
            longshore = Longshore(data, url, **settings)
            stack.callback(longshore.stop)
            return longshore

        yield make
