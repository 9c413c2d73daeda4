"""The sample data and the database of `LONGSHORE_SOURCE_URL`, which is the user's."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from longshore.database.embedded import embedded_server
from tests.command import run
from tests.service import in_own_loop

OWN_CATALOG = """
[orders]
relation = "shop.orders"
chain = "chain_id"
prefix = "Orders"

[orders.fields]
id = { type = "number" }
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the source: a database with nothing in it."""
    with embedded_server(tmp_path_factory.mktemp("source")) as url:
        yield url


def has_sample_data(url: str) -> bool:
    async def ask() -> bool:
        connection = await asyncpg.connect(url)
        try:
            return bool(
                await connection.fetchval(
                    "select to_regnamespace('loyalty') is not null or to_regrole('longshore_export') is not null"
                )
            )
        finally:
            await connection.close()

    return in_own_loop(ask())


def test_demo_leaves_the_source_alone_and_exports_from_a_database_of_its_own(source: str, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(OWN_CATALOG)
    done = run("demo", "--rows", "100", folder=tmp_path, source_url=source, catalog=str(catalog))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks passed" in done.stdout
    assert "LONGSHORE_SOURCE_URL= LONGSHORE_CATALOG= " in done.stdout, "the service by hand has the data of the demo"
    assert not has_sample_data(source)


def test_seed_writes_to_the_source_only_with_the_option_for_it(source: str, tmp_path: Path) -> None:
    (tmp_path / "longshore.toml").write_text(f'source_url = "{source}"\n')
    refused = run("seed", "--rows", "10", folder=tmp_path)
    assert refused.returncode == 1
    assert "LONGSHORE_SOURCE_URL" in refused.stderr
    assert "--into-source" in refused.stderr
    assert not has_sample_data(source)
    assert not (tmp_path / "data").exists(), "nothing was made"
    done = run("seed", "--rows", "10", "--into-source", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert has_sample_data(source)


def test_seed_into_a_source_that_is_not_set_writes_nothing(tmp_path: Path) -> None:
    refused = run("seed", "--rows", "10", "--into-source", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--into-source needs LONGSHORE_SOURCE_URL" in refused.stderr
    assert not (tmp_path / "data").exists(), "nothing was made"


def test_source_that_is_the_services_own_database_is_no_other(source: str, tmp_path: Path) -> None:
    done = run("seed", "--rows", "10", folder=tmp_path, database_url=source, source_url=source)
    assert done.returncode == 0, done.stderr
