"""`longshore completion`: the completion of commands, options and values in a shell."""

from typing import Annotated, Literal

import click
from click.shell_completion import get_completion_class

from longshore.cli import commands as typer

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")]) -> None:
    """Print a script that makes a shell complete the words of this command line."""
    kind = get_completion_class(shell)
    assert kind is not None
    typer.echo(kind(click.get_current_context().find_root().command, {}, "longshore", "_LONGSHORE_COMPLETE").source())
