"""Wait for a task, with a bar on a terminal and with lines in a pipe."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from longshore.cli.exits import INTERRUPTED, CommandError
from longshore.cli.output import note, printable
from longshore.cli.wait_notice import wait_notice

if TYPE_CHECKING:
    from longshore.client import Task
    from longshore.client.model import LogEntry, Progress


def log_line(entry: "LogEntry") -> str:
    """Return a log entry as one line."""
    when = f"{entry.time:%Y-%m-%dT%H:%M:%SZ} " if entry.time else ""
    counts = (
        f" ({entry.success:,} of {entry.total:,} rows)" if entry.total is not None and entry.success is not None else ""
    )
    return f"{when}{printable(entry.msg)}{counts}"


def wait(
    task: "Task", timeout: float | None, profile: str | None, report: "Callable[[LogEntry], None] | None" = None
) -> None:
    """Wait for the end of a task, and call `report` with each log entry.

    Without it, show a bar if standard error is a terminal, else print a line for each entry, and refresh the task.
    """
    label = f"task {task.id}"
    has_bar = report is None and sys.stderr.isatty()
    with _interruptible(task, profile), wait_notice(f"{label}, which is {task.state.code}") as waits_for:

        def on_progress(progress: "Progress") -> None:
            if progress.phase is not None or progress.rows:
                waits_for(label)

        def on_log(entry: "LogEntry") -> None:
            waits_for(label)
            report(entry) if report else note(log_line(entry))

        task.wait(timeout, on_progress if has_bar else None, None if has_bar else on_log, progress=has_bar)
    if report is None:
        task.refresh()  # a wait that reports the log ends with the newest part of it


@contextlib.contextmanager
def _interruptible(task: "Task", profile: str | None) -> Iterator[None]:
    """Say on Ctrl-C that the task runs on, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        of = f"{task.id} --profile {profile}" if profile else task.id
        raise CommandError(
            f"task {task.id} runs on; follow it with `longshore tasks logs -f {of}`, download its result with"
            f" `longshore tasks download {of}`, cancel it with `longshore tasks cancel {of}`",
            INTERRUPTED,
        ) from None
