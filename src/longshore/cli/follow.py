"""Wait for a task and download its result, with a bar on a terminal and with lines in a pipe."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from longshore.cli import commands as typer
from longshore.cli.remote import printable

if TYPE_CHECKING:
    from longshore.client import Task
    from longshore.client.model import LogEntry

STDOUT = "-"


def refuse_missing_folder(to: str | None) -> None:
    """Raise BadParameter if the folder to write to does not exist."""
    if to is None or to == STDOUT:
        return
    path = Path(to)
    folder = path if to.endswith(("/", os.sep)) or path.is_dir() else path.parent
    if not folder.is_dir():
        reason = "is a file, not a folder" if folder.exists() else "does not exist; make the folder first"
        raise typer.BadParameter(f"{str(folder)!r} {reason}", param_hint="--output")


def print_log_entry(entry: "LogEntry") -> None:
    """Print a log entry on standard error."""
    typer.echo(log_line(entry), err=True)


def log_line(entry: "LogEntry") -> str:
    """Return a log entry as one line."""
    when = f"{entry.time:%Y-%m-%dT%H:%M:%SZ} " if entry.time else ""
    counts = (
        f" ({entry.success:,} of {entry.total:,} rows)" if entry.total is not None and entry.success is not None else ""
    )
    return f"{when}{printable(entry.msg)}{counts}"


def wait(task: "Task", timeout: float | None) -> None:
    """Wait for the end of a task, with a bar if standard error is a terminal, else with a line for each log entry."""
    if not sys.stderr.isatty():
        task.wait(timeout, on_log=print_log_entry)
        return
    from longshore.client.progress_bar import ProgressBar

    with ProgressBar(f"task {task.id}", "rows") as bar:
        task.wait(timeout, on_progress=bar.update_run)


def download(task: "Task", to: str | None, run: int | None = None, *, manifest: bool = False) -> Path | None:
    """Download a result to a path, a folder, or standard output (`-`), which gets the checked file only.

    A result of many files needs a folder. `run`, `manifest`: as in `Task.download`.
    """
    if to != STDOUT:
        if not sys.stderr.isatty():
            return task.download(to or ".", run=run, manifest=manifest)
        from longshore.client.progress_bar import ProgressBar

        with ProgressBar("download", "bytes") as bar:
            return task.download(to or ".", on_bytes=bar.update, run=run, manifest=manifest)
    result = task.result if run is None else task.get_run(run).result or ""
    if result.endswith(".manifest.json"):
        raise typer.BadParameter("a result of many files needs a folder", param_hint="--output")
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        file = task.download(folder, run=run)
        with file.open("rb") as content:
            shutil.copyfileobj(content, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
    return None
