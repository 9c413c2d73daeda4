"""API and worker as children of one parent: started, restarted and stopped by it, and ended with it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import structlog

from longshore.errors import LongshoreError
from longshore.parent_process import STOP_TIMEOUT_SECONDS, end_with_parent
from longshore.processes import local_url
from longshore.restart import Restart
from longshore.settings import Settings

log = structlog.get_logger()

START_WARNING_SECONDS = 60.0
PARENT_VARIABLE = "_LONGSHORE_PARENT"  # not a setting: the process id of the parent of a child


def end_with_serve(grace_seconds: float) -> None:
    """In a child process of `Children`, end as on SIGTERM once the parent has ended; elsewhere, do nothing."""
    if (parent := os.environ.pop(PARENT_VARIABLE, None)) is not None:
        end_with_parent(int(parent), signal.SIGTERM, grace_seconds=grace_seconds)


class Children:
    """The API and the worker as child processes, which are restarted when they exit.

    Without a configured database, each child uses the embedded one by itself: it starts it again if it ends, and the
    last child to end stops it.
    """

    def __init__(self, settings: Settings, log_file: Path | None = None) -> None:
        self._settings = settings
        self._environment = {
            **os.environ,
            PARENT_VARIABLE: str(os.getpid()),
            "LONGSHORE_DATABASE_URL": settings.database_url,
            "LONGSHORE_SOURCE_URL": settings.source_url,
            "LONGSHORE_CATALOG": settings.catalog,
            "LONGSHORE_PORT": str(settings.port),
            "LONGSHORE_DATA": str(settings.data.resolve()),
            "LONGSHORE_SHUTDOWN_GRACE": str(settings.shutdown_grace),
        }
        self._log_file = log_file
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts = {name: Restart(name) for name in ("worker", "api")}

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
        self._restarts[name].started()
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
        address = local_url(self._settings.host, self._settings.port)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy of the environment
        warned_at = time.monotonic()
        while True:
            for name, child in self._children.items():
                if child.poll() is not None:
                    hint = f"; {self._log_file} says why" if self._log_file else ""
                    raise LongshoreError(f"the {name} process ended at once{hint}")
            try:
                with opener.open(f"{address}/readyz", timeout=2):
                    return address
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
            if time.monotonic() - warned_at > START_WARNING_SECONDS:
                warned_at = time.monotonic()
                log.warning("the API is not ready yet", address=address)

    def watch(self) -> None:
        """Restart processes that exit, until interrupted."""
        while True:
            for name, child in tuple(self._children.items()):
                if child.poll() is not None:
                    self._restarts[name].exited(child.returncode)
                if self._restarts[name].is_due():
                    self._start(name)
            time.sleep(1)
