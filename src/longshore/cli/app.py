"""The group of all commands, to which each module adds its own: its help page and its version."""

import click

from longshore import __version__
from longshore.cli.commands import Commands

NAME = "longshore"
USE_A_SERVICE = (
    "login", "logout", "whoami", "profiles", "export", "tasks", "indexes", "segments", "destinations", "shares",
    "verify", "request", "completion",
)  # fmt: skip
RUN_A_SERVICE = (
    "serve", "api", "worker", "migrate", "seed", "demo", "doctor", "settings", "catalog", "user", "client", "token",
    "database", "keys", "secrets",
)  # fmt: skip


class _App(Commands):
    """The group of all commands: those for users of a service, then those to run one."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Return the names of the commands in the order of the help page."""
        return [*USE_A_SERVICE, *RUN_A_SERVICE]

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the two sections of commands."""
        for title, names in (("Use a service", USE_A_SERVICE), ("Run a service", RUN_A_SERVICE)):
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(formatter.width)) for name in names])


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"{NAME} {__version__}")
        ctx.exit()


app = _App(
    NAME,
    help="Longshore: a task service for data exports.",
    epilog=f"Example: {NAME} serve",
    params=[
        click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
                     help="Print the version and exit.")
    ],
)  # fmt: skip
