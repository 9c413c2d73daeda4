"""Processes: the database that is configured or the embedded one, signals, the port, and the API."""

import asyncio
import contextlib
import errno
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from longshore.database.embedded import embedded_server, has_database, restarted_if_ended
from longshore.database.migrate import migrate
from longshore.errors import LongshoreError
from longshore.settings import Settings
from longshore.tasks.waiters import RELEASE_SIGNAL

PORT_TIMEOUT_SECONDS = 10.0  # that the processes of an API that was killed may keep its port, see parent_process
HEADER_TIMEOUT_MILLISECONDS = 10_000
# Bytes of headers; more is answered with 431. It is also what is read of a body that is refused unread: with less than
# such a body the client finds its connection reset, and not the answer.
MAX_HEADER_BYTES = 256 * 1024
MAX_CONNECTIONS = 10_000  # of an API process; those that wait are counted too
MAX_FILES = 65_536  # that an API process may have open, where the system allows them


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Yield the address of the service's database.

    The embedded one is migrated, runs while the context is open, and is started again if it ends meanwhile.
    """
    with unmigrated_database(settings) as url:
        if settings.database_url:
            yield url
            return
        asyncio.run(migrate(url))  # an embedded database is migrated without a command
        with restarted_if_ended(settings.data):
            yield url


@contextlib.contextmanager
def unmigrated_database(settings: Settings) -> Iterator[str]:
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


def local_url(host: str, port: int) -> str:
    """Return the address of the API for a program on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def refuse_taken_port(host: str, port: int, timeout: float = 0.0) -> str:
    """Return the numeric address of a host name to listen on, as the server takes no name.

    `timeout`: seconds to wait for the port to become free. Raises LongshoreError if the port is in use or the host is
    not an address of this machine.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                return str(address[0])
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                is_of_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
                remedy = "LONGSHORE_HOST to an address of this machine" if is_of_host else "LONGSHORE_PORT to another"
                raise LongshoreError(f"cannot listen on {host}:{port}: {error.strerror}; set {remedy}") from None
        time.sleep(0.1)


class TerminatedError(KeyboardInterrupt):
    """SIGTERM or SIGHUP has arrived; its number is the argument."""


def interrupt_on_sigterm() -> None:
    """Raise TerminatedError on SIGTERM and SIGHUP, so that a command cleans up as after Ctrl-C.

    Python drops an exception that is raised in a destructor, so the signal is then sent once more.
    """

    def interrupt(number: int, _frame: object) -> None:
        raise TerminatedError(number)

    def resend_dropped_signal(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            value = unraisable.exc_value
            number = value.args[0] if isinstance(value, TerminatedError) else signal.SIGINT
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = resend_dropped_signal
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` ignores SIGHUP
            signal.signal(number, interrupt)


def run_api(settings: Settings, url: str) -> None:
    """Answer HTTP requests until SIGTERM or SIGINT, at a `host` that is a numeric address."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.http import HTTP1Settings

    os.environ["LONGSHORE_DATABASE_URL"] = url
    raise_file_limit()
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


def raise_file_limit() -> None:
    """Allow more open files, as each waiter is a connection: the usual soft limit of 1,024 is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a kernel may allow less than the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
