"""Shared by the commands over HTTP: options, the client of a profile, exit codes, and output."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from longshore.cli import commands as typer
from longshore.cli import table

if TYPE_CHECKING:
    from longshore import Longshore

FAILED, USAGE, NOT_FOUND, NOT_ALLOWED, TIMED_OUT = 1, 2, 3, 4, 5

Profile: TypeAlias = Annotated[str, typer.Option(help="Name of the login to use.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout: TypeAlias = Annotated[float | None, typer.Option(help="Maximum seconds to wait; unlimited by default.", min=0)]
TaskNumber: TypeAlias = Annotated[int, typer.Argument(help="Number of the task.", min=1, metavar="ID")]


@contextlib.contextmanager
def exit_on_client_error() -> Iterator[None]:
    """Print an error of the client in one line and exit with its code."""
    from longshore import client as c

    try:
        yield
    except c.ClientError as error:
        typer.echo(f"longshore: {printable(str(error))}", err=True)
        match error:
            case c.SegmentError() | c.BadRequestError() | c.ProfileError():
                code = USAGE
            case c.NotFoundError() | c.GoneError():
                code = NOT_FOUND
            case c.UnauthorizedError() | c.ForbiddenError():
                code = NOT_ALLOWED
            case c.WaitTimeoutError():
                code = TIMED_OUT
            case _:
                code = FAILED
        raise typer.Exit(code) from None


@contextlib.contextmanager
def client_of(profile: str) -> Iterator["Longshore"]:
    """Open the client of a profile; its errors end the command."""
    from longshore import Longshore

    with exit_on_client_error(), Longshore.from_profile(profile) as client:
        yield client


def moment(text: str, option: str) -> datetime:
    """Return the time of an option. Raises BadParameter for a time without an offset."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise typer.BadParameter("expected a time with its offset, such as 2026-05-26T03:00:00Z", param_hint=option)
    return found


def printable(text: str) -> str:
    """Return a text without control characters, which a terminal would execute."""
    return "".join(character if character.isprintable() else " " for character in text)


def show(value: Any) -> None:
    """Print structs as JSON."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value)))


def show_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: with aligned columns on a terminal, separated by tabs and without a header in a pipe."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            typer.echo("\t".join(row))
        return
    for line in table.lines(heads, cells):
        typer.echo(line)
