"""The work of a credential that a command has ended: printed, or stopped."""

from typing import TYPE_CHECKING, Annotated

import click

from longshore.cli.commands import Option
from longshore.cli.database import with_connection
from longshore.cli.output import printable
from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from longshore.access.audit import Actor
    from longshore.access.work_of_credentials import OngoingWork
    from longshore.database.connect import Connection
    from longshore.tasks.model import ChainId

StopOption = Annotated[bool, Option("--stop", help="Cancel the tasks and delete the webhooks that it created.")]


def list_or_stop(credentials: list[str], stop: bool, chain: "ChainId | None" = None) -> None:
    """Print the work of credentials that goes on in a chain; with `stop`, stop it first.

    `chain`: None for all chains. Raises LongshoreError if not all could be stopped.
    """
    from longshore.access import work_of_credentials

    async def run(connection: "Connection", actor: "Actor") -> "OngoingWork":
        if stop:
            return await work_of_credentials.stop(connection, actor, credentials, chain)
        return await work_of_credentials.ongoing_work(connection, credentials, chain)

    work = with_connection(run, one_transaction=False)
    state = "stopped" if work.stopped else "goes on"
    for task in work.tasks:
        click.echo(f"{state}: task {task.id}  chain {task.chain}  {task.action}  {printable(task.desc)}".rstrip())
    for webhook in work.webhooks:
        click.echo(f"{state}: webhook {webhook.id}  chain {webhook.chain}  {printable(webhook.url)}")
    if stop and not work.stopped:
        raise LongshoreError("not all could be stopped; run the same command again")
