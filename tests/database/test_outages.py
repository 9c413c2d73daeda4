"""A database that is there and says "not now": read-only, out of connections, a standby that cancels (promise 7)."""

import asyncio
import contextlib
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import httpx2
import psutil
import psycopg
import pytest

from longshore.database.migrate import migrate
from longshore.database.retry import DATABASE_ERRORS, is_transient
from longshore.demo.seed import seed
from longshore.exports.catalog import Field, FieldType
from longshore.exports.run_errors import describe_error
from tests.debian_postgres import DebianPostgres, debian_postgres, standby_of
from tests.exports.engine import export, index_over
from tests.service import Longshore, ended, export_body, free_port, in_own_loop
from tests.waiting import until

END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'longshore'"


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    """A server of few connections, whose role `longshore` owns a database with the demo's data."""
    with debian_postgres(settings={"max_connections": "60"}) as server:
        server.sql("create role longshore login")
        server.sql("create database longshore owner longshore")
        url = server.url("longshore", "longshore")
        in_own_loop(migrate(url))
        in_own_loop(seed(url, 2000, lambda _: None))
        yield server


@pytest.fixture
def service(server: DebianPostgres, tmp_path: Path) -> Iterator[Longshore]:
    longshore = Longshore(tmp_path, server.url("longshore", "longshore"))
    yield longshore
    longshore.stop()


def ready(service: Longshore) -> int:
    return httpx2.get(f"{service.address}/readyz").status_code


def test_read_only_phase_of_the_database_delays_and_fails_nothing(server: DebianPostgres, service: Longshore) -> None:
    worker = service.start("worker")
    service.start_api()
    with service.client() as client:
        server.sql("alter database longshore set default_transaction_read_only = on")
        try:
            server.sql(END_SESSIONS)
            until(lambda: ready(service) == 503, "the API not to be ready")
            refused = client.post("/tasks", json=export_body())
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
            assert int(refused.headers["retry-after"]) >= 1
            service_starts_meanwhile = service.start("worker")
            until(lambda: sum(entry["event"] == "worker ready" for entry in service.logged()) == 2, "the workers", 60)
        finally:
            server.sql("alter database longshore reset default_transaction_read_only")
        until(lambda: ready(service) == 200, "the API to be ready", 60)
        time.sleep(1.1)  # the longest that a session from before is kept
        answers = [client.post("/tasks", json=export_body()) for _ in range(20)]
        assert {answer.status_code for answer in answers[1:]} == {201}
        assert ended(client, answers[-1].json()["id"])["state"]["code"] == "DONE"
    assert worker.poll() is None
    assert service_starts_meanwhile.poll() is None
    assert not [entry for entry in service.logged() if entry["level"] in ("error", "critical")]


@contextlib.contextmanager
def role_without_connections(server: DebianPostgres) -> Iterator[None]:
    server.sql("alter role longshore connection limit 0")
    try:
        yield
    finally:
        server.sql("alter role longshore connection limit -1")


@contextlib.contextmanager
def server_without_connections(server: DebianPostgres) -> Iterator[None]:
    """Other clients hold all connections of the server but those that are kept for superusers."""

    server.sql("drop role if exists others; create role others login")
    taken = []
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(server.url("others")))
    assert len(taken) > 40
    try:
        yield
    finally:
        for connection in taken:
            connection.close()


@pytest.mark.parametrize(
    ("without_connections", "message"),
    [
        (role_without_connections, "too many connections for role"),
        (server_without_connections, "remaining connection slots are reserved"),
    ],
)
def test_database_without_free_connections_is_logged_once_and_waited_for(
    server: DebianPostgres,
    service: Longshore,
    without_connections: Callable[[DebianPostgres], contextlib.AbstractContextManager[None]],
    message: str,
) -> None:
    def waits() -> list[str]:
        return [entry["reason"] for entry in service.logged() if entry["event"] == "waiting for the database"]

    with without_connections(server):
        processes = [service.start("worker"), service.start("api", api_processes="2")]
        until(lambda: len(waits()) == 2, "both to wait", 60)
        began = [psutil.Process(process.pid).cpu_times() for process in processes]
        time.sleep(3)
        used = [psutil.Process(process.pid).cpu_times() for process in processes]
        assert sum(after.user - before.user for before, after in zip(began, used, strict=True)) < 1.5
        assert len(waits()) == 2
        assert all(message in reason for reason in waits())
        assert all(process.poll() is None for process in processes)
    until(service.answers, "the API to answer", 60)
    with service.client() as client:
        created = client.post("/tasks", json=export_body())
        assert ended(client, created.json()["id"])["state"]["code"] == "DONE"


