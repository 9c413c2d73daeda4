"""Restarts of processes that exit."""

import time

import structlog

log = structlog.get_logger()

EARLY_EXIT_SECONDS = 10.0  # after its start; a pause follows
MAX_PAUSE_SECONDS = 30.0


class Restart:
    """The next start of a process that exits, after pauses that grow while it exits soon after each start."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._pause = 0.0
        self.started()

    def started(self) -> None:
        """Record that the process was started, or that this was tried."""
        self._started = time.monotonic()
        self._due: float | None = None

    def exited(self, code: int | None = None) -> None:
        """Record that the process has exited since its start, and log it the first time."""
        if self._due is not None:
            return
        now = time.monotonic()
        quickly = now - self._started < EARLY_EXIT_SECONDS
        self._pause = min(MAX_PAUSE_SECONDS, max(1.0, self._pause * 2)) if quickly else 0.0
        self._due = now + self._pause
        log.error("process exited, restarting it", process=self._process, code=code, again_in=self._pause)

    def is_due(self) -> bool:
        """Return whether the process has exited and is to be started now."""
        return self._due is not None and time.monotonic() >= self._due
