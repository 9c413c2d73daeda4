"""`longshore tasks pause`, `resume`, `backfill` and `backfills`: the schedule of a task."""

from typing import TYPE_CHECKING, Annotated

import click

from longshore.cli import options
from longshore.cli.client import client_of
from longshore.cli.commands import Option
from longshore.cli.output import show, show_all
from longshore.cli.tasks import tasks_app
from longshore.client.api_types import CatchUp

if TYPE_CHECKING:
    from longshore.client.model import Backfill


@tasks_app.command(epilog="Example: longshore tasks pause 12345")
def pause(id: options.TaskNumber, profile: options.Profile = None, json: options.Json = False) -> None:
    """Pause the schedule of a task; a run that has begun ends as usual."""
    with client_of(profile) as client:
        task = client.tasks.get(id).pause()
    show(task.data) if json else click.echo(f"task {task.id} is paused")


@tasks_app.command(epilog="Example: longshore tasks resume 12345 --catch-up none")
def resume(
    id: options.TaskNumber,
    catch_up: Annotated[
        CatchUp | None, Option(help="Runs missed meanwhile: one for all, none, or all; by default as created.")
    ] = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """Resume the paused schedule of a task."""
    with client_of(profile) as client:
        task = client.tasks.get(id).resume(catch_up)
    show(task.data) if json else click.echo(f"task {task.id} is resumed")


@tasks_app.command(
    epilog="Example: longshore tasks backfill 12345 --start 2026-05-01T00:00:00Z --end 2026-05-26T00:00:00Z"
)
def backfill(
    id: options.TaskNumber,
    start: Annotated[str, Option(help="Run the schedule's times after this one.")],
    end: Annotated[str, Option(help="The last time to run.")],
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """Run past times of a task's schedule, oldest first and one at a time."""
    after, until = options.option_time(start, "--start"), options.option_time(end, "--end")
    with client_of(profile) as client:
        created = client.tasks.get(id).backfill(after, until)
    show(created) if json else click.echo(f"backfill {created.id} of task {id} has {created.runs} runs")


@tasks_app.command(epilog="Example: longshore tasks backfills 12345 --stop 1")
def backfills(
    id: options.TaskNumber,
    stop: Annotated[int | None, Option(help="End the backfill of this number first.", min=1)] = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """List the backfills of a task with their progress, newest first."""
    with client_of(profile) as client:
        task = client.tasks.get(id)
        if stop is not None:
            task.end_backfill(stop)
        found = task.backfills(limit=None)
    heads = ("backfill", "state", "after", "until", "runs", "done", "failed", "left")
    show_all(found, heads, _backfill_row, json=json)


def _backfill_row(one: "Backfill") -> tuple[object, ...]:
    start, end = f"{one.start:%Y-%m-%d %H:%M}Z", f"{one.end:%Y-%m-%d %H:%M}Z"
    return one.id, one.state, start, end, one.runs, one.done, one.failed, one.left
