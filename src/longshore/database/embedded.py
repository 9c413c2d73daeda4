"""The embedded PostgreSQL server: started in the data folder if no server is configured, stopped by its last user.

Several processes may share it (`serve`, and a command beside it). Each holds a shared lock on a file while it needs the
server; the kernel releases the lock of a killed process, so the count is always right. The process that can make its
lock exclusive is the last, and stops the server.

Processes of another container or machine do not see the server by its process id, and would start a second one on the
same files. The lock file names the container that uses the server, and all others are refused.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import structlog

from longshore.database.connection_uri import socket_uri
from longshore.database.embedded_server import PORT, EmbeddedServer
from longshore.database.server_user import ServerUser, server_user
from longshore.errors import LongshoreError
from longshore.restart import Restart

log = structlog.get_logger()

MAX_CONTAINER_BYTES = 200  # of what identifies a container in the lock file
CHECK_SECONDS = 1.0  # between two checks whether the server has ended


@contextlib.contextmanager
def embedded_server(data: Path) -> Iterator[str]:
    """The embedded server of a data folder, as its connection URI; it runs while the context is open.

    `data`: the data folder; created if it does not exist. Raises LongshoreError.
    """
    data = data.resolve()
    with contextlib.ExitStack() as stack:
        try:
            data.mkdir(parents=True, exist_ok=True)
            user = server_user(data)
            users, turn = (
                stack.enter_context(_lock_file(data / f"postgres.{name}", user)) for name in ("users", "turn")
            )
        except OSError as error:
            raise _folder_error(data, error) from None
        server = EmbeddedServer(data / "postgres", user)
        with _exclusive(turn):
            _join(users, data)
            url = server.start()
        try:
            yield url
        finally:
            with _exclusive(turn), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Where the data folder was moved or deleted, and made again, its server is of other processes.
                if _is_at(users, data / "postgres.users"):
                    server.stop()


def has_database(data: Path) -> bool:
    """Return whether a data folder holds the database of an embedded server. Raises LongshoreError."""
    try:
        (data / "postgres" / "PG_VERSION").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # the folder may not be searched
        raise _folder_error(data, error) from None
    return True


def embedded_url(data: Path) -> str:
    """Return the connection URI of a data folder's server, running or not. Raises LongshoreError if there is none."""
    data = data.resolve()
    if not has_database(data):
        raise LongshoreError(
            f"there is no database in the data folder {data}; run this command in the folder that `longshore serve`"
            " was started in, or set LONGSHORE_DATA to the service's data folder"
        )
    server = EmbeddedServer(data / "postgres", server_user(data))
    return socket_uri(str(server.socket_folder()), PORT)


def is_running(data: Path) -> bool:
    """Return whether the server of a data folder runs."""
    return EmbeddedServer(data.resolve() / "postgres", server_user(data)).pid() is not None


@contextlib.contextmanager
def restarted_if_ended(data: Path) -> Iterator[None]:
    """While the context is open, start the server of a data folder again when it has ended. Only in `embedded_server`.

    Failures are logged, and followed by another try.
    """
    data, closed = data.resolve(), threading.Event()
    thread = threading.Thread(target=_restart, args=(data, closed), name="restart the database", daemon=True)
    thread.start()
    try:
        yield
    finally:
        closed.set()


def _restart(data: Path, closed: threading.Event) -> None:
    user, restart = server_user(data), Restart("database")
    server = EmbeddedServer(data / "postgres", user)
    while not closed.wait(CHECK_SECONDS):
        try:
            if server.pid() is not None:
                continue
            restart.exited()
            while not restart.is_due():
                if closed.wait(CHECK_SECONDS):
                    return
            restart.started()
            if not has_database(data):  # `start` would create an empty one
                raise LongshoreError(f"there is no database in the data folder {data} any more")
            with _lock_file(data / "postgres.turn", user) as turn, _exclusive(turn):
                if not closed.is_set():
                    server.start()
        except (LongshoreError, OSError) as error:
            log.error("the database does not start", error=str(error))


def _join(users: int, data: Path) -> None:
    """Take the shared lock of the server's users. Raises LongshoreError while those of another container have it."""
    container = _container()
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if (other := os.pread(users, MAX_CONTAINER_BYTES, 0)) and other != container:
            raise LongshoreError(
                f"the data folder {data} is in use in another container or on another machine; give each its own, or"
                " set LONGSHORE_DATABASE_URL to a database for all of them"
            ) from None
    else:
        with contextlib.suppress(OSError):  # on a full disk there is no name, which counts as this container's
            os.ftruncate(users, 0)
            os.pwrite(users, container, 0)
    fcntl.flock(users, fcntl.LOCK_SH)


def _container() -> bytes:
    """Return what identifies the processes that see each other's ids: this start of the machine and a namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}".encode()
    except OSError:  # not on Linux
        return b""


@contextlib.contextmanager
def _lock_file(path: Path, user: ServerUser) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        user.give(path)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _exclusive(lock: int) -> Iterator[None]:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def _folder_error(data: Path, error: OSError) -> LongshoreError:
    return LongshoreError(f"the data folder {data} cannot be used: {error.strerror}")
