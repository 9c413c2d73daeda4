"""One service for all tests that break nothing, others of some special kind, and new ones."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import httpx2
import pytest
import structlog
from hypothesis import HealthCheck, settings

from longshore.access.tokens import Level
from tests import odd_values_table
from tests.service import Longshore, database_in, further_api, in_own_loop, remove_stopped

# A shell that starts a command in the background has SIGINT ignored there, `nohup` SIGHUP, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# No test asks a machine for its role in the cloud: that address is not on loopback.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

# Tracebacks with local variables, as structlog draws them by default, hold the event loop of a test for seconds.
structlog.configure(
    [structlog.stdlib.add_log_level, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
)

# Services of tests have kinds of destinations that send nothing, which are modules of `tests`: `memory`, `folder`.
INSTALLED = Path(__file__).parent / "installed"
PACKAGES = [str(INSTALLED), str(INSTALLED.parent.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join([*PACKAGES, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
sys.path.insert(0, str(INSTALLED))

ROWS = 20_000  # of chain 1764; the chains 1765 and 9 have 2,000 each
SMALL_CHAIN = 1765
# How long an example takes says nothing on a machine that others use too.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

# Servers of this machine answer at once, unless the machine is busy: five seconds are no limit then.
httpx2._config.DEFAULT_TIMEOUT_CONFIG.__dict__.update(dict.fromkeys(("connect", "read", "write", "pool"), 60.0))

ALLOWED = "https://app.example.com"  # the origin whose pages may read what `proxied_service` answers


@pytest.fixture(scope="session", autouse=True)
def no_server_left() -> Iterator[None]:
    """Removes the stopped servers that databases were copied from."""
    yield
    remove_stopped()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """A service with the demo's data. Tests must not stop it."""
    data = tmp_path_factory.mktemp("service")
    with database_in(data, ROWS) as url:
        longshore = Longshore(data, url, outbound_allow="127.0.0.1", chain_result_days="9=2")
        try:
            longshore.start("worker")
            longshore.start_api()
            yield longshore
        finally:
            longshore.stop()


@pytest.fixture(scope="session")
def client(service: Longshore) -> Iterator[httpx2.Client]:
    """A client of the shared service, for chain 1764."""
    with service.client() as opened:
        yield opened


@pytest.fixture(scope="session")
def small_client(service: Longshore) -> Iterator[httpx2.Client]:
    """A client of the shared service, for chain 1765, whose exports are a tenth as large."""
    with service.client(chain=SMALL_CHAIN) as opened:
        yield opened


@pytest.fixture(scope="session")
def idle_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """A service without a worker: a task stays in whatever state a test puts it."""
    data = tmp_path_factory.mktemp("idle")
    with database_in(data) as url:
        longshore = Longshore(data, url)
        try:
            longshore.start_api()
            yield longshore
        finally:
            longshore.stop()


@pytest.fixture(scope="session")
def idle_client(idle_service: Longshore) -> Iterator[httpx2.Client]:
    """A client of the service without a worker, for chain 1764, that may do everything."""
    with idle_service.client(Level.ADMIN) as opened:
        yield opened


@pytest.fixture(scope="session")
def proxied_service(idle_service: Longshore) -> Iterator[Longshore]:
    """The service without a worker once more: two processes behind a proxy, open to one origin, with low limits."""
    with further_api(
        idle_service,
        "perimeter",
        api_processes="2",
        trusted_proxies="10.0.0.0/8, 127.0.0.1",
        cors_origins=ALLOWED,
        credential_rate="10/hour",
        address_rate="40/hour",
    ) as longshore:
        yield longshore


