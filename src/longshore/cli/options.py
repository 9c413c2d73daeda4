"""The options that several commands have, and their values."""

import codecs
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeAlias

import click

from longshore.cli import complete
from longshore.cli.commands import Argument, Option

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


def read_file(file: Path, option: str) -> bytes:
    """Return the bytes of the file of an option, or of standard input where it is STDIN, without a byte order mark.

    Raises BadParameter.
    """
    try:
        content = sys.stdin.buffer.read() if str(file) == STDIN else file.read_bytes()
        return content.removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint=option) from None


def option_time(text: str, option: str) -> datetime:
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


def option_time_or_period(text: str, option: str) -> datetime:
    """Return a time, also one that is given as the period until now. Raises BadParameter."""
    if not PERIOD.fullmatch(text):
        try:
            return option_time(text, option)
        except click.BadParameter as error:
            raise click.BadParameter(f"{error.message}, or a period until now, such as 7d", param_hint=option) from None
    try:
        return datetime.now(UTC) - timedelta(**period(text, option))
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
