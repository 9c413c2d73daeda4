"""`longshore completion`: the completion of commands, options and values in a shell."""

from typing import Annotated, Literal

import click
from click.shell_completion import get_completion_class, shell_complete

from longshore.cli.app import NAME, app
from longshore.cli.commands import Argument

VARIABLE = "_LONGSHORE_COMPLETE"

Shell = Literal["bash", "zsh", "fish"]


@app.command(epilog="Example: longshore completion bash >> ~/.bashrc")
def completion(shell: Annotated[Shell, Argument(help="bash, zsh or fish.")]) -> None:
    """Print a script that makes a shell complete commands, options and values."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(app, {}, NAME, VARIABLE).source())


def complete(instruction: str) -> int:
    """Print the completions that the script of a shell asks for, and return the exit code.

    `instruction`: the value of VARIABLE.
    """
    return shell_complete(app, {}, NAME, VARIABLE, instruction)
