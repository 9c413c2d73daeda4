"""Shared by the commands over HTTP: options and their values, and the client of a profile."""

import contextlib
import logging
import re
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import click

from longshore.cli import complete, waiting
from longshore.cli.commands import Argument, Option
from longshore.cli.output import note

if TYPE_CHECKING:
    from longshore import Longshore

STDIN = "-"  # as the name of a file
PERIOD = re.compile(r"([0-9]{1,9})([mhdw])", re.ASCII)
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Profile: TypeAlias = Annotated[
    str | None,
    Option(help="Login to use; by default that of `longshore profiles use`.", shell_complete=complete.profiles),
]
Json: TypeAlias = Annotated[bool, Option("--json", help="Print JSON, and errors as problems.")]
Timeout: TypeAlias = Annotated[float | None, Option(help="Maximum seconds to wait; unlimited by default.", min=0)]
Limit: TypeAlias = Annotated[int, Option(help="Maximum number.", min=1, max=100)]
TaskNumber: TypeAlias = Annotated[
    int, Argument(help="Number of the task.", min=1, metavar="ID", shell_complete=complete.tasks)
]


class _Notes(logging.Handler):
    """Shows the warnings of the client, such as why nothing happens, where standard error is for people."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"longshore: {record.getMessage()}")


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _leave_on_signals() -> None:
    """End by an exception on SIGTERM and SIGHUP, unless it is ignored, so that temporary folders are removed."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


@contextlib.contextmanager
def client_of(profile: str | None) -> Iterator["Longshore"]:
    """Open the client of a profile. A wait of more than two seconds for the service is told."""
    from longshore import Longshore
    from longshore.client.profiles import file_that_others_read

    _leave_on_signals()
    logger = logging.getLogger("longshore.client")
    logger.handlers = [_Notes()]
    if (file := file_that_others_read()) is not None:
        note(f"longshore: other users can read the tokens in {file}; `chmod 600` it")
    with Longshore.from_profile(profile) as client, waiting.noted(client.address):
        yield client


def read_file(file: Path, option: str) -> bytes:
    """Return the bytes of the file of an option, or of standard input where it is STDIN. Raises BadParameter."""
    if str(file) == STDIN:
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint=option) from None


def moment(text: str, option: str) -> datetime:
    """Return the time of an option. Raises BadParameter for a time without an offset."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise click.BadParameter("expected a time with its offset, such as 2026-05-26T03:00:00Z", param_hint=option)
    return found


def period(text: str, option: str) -> dict[str, int]:
    """Return a period such as `24h` as `{"hours": 24}`. Raises BadParameter."""
    match = PERIOD.fullmatch(text)
    if not match:
        expected = "a number of at most nine digits with m, h, d or w, such as 24h"
        raise click.BadParameter(f"expected {expected}, got {text!r}", param_hint=option)
    return {UNITS[match[2]]: int(match[1])}


def moment_or_period_ago(text: str, option: str) -> datetime:
    """Return a time, also one that is given as the period until now. Raises BadParameter."""
    if not PERIOD.fullmatch(text):
        try:
            return moment(text, option)
        except click.BadParameter as error:
            raise click.BadParameter(f"{error.message}, or a period until now, such as 7d", param_hint=option) from None
    try:
        return datetime.now(UTC) - timedelta(**period(text, option))
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
