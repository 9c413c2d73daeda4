"""The end of a process whose parent has ended: a parent stops its children, but not when it is killed."""

import contextlib
import os
import signal
import threading
import time

import structlog

log = structlog.get_logger()

CHECK_SECONDS = 1.0
STOP_TIMEOUT_SECONDS = 15.0  # after the grace time of running tasks


def end_with_parent(parent: int, *signals: signal.Signals, grace_seconds: float = 0.0) -> None:
    """Once the process `parent` is no longer the parent of this one, send this one signals, and SIGKILL where it stays.

    Without this, it would keep the port.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_SECONDS)
        for each in signals:
            os.kill(os.getpid(), each)  # before the log, whose reader may have ended with the parent
        with contextlib.suppress(OSError, ValueError):
            log.error("the parent process is gone, ending")
        time.sleep(grace_seconds + STOP_TIMEOUT_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
