"""Processes whose parent or embedded PostgreSQL is killed recover, and leave no process behind (promise 7)."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import asyncpg
import httpx2
import psutil
import pytest

from longshore.database.embedded import embedded_server, embedded_url
from tests.command import line_with, nothing_left, start
from tests.faults.held import ROWS, Hold, assert_whole, messages, write_source
from tests.service import Longshore, database_in, ended, export_body
from tests.waiting import until

GRACE = "4"  # seconds

Serve: TypeAlias = Callable[[], AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Longshore]:
    """A service with an embedded database that does not run."""
    data = tmp_path / "data"
    with database_in(data) as url:
        write_source(Longshore(data, url))
    yield Longshore(data, embedded_url(data))
    nothing_left(data)


@pytest.fixture
def serve(stopped: Longshore) -> Serve:
    """Start `serve` and wait for its API. All its processes are ended afterwards, by their ids."""

    @contextmanager
    def serving() -> Iterator[subprocess.Popen[str]]:
        data, catalog = str(stopped.data), str(stopped.data / "catalog.toml")
        port = str(stopped.port)
        process = start(
            "serve", folder=stopped.data, data=data, catalog=catalog, port=port, shutdown_grace=GRACE, log_format="json"
        )
        children: list[psutil.Process] = []
        try:
            line_with(process, "Longshore answers at")
            children = descendants(process)
            yield process
            children += descendants(process)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(40)
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    return serving


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a process started, and theirs."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def postmaster(service: Longshore) -> psutil.Process:
    """The main process of the service's PostgreSQL."""
    return psutil.Process(int((service.data / "postgres" / "postmaster.pid").read_text().split()[0]))


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; one without a parent may stay a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_processes_of_a_killed_serve_end_in_order_and_the_next_one_starts_at_once(
    stopped: Longshore, serve: Serve
) -> None:
    with serve() as first, stopped.client() as client:
        server = postmaster(stopped)
        children = [each for each in descendants(first) if each.pid != server.pid and server not in each.parents()]
        assert len(children) >= 3, "the worker, and the API's main process and its own"
        with Hold.row(stopped, ROWS // 2) as hold:
            task = client.post("/tasks", json=export_body()).json()["id"]
            hold.reached()
            first.kill()
            first.wait()
            # A command beside it is not the last user of PostgreSQL while the worker returns its task.
            with embedded_server(stopped.data):
                pass
            assert runs(server)
            with serve() as second:
                until(lambda: not any(runs(each) for each in children), "the processes to end")
                hold.release()
                found = ended(client, task)
                assert "attempt 1 was interrupted: its worker is shutting down" in messages(found)
                assert_whole(stopped, client, found)
                assert second.poll() is None


def test_last_process_of_a_killed_serve_stops_its_database(stopped: Longshore, serve: Serve) -> None:
    with serve() as process:
        assert postmaster(stopped).is_running()
        process.kill()
        process.wait()
        nothing_left(stopped.data)
        assert not (stopped.data / "postgres" / "postmaster.pid").exists(), "it was stopped in order"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT])
def test_embedded_database_that_ends_under_serve_is_started_again(
    stopped: Longshore, serve: Serve, how: signal.Signals
) -> None:
    with serve() as process, stopped.client() as client:
        with Hold.row(stopped, ROWS // 2) as hold:
            task = client.post("/tasks", json=export_body()).json()["id"]
            hold.reached()
            os.kill(postmaster(stopped).pid, how)
        until(lambda: not stopped.answers(), "the database to be gone")
        until(stopped.answers, "the database to be back")
        assert_whole(stopped, client, ended(client, task))
        assert process.poll() is None


@pytest.mark.parametrize("command", ["api", "worker"])
def test_embedded_database_that_ends_under_a_single_process_is_started_again(stopped: Longshore, command: str) -> None:
    data, port, catalog = str(stopped.data), str(stopped.port), str(stopped.data / "catalog.toml")
    process = start(command, folder=stopped.data, data=data, catalog=catalog, port=port, log_format="json")
    try:
        if command == "api":
            until(stopped.answers, "the API to answer")
        else:
            line_with(process, "worker ready")
        first = postmaster(stopped)
        first.send_signal(signal.SIGQUIT)
        until(lambda: has_another_postmaster(stopped, first), "the database to be back")
        if command == "api":
            until(stopped.answers, "the API to answer again")
        assert process.poll() is None
    finally:
        process.terminate()
        try:
            assert process.wait(40) == 0
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def has_another_postmaster(service: Longshore, first: psutil.Process) -> bool:
    """Whether the service's PostgreSQL runs and answers as another process than the first one."""
    with contextlib.suppress(OSError, IndexError, psutil.NoSuchProcess, asyncpg.PostgresError):
        return postmaster(service).pid != first.pid and service.sql("select 1")[0][0] == 1
    return False


def test_embedded_database_that_cannot_start_again_is_tried_until_it_can(stopped: Longshore, serve: Serve) -> None:
    settings = stopped.data / "postgres" / "postgresql.conf"
    text = settings.read_text()
    with serve() as process, stopped.client() as client:
        task = client.post("/tasks", json=export_body()).json()["id"]
        assert_whole(stopped, client, ended(client, task))
        settings.write_text(text + "shared_buffers = many\n")
        os.kill(postmaster(stopped).pid, signal.SIGQUIT)
        for _ in range(2):
            assert "contains errors" in line_with(process, "the database does not start")
            assert httpx2.get(f"{stopped.address}/healthz").status_code == 200
            assert not stopped.answers()
        settings.write_text(text)
        until(stopped.answers, "the database to be back")
        assert client.get(f"/tasks/{task}").json()["state"]["code"] == "DONE"
        assert process.poll() is None
