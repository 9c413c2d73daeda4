"""Processes: the database that is configured or the embedded one, and API and worker as children of one parent."""

import asyncio
import contextlib
import errno
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from longshore.database.embedded import embedded_server, has_database
from longshore.database.migrate import migrate_at
from longshore.errors import LongshoreError
from longshore.settings import Settings
from longshore.tasks.waiters import LET_GO

log = structlog.get_logger()

START_TIMEOUT = 60.0  # seconds
SOON_SECONDS = 10.0
MAX_PAUSE_SECONDS = 30.0
PORT_TIMEOUT = 10.0  # seconds that the processes of an API that was killed may keep its port, see api.service
HEADER_TIMEOUT = 10_000  # milliseconds that a client may take for a request's headers
# Bytes of headers; more is answered with 431. It is also what is read of a body that is refused unread: with less than
# such a body the client finds its connection reset, and not the answer.
LARGEST_HEADERS = 256 * 1024
MOST_CONNECTIONS = 10_000  # of an API process; those that wait are counted too
STOP_TIMEOUT = 15.0  # seconds, beyond the grace that running tasks have


class ServeError(LongshoreError):
    """The service does not start; the message says why."""


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The address of the service's database; the embedded one runs, at this version, for as long as this is held."""
    with database_as_it_is(settings) as url:
        if not settings.database_url:
            asyncio.run(migrate_at(url))  # nobody else looks after it
        yield url


@contextlib.contextmanager
def database_as_it_is(settings: Settings) -> Iterator[str]:
    """As `database`, and at whatever version it is.

    A new embedded database is reported on standard error, as a command in another folder makes one.
    """
    if settings.database_url:
        yield settings.database_url
        return
    is_new = not has_database(settings.data)
    with embedded_server(settings.data) as url:
        if is_new:
            print(f"made a new database in {settings.data.resolve()}", file=sys.stderr, flush=True)
        yield url


class Children:
    """API and worker as child processes, started again when they die."""

    def __init__(self, settings: Settings, url: str, log_file: Path | None = None) -> None:
        self._settings = settings
        self._environment = {
            **os.environ,
            "LONGSHORE_DATABASE_URL": url,
            "LONGSHORE_PORT": str(settings.port),
            "LONGSHORE_DATA": str(settings.data.resolve()),
            "LONGSHORE_SHUTDOWN_GRACE": str(settings.shutdown_grace),
        }
        self._log_file = log_file
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> "Children":
        for name in ("worker", "api"):
            self._start(name)
        return self

    def __exit__(self, *_: object) -> None:
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                self._stop()
                break
            except KeyboardInterrupt as error:  # whoever cannot wait has to, or a child would be left behind
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def _stop(self) -> None:
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
        deadline = time.monotonic() + self._settings.shutdown_grace + STOP_TIMEOUT
        for name, child in self._children.items():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("killed, as it did not stop", process=name)
                child.kill()
                child.wait()

    def _start(self, name: str) -> None:
        output = self._log_file.open("ab") if self._log_file else contextlib.nullcontext()
        self._started[name] = time.monotonic()
        with output as file:
            # In a group of its own, a child hears of Ctrl-C from us alone; a SIGINT and a SIGTERM at once have kept the
            # API from stopping.
            self._children[name] = subprocess.Popen(  # noqa: S603  # ourselves
                [sys.executable, "-m", "longshore", name],
                env=self._environment,
                stdout=file,
                stderr=file,
                process_group=0,
            )

    def wait_until_ready(self) -> str:
        """Wait until the API answers that it is ready, and return its address.

        While both live they may wait for the database, and say so in their log. Raises ServeError when one ends.
        """
        address = browsable(self._settings.host, self._settings.port)
        said = time.monotonic()
        while True:
            for name, child in self._children.items():
                if child.poll() is not None:
                    raise ServeError(f"the {name} process ended at once" + self._where())
            try:
                with urllib.request.urlopen(f"{address}/readyz", timeout=2):  # noqa: S310  # our own http address
                    return address
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
            if time.monotonic() - said > START_TIMEOUT:
                said = time.monotonic()
                log.warning("the API is not ready yet", address=address)

    def watch(self) -> None:
        """Restart processes that die, until interrupted; one that dies soon after its start, after growing pauses."""
        pauses = dict.fromkeys(self._children, 0.0)
        due = dict.fromkeys(self._children, 0.0)
        while True:
            now = time.monotonic()
            for name, child in tuple(self._children.items()):
                if child.poll() is None:
                    continue
                if not due[name]:
                    quickly = now - self._started[name] < SOON_SECONDS
                    pauses[name] = min(MAX_PAUSE_SECONDS, max(1.0, pauses[name] * 2)) if quickly else 0.0
                    due[name] = now + pauses[name]
                    log.error(
                        "process died, starting it again", process=name, code=child.returncode, again_in=pauses[name]
                    )
                if now >= due[name]:
                    due[name] = 0.0
                    self._start(name)
            time.sleep(1)

    def _where(self) -> str:
        return f"; {self._log_file} says why" if self._log_file else ""


def browsable(host: str, port: int) -> str:
    """The address that a program on this machine reaches the API at."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def refuse_taken_port(host: str, port: int, patience: float = 0.0) -> None:
    """Raise ServeError when something else listens there already, or the host is none of this machine's.

    `patience`: seconds in which what listens may still end.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                why = f"cannot listen on {host}:{port}: {error.strerror}; set LONGSHORE_PORT to another"
                raise ServeError(why) from None
        time.sleep(0.1)


class TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP has arrived; its number is the argument."""


def interrupt_on_sigterm() -> None:
    """Raise TerminatedError on SIGTERM and SIGHUP, so that a command cleans up as after Ctrl-C.

    None of them is lost: Python drops what is raised while it runs a destructor, so it is then sent once more.
    """

    def interrupt(number: int, _frame: object) -> None:
        raise TerminatedError(number)

    def again(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            value = unraisable.exc_value
            number = value.args[0] if isinstance(value, TerminatedError) else signal.SIGINT
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = again
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` wants it
            signal.signal(number, interrupt)


def run_api(settings: Settings, url: str) -> None:
    """Answer HTTP requests until SIGTERM or SIGINT."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.http import HTTP1Settings

    os.environ["LONGSHORE_DATABASE_URL"] = url
    # Each waiter is a connection; a process usually may open 1,024 files, and more if it asks.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = Granian(
        "longshore.web:create",
        factory=True,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=settings.api_processes,
        loop=Loops.uvloop,
        http=HTTPModes.http1,  # HTTP/2 has no time limit for headers here; a proxy speaks it to clients
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT, max_buffer_size=LARGEST_HEADERS),
        websockets=False,
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=10,
        backlog=MOST_CONNECTIONS,
        backpressure=MOST_CONNECTIONS,
    )
    server.on_startup(_let_waiters_go)
    server.serve()


def _let_waiters_go() -> None:
    """On the way out, tell the API's processes first to end long polls and event streams.

    Granian lets open answers end before it ends the application, so an event stream would hold it until it is killed.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        granians = signal.getsignal(number)

        def stop(number: int, frame: Any, then: Any = granians) -> None:
            for process in multiprocessing.active_children():
                if process.pid:
                    os.kill(process.pid, LET_GO)
            then(number, frame)

        signal.signal(number, stop)
