"""`longshore completion`: the completion of commands, options and values in a shell."""

from typing import Annotated, Literal

import click
from click.shell_completion import get_completion_class, shell_complete

from longshore.cli.commands import Argument

VARIABLE = "_LONGSHORE_COMPLETE"
PROGRAM = "longshore"

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Annotated[Shell, Argument(help="bash, zsh or fish.")]) -> None:
    """Print a script that makes a shell complete commands, options and values."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source())


def answer(app: click.Command, instruction: str) -> int:
    """Answer the script of a shell, and return the exit code. `instruction`: the value of VARIABLE."""
    return shell_complete(app, {}, PROGRAM, VARIABLE, instruction)
