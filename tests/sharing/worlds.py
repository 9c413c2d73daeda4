"""Services whose results are shared as tables: in a folder, and in a bucket. `conftest` imports the fixtures."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.results.bucket import KEY, SECRET
from tests.service import Longshore, database_in, in_own_loop
from tests.sharing import tables
from tests.sharing.tables import share

ROWS = 2_000  # of chain 1764

NO_USER = {
    "entity": "people", "index": "users", "join": "all", "chain_id": 1764,
    "rules": [{"field_name": "id", "field_type": "number", "operator": "is", "value": -1}],
}  # fmt: skip

BUCKET = "tables"  # of its own, as all servers of a process have the same buckets


class Tables:
    """A service with shared tables; `tasks` has the task of each."""

    def __init__(self, service: Longshore, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.tasks = {
            "ledger": share(service, "ledger", "wallet-ledger"),
            "Baskets": share(service, "Baskets", "transactions", partition_by=[{"field": "timestamp", "by": "year"}]),
            "edges": share(service, "edges", "edges"),
            "pairs": share(service, "pairs", "edges", split={"rows": 2}),
            "nobody": share(service, "nobody", "users", segment=NO_USER),
        }


@pytest.fixture(scope="session")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    """Tables whose files are in a folder of the service."""
    yield from _tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="session")
def on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    """Tables whose files are in a bucket, which the addresses of files name."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    named = {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in named.items():
            patch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
        yield from _tables(tmp_path_factory.mktemp("tables-s3"), results_url=f"s3://{BUCKET}/some/prefix")
    server.stop()


def _tables(folder: Path, **settings: str) -> Iterator[Tables]:
    with database_in(folder, ROWS) as url:
        service = Longshore(folder, url, catalog=str(tables.write_catalog(folder)), **settings)
        in_own_loop(_fill(url))
        try:
            service.start("worker")
            service.start_api()
            yield Tables(service, folder)
        finally:
            service.stop()


async def _fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(tables.SOURCE)
    await connection.close()


@pytest.fixture(params=["on_disk", "on_s3"])
def world(request: pytest.FixtureRequest) -> Any:
    """Tables in a folder, then in a bucket."""
    return request.getfixturevalue(request.param)
