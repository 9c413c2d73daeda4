"""A running Longshore for tests: its own folder, PostgreSQL, API and workers, all real and all ended again."""

import asyncio
import atexit
import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import httpx2

from longshore.access import clients
from longshore.access.audit import Actor
from longshore.access.tokens import Level, Scope, insert
from longshore.database.connect import Pool
from longshore.database.embedded import embedded_server
from longshore.database.migrate import connected_if_current, migrate
from longshore.demo.seed import seed
from longshore.exports.manifest import SIGNATURE, SUFFIX
from longshore.settings import Settings
from longshore.tasks.model import ChainId
from longshore.vault import Vault, open_vault
from longshore.webhooks import stored as stored_webhooks
from longshore.webhooks.stored import WebhookDraft

READY_TIMEOUT = 60.0  # seconds
CHAIN = 1764

T = TypeVar("T")

_ports = itertools.count(os.getpid() * 997)


def in_own_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it to its end, in a thread of its own: tests with a browser have a loop running in theirs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def free_port() -> int:
    """Return a port without a listener, below those that the kernel hands out.

    Processes of tests begin to look in different places.
    """
    for number in _ports:
        port = 20_000 + number % 10_000
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is always another number")


def listens(host: str, port: int) -> bool:
    """Whether a process takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


class Longshore:
    """One service. `url` is its database, `address` its API."""

    def __init__(self, data: Path, url: str, **settings: str) -> None:
        self.data = data
        self.url = url
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.log_file = data / "service.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.inside: tuple[str, ...] = ()
        """A command that runs the processes which are started from now on, such as `nsenter`."""
        self._settings = settings

    def start(self, name: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start `api` or `worker` as a process of its own."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LONGSHORE_")}
        environment |= {
            "LONGSHORE_DATA": str(self.data),
            "LONGSHORE_DATABASE_URL": self.url,
            "LONGSHORE_PORT": str(self.port),
            "LONGSHORE_LOG_FORMAT": "json",
            "LONGSHORE_SHUTDOWN_GRACE": "3",
            "LONGSHORE_CREDENTIAL_RATE": "",  # tests ask faster than any client should
            "LONGSHORE_ADDRESS_RATE": "",
        }
        environment |= {f"LONGSHORE_{key.upper()}": value for key, value in {**self._settings, **settings}.items()}
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                [*self.inside, sys.executable, "-m", "longshore", name], env=environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def start_api(self, **settings: str) -> subprocess.Popen[bytes]:
        """Start the API and wait until it answers."""
        process = self.start("api", **settings)
        deadline = time.monotonic() + READY_TIMEOUT
        while time.monotonic() < deadline and process.poll() is None:
            if self.answers():
                return process
            time.sleep(0.05)
        raise AssertionError(f"the API did not start:\n{self.log_file.read_text()[-3000:]}")

    def answers(self) -> bool:
        """Whether the API is ready."""
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{self.address}/readyz").status_code == 200
        return False

    def stop(self) -> None:
        """End every process that was started here."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def token(self, level: Level = Level.ADMIN, chain: int = CHAIN, scope: Scope | None = None) -> str:
        """A new token, `id:secret`."""

        async def make() -> str:
            async with connected_if_current(self.url) as connection:
                client = await clients.get_or_create(connection, Actor("command", "test"), chain, "test")
                id, secret = await insert(connection, client.id, level, scope)
                return f"{id}:{secret}"

        return in_own_loop(make())

    def client(self, level: Level = Level.WRITE, chain: int = CHAIN, scope: Scope | None = None) -> httpx2.Client:
        """An HTTP client with a token of its own."""
        headers = {"Authorization": f"Bearer {self.token(level, chain, scope)}"}
        return httpx2.Client(base_url=self.address, headers=headers, timeout=60)

    @property
    def vault(self) -> Vault:
        """The vault of its processes."""
        return open_vault(Settings(data=self.data, secret=self._settings.get("secret", "")))

    async def webhook(self, pool: Pool, chain: int, url: str) -> UUID:
        """A new webhook of a chain for tasks that are done, at any address."""
        async with pool.acquire() as connection, connection.transaction():
            draft = WebhookDraft(url, ["task.done"], "test")
            return await stored_webhooks.create(connection, self.vault, ChainId(chain), draft)

    def sql(self, statement: str, *args: Any) -> list[Any]:
        """Run one statement in the service's database."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.url)
            try:
                return list(await connection.fetch(statement, *args))
            finally:
                await connection.close()

        return in_own_loop(run())

    def logged(self) -> list[dict[str, Any]]:
        """Return the log entries of the processes, without a line that is not whole yet."""
        lines = self.log_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]

    def files(self) -> list[Path]:
        """Every file in the results folder."""
        walk = os.walk(self.data / "results")  # skips files that vanish meanwhile
        return sorted(Path(folder, name) for folder, _, names in walk for name in names)


@contextlib.contextmanager
def further_api(service: Longshore, name: str, **settings: str) -> Iterator[Longshore]:
    """A further process of a service's API, with settings and an address of its own. `name`: of its log file."""
    longshore = Longshore(service.data, service.url, **settings)
    longshore.log_file = service.data / f"{name}.log"
    try:
        longshore.start_api()
        yield longshore
    finally:
        longshore.stop()


