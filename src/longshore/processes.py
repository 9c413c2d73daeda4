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
from longshore.tasks.waiters import RELEASE_SIGNAL

log = structlog.get_logger()

START_WARNING_SECONDS = 60.0
EARLY_EXIT_SECONDS = 10.0
MAX_RESTART_PAUSE_SECONDS = 30.0
PORT_TIMEOUT_SECONDS = 10.0  # that the processes of an API that was killed may keep its port, see api.service
HEADER_TIMEOUT_MILLISECONDS = 10_000
# Bytes of headers; more is answered with 431. It is also what is read of a body that is refused unread: with less than
# such a body the client finds its connection reset, and not the answer.
MAX_HEADER_BYTES = 256 * 1024
MAX_CONNECTIONS = 10_000  # of an API process; those that wait are counted too
STOP_TIMEOUT_SECONDS = 15.0  # after the grace time of running tasks


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Yield the address of the service's database; the embedded one is migrated, and runs while the context is open."""
    with database_as_it_is(settings) as url:
        if not settings.database_url:
            asyncio.run(migrate_at(url))  # an embedded database is migrated without a command
        yield url


@contextlib.contextmanager
def database_as_it_is(settings: Settings) -> Iterator[str]:
    """Yield the address of the service's database without a migration.

    A new embedded database is reported on standard error, because a command in the wrong folder makes one.
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
    """The API and the worker as child processes, which are restarted when they exit."""

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
        try:
            for name in ("worker", "api"):
                self._start(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                self._stop()
                break
            except KeyboardInterrupt as error:  # a second Ctrl-C must not leave a child behind
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def _stop(self) -> None:
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
        deadline = time.monotonic() + self._settings.shutdown_grace + STOP_TIMEOUT_SECONDS
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
            # In a process group of its own, a child gets no SIGINT of the terminal; SIGINT and SIGTERM at once have
            # kept the API from stopping.
            self._children[name] = subprocess.Popen(  # noqa: S603  # this program
                [sys.executable, "-m", "longshore", name],
                env=self._environment,
                stdout=file,
                stderr=file,
                process_group=0,
            )

    def wait_until_ready(self) -> str:
        """Wait until the API is ready, and return its address.

        Both processes may wait for the database, and log that. Raises LongshoreError when one exits.
        """
        address = browsable(self._settings.host, self._settings.port)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy of the environment
        said = time.monotonic()
        while True:
            for name, child in self._children.items():
                if child.poll() is not None:
                    raise LongshoreError(f"the {name} process ended at once" + self._where())
            try:
                with opener.open(f"{address}/readyz", timeout=2):
                    return address
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
            if time.monotonic() - said > START_WARNING_SECONDS:
                said = time.monotonic()
                log.warning("the API is not ready yet", address=address)

    def watch(self) -> None:
        """Restart processes that exit, until interrupted; after growing pauses if they exit soon after their start."""
        pauses = dict.fromkeys(self._children, 0.0)
        due = dict.fromkeys(self._children, 0.0)
        while True:
            now = time.monotonic()
            for name, child in tuple(self._children.items()):
                if child.poll() is None:
                    continue
                if not due[name]:
                    quickly = now - self._started[name] < EARLY_EXIT_SECONDS
                    pauses[name] = min(MAX_RESTART_PAUSE_SECONDS, max(1.0, pauses[name] * 2)) if quickly else 0.0
                    due[name] = now + pauses[name]
                    log.error(
                        "process exited, restarting it", process=name, code=child.returncode, again_in=pauses[name]
                    )
                if now >= due[name]:
                    due[name] = 0.0
                    self._start(name)
            time.sleep(1)

    def _where(self) -> str:
        return f"; {self._log_file} says why" if self._log_file else ""


def browsable(host: str, port: int) -> str:
    """Return the address of the API for a program on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def refuse_taken_port(host: str, port: int, timeout: float = 0.0) -> None:
    """Raise LongshoreError if the port is in use or the host is not an address of this machine.

    `timeout`: seconds to wait for the port to become free.
    """
    deadline = time.monotonic() + timeout
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
                raise LongshoreError(why) from None
        time.sleep(0.1)


class TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP has arrived; its number is the argument."""


def interrupt_on_sigterm() -> None:
    """Raise TerminatedError on SIGTERM and SIGHUP, so that a command cleans up as after Ctrl-C.

    Python drops an exception that is raised in a destructor, so the signal is then sent once more.
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
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores SIGHUP
            signal.signal(number, interrupt)


def run_api(settings: Settings, url: str) -> None:
    """Answer HTTP requests until SIGTERM or SIGINT."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.http import HTTP1Settings

    os.environ["LONGSHORE_DATABASE_URL"] = url
    # Each waiter is a connection; the usual soft limit of 1,024 files is too low.
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
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MILLISECONDS, max_buffer_size=MAX_HEADER_BYTES),
        websockets=False,
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=10,
        backlog=MAX_CONNECTIONS,
        backpressure=MAX_CONNECTIONS,
    )
    server.on_startup(_release_waiters_on_stop)
    server.serve()


def _release_waiters_on_stop() -> None:
    """On SIGTERM and SIGINT, let the API's processes end long polls and event streams before Granian stops.

    Granian waits for open answers before it ends the application, so an event stream would hold it until it is killed.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        granian_handler = signal.getsignal(number)

        def stop(number: int, frame: Any, then: Any = granian_handler) -> None:
            for process in multiprocessing.active_children():
                if process.pid:
                    os.kill(process.pid, RELEASE_SIGNAL)
            then(number, frame)

        signal.signal(number, stop)
