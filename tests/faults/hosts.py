"""A Longshore on six hosts: PostgreSQL, an S3 server (moto's), the API, and three workers."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import boto3

from longshore.database.embedded_server import programs
from tests.faults.held import CATALOG, LEDGER, ROWS, write_catalog, write_source
from tests.faults.network import NET, Network
from tests.service import Longshore, database_in, listens
from tests.waiting import until

WORKERS = ("worker-1", "worker-2", "worker-3")
HOSTS = ("database", "store", "api", *WORKERS)
BUCKET = "longshore-results"
RESULTS = f"s3://{BUCKET}/exports"
API_PORT, STORE_PORT = 8080, 5000

HEARTBEAT_TIMEOUT = 5.0  # seconds
RUNNING = 20  # exports
LONG_ROWS = 12_000  # of an export that is cut into three shards
# An export has 12 MB, in two parts of an upload, so that it takes 15 s.
SETTINGS = {
    "results_url": RESULTS,
    "heartbeat_timeout": str(HEARTBEAT_TIMEOUT),
    "export_megabytes_per_second": "0.8",
    "shard_rows": "5000",
    "chain_tasks": str(RUNNING),
    "worker_tasks": "8",
    "export_connections": "2",
    "shutdown_grace": "1",
    "log_format": "json",
    "credential_rate": "",
    "address_rate": "",
}


class Hosts(Longshore):
    """The service on its network. `url` and `sql` reach the database past the network."""

    def __init__(self, data: Path, network: Network) -> None:
        super().__init__(data, f"postgresql://postgres@/postgres?host={data / 'postgres'}")
        self.network = network
        self.addresses = {name: network.add(name) for name in HOSTS}
        self.address = f"http://{self.addresses['api']}:{API_PORT}"
        self.store_address = f"http://{self.addresses['store']}:{STORE_PORT}"
        self.database_url = f"postgresql://postgres@{self.addresses['database']}:5432/postgres"
        self.cloud = {
            "AWS_ACCESS_KEY_ID": "AKIDAKIDAKID",
            "AWS_SECRET_ACCESS_KEY": "a secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.store_address,
        }

    def log_of(self, name: str) -> Path:
        """Return the output of a host's program."""
        return self.data / f"{name}.log"

    def start_database(self) -> None:
        """Start PostgreSQL on the cluster in the data folder, as the user whom it belongs to."""
        cluster = self.data / "postgres"
        with (cluster / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NET}.0/24 trust\n")
        owner = cluster.stat()
        options = {
            "listen_addresses": self.addresses["database"],
            "unix_socket_directories": cluster,
            "max_connections": 200,
        }
        self._run(
            "database",
            *("setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"),
            *(str(programs() / "postgres"), "-D", str(cluster)),
            *(f"--{name}={value}" for name, value in options.items()),
        )
        until(self._is_up, "the database")

    def start_store(self) -> None:
        """Start the S3 server, with an empty bucket."""
        program = [sys.executable, "-m", "moto.server", "-H", self.addresses["store"], "-p", str(STORE_PORT)]
        self._run("store", *program, MOTO_S3_DEFAULT_KEY_BUFFER_SIZE="1000000")  # larger objects go to the disk

        until(lambda: listens(self.addresses["store"], STORE_PORT), "the store")
        self.bucket().create_bucket(Bucket=BUCKET)

    def start_on(self, name: str, command: str) -> None:
        """Start `longshore api` or `longshore worker` on a host, with a data folder of its own."""
        address = {"host": self.addresses[name], "port": str(API_PORT), "data": str(self.data / name)}
        database = {"database_url": self.database_url}
        catalog = {"catalog": str(self.data / "catalog.toml")}
        settings = {
            f"LONGSHORE_{key.upper()}": value for key, value in (SETTINGS | address | database | catalog).items()
        }
        self._run(name, sys.executable, "-m", "longshore", command, **settings)

    def bucket(self) -> Any:
        """A client of the store."""
        return boto3.client(
            "s3",
            endpoint_url=self.store_address,
            region_name=self.cloud["AWS_REGION"],
            aws_access_key_id=self.cloud["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.cloud["AWS_SECRET_ACCESS_KEY"],
        )

    def _is_up(self) -> bool:
        with contextlib.suppress(OSError, asyncpg.CannotConnectNowError):
            return bool(self.sql("select 1"))
        return False

    def _run(self, name: str, *command: str, **variables: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "LONGSHORE_"))}
        self.network.start(name, *command, log=self.log_of(name), environment={**kept, **self.cloud, **variables})


def write_long(hosts: Hosts) -> None:
    """Write twice as many rows of the same kind, as an index that is cut into shards."""
    text = LEDGER.replace("faults.ledger", "faults.long").replace(f"(1, {ROWS})", f"(1, {LONG_ROWS})")
    for statement in (text, "analyze faults.long"):
        hosts.sql(statement)
    # Without the filter: the planner's guess of what passes it would leave the export whole.
    lines = [line for line in CATALOG.splitlines() if not line.startswith("filter")]
    catalog = "\n".join(lines).replace("faults.ledger", "faults.long").replace("wallet-ledger", "transactions")
    write_catalog(hosts, CATALOG + catalog.replace('"Wallet"', '"Transaction"') + "\n")


@contextlib.contextmanager
def six_hosts(data: Path) -> Iterator[Hosts]:
    """All of them, started, with the source's data."""
    with Network() as network:
        hosts = Hosts(data, network)
        with database_in(data):
            write_source(hosts)
            write_long(hosts)
        hosts.start_database()
        hosts.start_store()
        for name in WORKERS:
            hosts.start_on(name, "worker")
        hosts.start_on("api", "api")
        until(hosts.answers, "the API", 120)  # four programs start at once
        yield hosts
