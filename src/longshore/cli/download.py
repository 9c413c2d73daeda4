"""Download a result to a file, a folder or standard output, with a bar on a terminal."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import click

from longshore.cli.commands import Option
from longshore.cli.exits import CommandError
from longshore.cli.output import printable
from longshore.cli.wait_notice import wait_notice

if TYPE_CHECKING:
    from longshore.client import Task
    from longshore.client.model import Run

STDOUT = "-"

OutputPath: TypeAlias = Annotated[
    str | None, Option("-o", "--output", help="File or folder; - for standard output.", metavar="PATH")
]
Clobber: TypeAlias = Annotated[bool, Option("--clobber", help="Replace a file that exists.")]


def refuse_output(to: str | None, *, clobber: bool, has_many_files: bool = False) -> None:
    """Raise BadParameter if the folder to write to cannot be written to, CommandError for a file that exists.

    `has_many_files`: whether the result needs a folder.
    """
    from longshore.client import DownloadError
    from longshore.client.download_paths import download_path

    if to == STDOUT:
        if has_many_files:
            raise click.BadParameter("a result of many files needs a folder", param_hint="--output")
        return
    try:
        path = download_path(to or ".")
    except DownloadError as error:
        hint = f"; write to it with `-o - > {to}`" if to and os.path.lexists(to) and not Path(to).is_dir() else ""
        raise click.BadParameter(f"{error}{hint}", param_hint="--output") from None
    if has_many_files and not path.is_dir():
        what = f"a result of many files needs a folder that exists, not {printable(str(path))}"
        raise click.BadParameter(what, param_hint="--output")
    if not clobber and path.is_file():
        raise CommandError(f"{printable(str(path))} exists; --clobber replaces it")


def download(
    task: "Task", to: str | None, *, clobber: bool = False, run: int | None = None, manifest: bool = False
) -> Path | None:
    """Download a result to a path, a folder (by default the current one), or STDOUT, which gets the checked file only.

    A result of many files needs a folder. `run` and `manifest`: as of `Task.download`. Raises CommandError for a file
    that exists, unless `clobber`.
    """
    if to == STDOUT:
        _to_stdout(task, run)
        return None
    label = f"the download of task {task.id}"
    with wait_notice(label) as waits_for, _naming_clobber():
        return task.download(
            to or ".", lambda *_: waits_for(label), run=run, manifest=manifest, replace=clobber,
            progress=sys.stderr.isatty(),
        )  # fmt: skip


@contextlib.contextmanager
def _naming_clobber() -> Iterator[None]:
    """Name the option that replaces a file in the way of a download."""
    from longshore.client import ExistsError

    try:
        yield
    except ExistsError as error:
        raise CommandError(f"{printable(str(error))}; --clobber replaces it") from None


def run_of(task: "Task", run: int | None) -> "Run":
    """Return a run of a task; without a number the one with the newest data. Raises NotFoundError and GoneError."""
    return task.latest_run() if run is None else task.get_run(run)


def _to_stdout(task: "Task", run: int | None) -> None:
    from longshore.client import GoneError, NotFoundError
    from longshore.client.download_paths import has_many_files

    with contextlib.suppress(NotFoundError, GoneError):  # the download says why there is no result
        if has_many_files(run_of(task, run)):
            raise click.BadParameter("a result of many files needs a folder", param_hint="--output")
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder, wait_notice(f"the download of task {task.id}"):
        file = task.download(folder, run=run)
        with file.open("rb") as content:
            shutil.copyfileobj(content, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
