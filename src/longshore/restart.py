"""Restarts of processes that exit."""

import time

import structlog

log = structlog.get_logger()

EARLY_EXIT_SECONDS = 10.0  # after its start; a pause follows
MAX_PAUSE_SECONDS = 30.0


class Restart:
    """When a process that has exited is started again: after growing pauses if it exits soon after its start."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._pause = 0.0
        self.started()

    def started(self) -> None:
        """Record that the process was started, or that this was tried."""
        self._started = time.monotonic()
        self._due: float | None = None

    def is_due(self, code: int | None = None) -> bool:
        """Return whether the process, which has exited, is to be started now. Its exit is logged once."""
        now = time.monotonic()
        if self._due is None:
            quickly = now - self._started < EARLY_EXIT_SECONDS
            self._pause = min(MAX_PAUSE_SECONDS, max(1.0, self._pause * 2)) if quickly else 0.0
            self._due = now + self._pause
            log.error("process exited, restarting it", process=self._process, code=code, again_in=self._pause)
        return now >= self._due