@pytest.fixture(scope="session")
def odd_values_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """A service that exports a table of nasty values, and a relation that is missing."""
    data = tmp_path_factory.mktemp("own")

    async def fill(url: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(odd_values_table.SCHEMA)
        await connection.executemany(odd_values_table.INSERT, odd_values_table.rows())
        await connection.close()

    with database_in(data) as url:
        in_own_loop(fill(url))
        longshore = Longshore(data, url, catalog=str(odd_values_table.write_catalog(data)))
        try:
            longshore.start("worker")
            longshore.start_api()
            yield longshore
        finally:
            longshore.stop()


@pytest.fixture(scope="session")
def odd_values_client(odd_values_service: Longshore) -> Iterator[httpx2.Client]:
    """A client of the service with the nasty values."""
    with odd_values_service.client() as opened:
        yield opened


@pytest.fixture
def new_service(tmp_path: Path) -> Iterator[Callable[..., Longshore]]:
    """Makes services of a test's own, with no process started yet; `rows` of demo data, settings by name."""
    with ExitStack() as stack:

        def make(rows: int = 0, **settings: str) -> Longshore:
            data = tmp_path / "service"
            url = stack.enter_context(database_in(data, rows))
            longshore = Longshore(data, url, **settings)
            stack.callback(longshore.stop)
            return longshore

        yield make


# `make test-fast` leaves out the tests that start a service, a server, a browser or a network, or install packages.
STARTING_FIXTURES = {
    "service", "idle_service", "proxied_service", "odd_values_service", "new_service", "extended_service",
    "service_without_filter", "shop_service", "log_of", "debian", "pair", "store", "url", "source",
    "shop", "changes_service", "world", "rclone_server", "moto_server", "gcs_server", "ssh_server",
    "warehouse", "warehouse_server", "warehouse_18", "on_disk", "on_s3", "python_client",
}  # fmt: skip
STARTING_PLACES = {
    "azure", "console", "database", "demo",
    "destinations/test_sftp.py", "destinations/test_sftp_logins.py", "faults", "exports/test_source_limits.py",
    "exports/test_shards.py", "packages",
    "results/test_bucket.py", "test_actions.py", "test_cli.py", "test_traces_of_faults.py", "test_tracing.py",
    "webhooks/test_refused_addresses.py",
}  # fmt: skip

# `make test` leaves these to `make test-long`: browsers, other programs, many rows, kills, races, and what waits.
LONG_PLACES = {
    "console", "demo", "generators", "faults",
    "access/test_hidden_values.py", "access/test_matrix.py", "access/test_open_requests.py", "access/test_secrets.py",
    "access/test_sign_in.py", "access/test_sign_in_load.py", "access/test_timing.py",
    "api/test_event_loop.py", "api/test_preview.py", "api/test_schema.py",
    "client/test_command_ends.py", "client/test_documentation.py", "client/test_failures.py",
    "database/test_debian_postgres.py", "database/test_embedded.py", "database/test_migrate.py",
    "database/test_outages.py", "database/test_servers.py",
    "destinations/test_deliveries.py", "destinations/test_delivered_files.py", "destinations/test_postgresql_load.py",
    "destinations/test_postgresql_faults.py", "destinations/test_sftp.py", "destinations/test_sftp_logins.py",
    "exports/test_acknowledgements.py", "exports/test_changes_killed.py", "exports/test_changes_model.py",
    "exports/test_crash.py", "exports/test_files.py", "exports/test_formats.py", "exports/test_increments.py",
    "exports/test_partitions.py", "exports/test_replaced_tables.py", "exports/test_segment_property.py",
    "exports/test_shards.py", "exports/test_source_limits.py", "exports/test_standby.py",
    "exports/test_third_party_readers.py", "exports/test_verify.py", "exports/test_wraparound.py",
    "results/test_bucket.py", "results/test_bucket_files.py", "results/test_pieces.py",
    "sharing/test_documentation.py", "sharing/test_lists.py", "sharing/test_many_readers.py",
    "sharing/test_many_workers.py", "sharing/test_python_client.py",
    "tasks/test_backfill_races.py", "tasks/test_backfills.py", "tasks/test_isolation.py", "tasks/test_model.py",
    "test_alerts.py", "test_backup.py", "test_cli.py", "test_deploy.py", "test_neighbour.py", "test_smoke.py",
    "test_traces_of_faults.py", "test_tracing.py",
}  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only tests that start no service, server, browser or network")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the long tests; leave out what starts something, if `--fast` asks for that."""
    for item in items:
        if _is_in(item, LONG_PLACES):
            item.add_marker("long")
    if config.getoption("--fast"):
        config.hook.pytest_deselected(items=[item for item in items if _starts(item)])
        items[:] = [item for item in items if not _starts(item)]


def _starts(item: pytest.Item) -> bool:
    return _is_in(item, STARTING_PLACES) or bool(STARTING_FIXTURES & set(getattr(item, "fixturenames", ())))


def _is_in(item: pytest.Item, places: set[str]) -> bool:
    place = item.path.relative_to(Path(__file__).parent)
    return bool({place.as_posix(), place.parts[0]} & places)