def test_api_processes_that_find_no_connection_wait_while_the_others_answer(
    server: DebianPostgres, service: Longshore
) -> None:
    # One for each listener, and then too few for the pools of all.
    server.sql("alter role longshore connection limit 4")
    try:
        process = service.start("api", api_processes="4")
        until(service.answers, "the API to answer", 60)
        children = {child.pid for child in psutil.Process(process.pid).children()}
        time.sleep(3)
        assert {child.pid for child in psutil.Process(process.pid).children()} == children
        assert process.poll() is None
    finally:
        server.sql("alter role longshore connection limit -1")


class _Refusal(socketserver.BaseRequestHandler):
    """The answer of a server that refuses every user."""

    def handle(self) -> None:
        self.request.recv(1000)
        fields = b"SFATAL\0VFATAL\0C28P01\0Mno such user\0\0"
        self.request.sendall(b"E" + (len(fields) + 4).to_bytes(4) + fields)


def test_worker_starts_while_its_source_is_unavailable_and_checks_it_once_it_answers(
    new_service: Callable[..., Longshore],
) -> None:
    port = free_port()
    service = new_service(source_url=f"postgresql://anyone@127.0.0.1:{port}/shop?sslmode=disable", catalog="")

    def events() -> list[str]:
        return [entry["event"] for entry in service.logged()]

    worker = service.start("worker")
    until(lambda: "worker ready" in events() or worker.poll() is not None, "the worker to be ready", 60)
    assert worker.poll() is None, service.log_file.read_text()
    assert "source is unavailable, exports fail until it answers" in events()
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), _Refusal) as source:
        threading.Thread(target=source.serve_forever, args=(0.05,)).start()
        try:
            assert worker.wait(30) == 1
        finally:
            source.shutdown()
    assert "the source (LONGSHORE_SOURCE_URL) refuses the worker: no such user" in service.log_file.read_text()


def test_connection_that_the_server_ends_in_the_middle_of_an_exchange_is_a_transient_error() -> None:
    error = asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
    assert is_transient(error)
    assert isinstance(error, DATABASE_ERRORS)


def test_recovery_conflict_is_a_transient_error(server: DebianPostgres) -> None:
    server.sql("create table public.slow as select n as id, 1764 as chain_id, now() as at from generate_series(1, 9) n")
    slow = Field(FieldType.TEXT, "", sql="pg_catalog.pg_sleep(0.5)::text")
    index = index_over("public.slow", id=FieldType.NUMBER, slow=slow)
    with standby_of(server) as standby:
        standby.stop()
        standby.start(max_standby_streaming_delay="0")
        until(lambda: standby.sql("select to_regclass('public.slow') is not null")[0][0], "the standby")

        async def cancelled() -> BaseException:
            exporting = asyncio.create_task(export(standby.url(), index, "csv"))
            watcher = await asyncpg.connect(standby.url())
            running = "select exists (select from pg_stat_activity where wait_event = 'PgSleep')"
            while not await watcher.fetchval(running):  # noqa: ASYNC110  # another process is looked at
                await asyncio.sleep(0.02)
            await watcher.close()
            await asyncio.to_thread(server.sql, "truncate public.slow")
            (error,) = await asyncio.gather(exporting, return_exceptions=True)
            assert isinstance(error, Exception)
            return error

        error = asyncio.run(cancelled())
    assert isinstance(error, Exception)
    assert is_transient(error)
    assert "recovery conflict" in describe_error(error)
