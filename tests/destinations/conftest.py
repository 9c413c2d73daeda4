"""The servers that tests of destinations share."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from longshore.database.retry import Pauses
from longshore.destinations import http_client
from longshore.destinations.postgresql.connect import PostgresqlSecret, PostgresqlSettings
from tests.debian_postgres import DebianPostgres, debian_postgres
from tests.destinations.gcs import TokenService, gcs
from tests.destinations.relay import relay
from tests.destinations.s3_servers import MotoServer, RcloneServer, rclone
from tests.destinations.sshd import Sshd, sshd
from tests.destinations.warehouse import Warehouse
from tests.service import Longshore

PASSWORD = "p@ss w'ord"
_schemas = count(1)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that fail are sent again at once."""
    monkeypatch.setattr(http_client, "DESTINATION", Pauses(0.001, 0.001))


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneServer]:
    with rclone(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    server = MotoServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[tuple[str, TokenService]]:
    with gcs() as found:
        yield found


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture(scope="session")
def warehouse_server() -> Iterator[DebianPostgres]:
    """Yield a PostgreSQL 15 with the database `warehouse` and the role `loader`, which needs its password."""
    with debian_postgres(settings={"lc_messages": "C"}) as server:
        server.sql("create role loader login password 'p@ss w''ord'")
        server.sql("create database warehouse")
        server.sql("create role unencrypted login password 'u'; create role encrypted login password 'e'")
        rules = server.cluster / "pg_hba.conf"
        first = "hostssl all unencrypted all reject\nhostnossl all encrypted all reject\n"
        rules.write_text(first + rules.read_text())
        server.sql("select pg_reload_conf()")
        yield server


@pytest.fixture
def warehouse(warehouse_server: DebianPostgres) -> Iterator[Warehouse]:
    """Yield a new schema, which the role `loader` may create tables in."""
    made = Warehouse(
        warehouse_server.url(database="warehouse"),
        PostgresqlSettings(
            host="localhost",
            port=warehouse_server.port,
            database="warehouse",
            schema=f"Sales {next(_schemas)}",
            username="loader",
            sslrootcert=warehouse_server.authority.read_text(),
        ),
        PostgresqlSecret(PASSWORD),
    )
    schema = made.settings.schema
    made.sql(f'create schema "{schema}"; grant usage, create on schema "{schema}" to loader')
    yield made
    made.sql(f'drop schema "{schema}" cascade')


@pytest.fixture(scope="session")
def warehouse_18(service: Longshore) -> Iterator[Warehouse]:
    """Yield a schema of PostgreSQL 18, whose server has no TLS."""
    address = parse_qs(urlsplit(service.url).query)
    socket = Path(address["host"][0]) / f".s.PGSQL.{address['port'][0]}"
    with relay(socket) as port:
        settings = PostgresqlSettings(
            host="127.0.0.1",
            port=port.port,
            database="postgres",
            schema="delivered",
            username="postgres",
            sslmode="disable",
        )
        made = Warehouse(service.url, settings, PostgresqlSecret(""))
        made.sql("create schema delivered")
        yield made
        made.sql("drop schema delivered cascade")
