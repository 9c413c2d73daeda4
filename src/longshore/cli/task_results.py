"""`longshore tasks runs`, `download`, `files`, `deliveries` and `ack`: the results of a task."""

from typing import TYPE_CHECKING, Annotated

import click

from longshore.cli import download as downloads
from longshore.cli import options
from longshore.cli.client import client_of
from longshore.cli.commands import Option
from longshore.cli.exits import NOT_FOUND, CommandError
from longshore.cli.output import show, show_all
from longshore.cli.tasks import tasks_app

if TYPE_CHECKING:
    from datetime import datetime

    from longshore.client import Task
    from longshore.client.model import Run

RunNumber = Annotated[int | None, Option(help="Number of the run; by default that of the newest data.", min=1)]


@tasks_app.command(epilog="Example: longshore tasks runs 12345 --limit 7")
def runs(
    id: options.TaskNumber,
    limit: options.Limit = 25,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """List the runs of a task, newest first, each with its data interval."""
    with client_of(profile) as client:
        found = client.tasks.get(id).runs(limit=limit)
    heads = ("run", "state", "interval from", "until", "began", "rows", "bytes")
    show_all(found, heads, _run_row, json=json)


def _run_row(run: "Run") -> tuple[object, ...]:
    start, end = (run.interval.start, run.interval.end) if run.interval else (None, None)
    return run.run, run.state, _time(start), _time(end), _time(run.began), run.rows, run.bytes


@tasks_app.command(epilog="Example: longshore tasks download 12345 --run 3 --manifest -o ledger.csv")
def download(  # noqa: PLR0913 (options of the command)
    id: options.TaskNumber,
    output: downloads.OutputPath = None,
    clobber: downloads.Clobber = False,
    run: RunNumber = None,
    manifest: Annotated[
        bool, Option("--manifest", help="Also write the manifest and its signature beside the file.")
    ] = False,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """Download the result of a task; an interrupted download is resumed."""
    if output == downloads.STDOUT and (json or manifest):
        raise click.BadParameter("the file and what else was asked for cannot all go to standard output")
    downloads.refuse_output(output, clobber=clobber)
    with client_of(profile) as client:
        task = client.tasks.get(id)
        file = downloads.download(task, output, clobber=clobber, run=run, manifest=manifest)
        found = downloads.run_of(task, run) if json else None
    if json:
        show({"task": task.data, "run": found, "file": str(file)})
    elif file:
        click.echo(file)


@tasks_app.command(epilog="Example: longshore tasks files 12345 --run 3")
def files(
    id: options.TaskNumber,
    run: RunNumber = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """List the files of a run."""
    with client_of(profile) as client:
        task = client.tasks.get(id)
        found = task.files(downloads.run_of(task, run).run)
    heads = ("file", "rows", "bytes")
    show_all(found, heads, lambda file: (file.path, f"{file.rows:,}", f"{file.bytes:,}"), json=json)


@tasks_app.command(epilog="Example: longshore tasks deliveries 12345 --run 3")
def deliveries(
    id: options.TaskNumber,
    run: Annotated[int | None, Option(help="Number of the run; by default the last one.", min=1)] = None,
    again: Annotated[
        bool, Option("--again", help="Bring the result to the destinations that lack it, else to all of them.")
    ] = False,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """List the deliveries of a run to destinations, or deliver it again."""
    with client_of(profile) as client:
        task = client.tasks.get(id)
        run = run or _last_run(task)
        found = task.deliver(run) if again else task.deliveries(run, limit=None)
    heads = ("delivery", "destination", "state", "attempts", "address or error")
    show_all(
        found,
        heads,
        lambda one: (one.id, one.destination, one.state, one.attempts, one.address or one.error or ""),
        json=json,
    )


def _last_run(task: "Task") -> int:
    """Return the number of the newest run, whatever became of it. Raises CommandError if there is none."""
    runs = task.runs(limit=1)
    if not runs:
        raise CommandError(f"task {task.id} has not run yet", NOT_FOUND)
    return runs[0].run


@tasks_app.command(epilog="Example: longshore tasks ack 12345 --run 3")
def ack(
    id: options.TaskNumber,
    run: Annotated[int, Option(help="Number of the run.", min=1)],
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """Confirm that the increment of a run has arrived, so that the next run begins after it."""
    with client_of(profile) as client:
        found = client.tasks.get(id).acknowledge(run)
    show(found) if json else click.echo(f"run {found.run} of task {id} is acknowledged")


def _time(moment: "datetime | None") -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z" if moment else ""