@contextlib.contextmanager
def database_in(data: Path, rows: int = 0) -> Iterator[str]:
    """A PostgreSQL at this version in a folder, with so many rows of demo data."""
    if not (data / "postgres").exists():
        _copy(_stopped(rows), data)
    with embedded_server(data) as url:
        yield url


_stopped_folders: list[Path] = []


@atexit.register
def remove_stopped() -> None:
    """Remove the stopped servers. Processes of pytest-xdist end without what is registered for their end."""
    while _stopped_folders:
        shutil.rmtree(_stopped_folders.pop(), ignore_errors=True)
    _stopped.cache_clear()


@functools.cache
def _stopped(rows: int) -> Path:
    """A folder with a stopped server, whose copies start faster than a new one is made and filled."""
    folder = Path(tempfile.mkdtemp(prefix="longshore-stopped-"))
    _stopped_folders.append(folder)
    if rows:
        _copy(_stopped(0), folder)
    with embedded_server(folder) as url:
        in_own_loop(seed(url, rows, lambda _: None) if rows else migrate(url))
    return folder


def _copy(stopped: Path, data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", stopped / "postgres", data / "postgres"], check=True)


def stored_names(result: str) -> list[str]:
    """The names of the files that belong to a result of one file: itself, its manifest and the signature of that."""
    return [result, result + SUFFIX, result + SUFFIX + SIGNATURE]


def export_body(export_format: str = "csv", chain: int = CHAIN, **trigger: Any) -> dict[str, Any]:
    """The body of a wallet ledger export, due now unless `once` says otherwise."""
    return {
        "chain": chain,
        "desc": "a test",
        "target": {"action": "export", "export_index": "wallet-ledger", "export_format": export_format},
        "trigger": {"once": "2026-05-26T12:00:00Z", **trigger},
    }


def ended(client: httpx2.Client, task: int, timeout: float = 60, every: float = 0.02) -> dict[str, Any]:
    """The task once it is DONE or ERROR, polled as a client does, `every` so many seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = client.get(f"/tasks/{task}", params={"log_limit": 1000})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        if found["state"]["code"] in ("DONE", "ERROR"):
            return found
        assert time.monotonic() < deadline, f"still {found}"
        time.sleep(every)


def exported(client: httpx2.Client, body: dict[str, Any], timeout: float = 60) -> tuple[dict[str, Any], bytes]:
    """Create a task, wait for it to be DONE, and give it with the bytes of its result."""
    created = client.post("/tasks", json=body)
    assert created.status_code == 201, created.text
    task = ended(client, created.json()["id"], timeout)
    assert task["state"]["code"] == "DONE", task
    return task, downloaded(client, task["id"])


def downloaded(client: httpx2.Client, task: int) -> bytes:
    """The result of a DONE export, fetched from its signed address without a token."""
    address = client.get(f"/tasks/{task}/download_url")
    assert address.status_code == 200, address.text
    answer = httpx2.get(address.json()["url"], timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.content
