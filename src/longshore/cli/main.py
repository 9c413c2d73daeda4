"""The command line: its two groups of commands, its version, and the end of the process."""

import atexit
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.exceptions import Exit

from longshore import __version__
from longshore.cli import completion, exits, remote_commands, service
from longshore.cli.access import client_app, token_app
from longshore.cli.catalog import catalog_app
from longshore.cli.commands import Commands
from longshore.cli.database import database_app
from longshore.cli.keys import keys_app
from longshore.cli.secrets import secrets_app
from longshore.cli.users import user_app

NAME = "longshore"


class Root(Commands):
    """The group of all commands: those for users of a service, then those to run one."""

    def __init__(self) -> None:
        version = click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
                               help="Print the version and exit.")  # fmt: skip
        super().__init__(
            NAME, help="Longshore: a task service for data exports.", epilog=f"Example: {NAME} serve", params=[version]
        )
        remote_commands.add_to(self)
        self.for_users = list(self.commands)
        service.add_to(self)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the two groups of commands."""
        others = [name for name in self.list_commands(ctx) if name not in self.for_users]
        for title, names in (("Use a service", self.for_users), ("Run a service", others)):
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(formatter.width)) for name in names])


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"{NAME} {__version__}")
        ctx.exit()


app = Root()
app.add_group(catalog_app, name="catalog")
app.add_group(user_app, name="user")
app.add_group(client_app, name="client")
app.add_group(token_app, name="token")
app.add_group(database_app, name="database")
app.add_group(keys_app, name="keys")
app.add_group(secrets_app, name="secrets")


def main() -> None:
    """Run the command line of this process and exit with one of the codes of `exits`."""
    code = exits.FAILED

    def leave() -> None:
        # At the end of a process C++ destroys the pools of Arrow's threads, and a thread that ends meanwhile aborts it
        # (https://github.com/apache/arrow/issues/34314). Registered first, so all other handlers have run.
        if "pyarrow" in sys.modules:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    atexit.register(leave)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell, as in `2>&-`
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        getattr(sys, name).reconfigure(errors="backslashreplace")  # a locale may lack a character
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  # until the process ends
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8")  # whatever the locale
    code = run([os.fsencode(each).decode(errors="surrogateescape") for each in sys.argv[1:]])  # whatever the locale
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run a command line, report its error, and return its exit code."""
    try:
        code = _invoke(arguments)
        sys.stdout.flush()  # a full disk is an error of the command
    except SystemExit as end:  # of a signal
        return int(end.code or 0)
    except (KeyboardInterrupt, click.Abort):  # Abort: an interrupt, or the end of the input, at a prompt
        return exits.INTERRUPTED
    except Exception as error:
        from longshore.cli import errors

        return errors.report(error, arguments)
    return code


def _invoke(arguments: Sequence[str]) -> int:
    if instruction := os.environ.get(completion.VARIABLE):
        return completion.answer(app, instruction)
    try:
        with app.make_context(NAME, list(arguments)) as context:
            app.invoke(context)
    except Exit as end:
        return end.exit_code
    return exits.DONE
