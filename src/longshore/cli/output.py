"""The output of commands: tables, JSON, lines on standard error, and text without control characters."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from longshore.cli import columns

T = TypeVar("T")


def printable(text: str) -> str:
    """Return a text without control characters, which a terminal would execute."""
    return "".join(character if character.isprintable() else " " for character in text)


def show(value: Any) -> None:
    """Print structs as JSON, in UTF-8 whatever the locale (RFC 8259, section 8.1)."""
    from longshore.client.connection import ENCODER

    click.echo(pretty(ENCODER.encode(value)))


def pretty(content: bytes) -> bytes:
    """Return JSON with indented lines; on a terminal characters that it would execute are escaped."""
    import json

    import msgspec

    formatted = msgspec.json.format(content)
    if not sys.stdout.isatty():
        return formatted
    characters = formatted.decode()
    shown = (each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in characters)
    return "".join(shown).encode()


def show_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: with aligned columns on a terminal, separated by tabs and without a header in a pipe."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            click.echo("\t".join(row))
        return
    for line in columns.lines(heads, cells):
        click.echo(line)


def show_all(found: Sequence[T], heads: Sequence[str], row: Callable[[T], Sequence[object]], *, json: bool) -> None:
    """Print a list as JSON, or as a table with a row for each of its entries."""
    if json:
        show(found)
    else:
        show_table(heads, [row(each) for each in found])


def shows_notes() -> bool:
    """Return whether standard error is for people: in a pipe with `--json` it has nothing but the problem."""
    context = click.get_current_context(silent=True)
    return context is None or not context.params.get("json") or sys.stderr.isatty()


def note(line: str) -> None:
    """Print a line for people on standard error."""
    if shows_notes():
        click.echo(line, err=True)
