"""`longshore tasks …`: list, wait, run, cancel and delete tasks; its neighbours have schedules and results."""

import itertools
import sys
from typing import TYPE_CHECKING, Annotated, Any

import click

from longshore.cli import complete, follow, options
from longshore.cli.app import app
from longshore.cli.client import client_of
from longshore.cli.commands import Option
from longshore.cli.exits import USAGE, CommandError
from longshore.cli.output import show, show_all, show_table
from longshore.client.api_types import StateCode

if TYPE_CHECKING:
    from longshore.client import Task
    from longshore.client.model import LogEntry, TaskData

tasks_app = app.add_group(
    "tasks", help="Tasks: list, follow, run, cancel, download.", epilog="Example: longshore tasks list"
)


@tasks_app.command("list", epilog="Example: longshore tasks list --status ERROR --since 7d --json")
def list_tasks(  # noqa: PLR0913 (the options of the command)
    status: Annotated[StateCode | None, Option(help="Only tasks in this state.")] = None,
    index: Annotated[
        str | None,
        Option(help="Only exports of this index.", metavar="NAME", shell_complete=complete.indexes),
    ] = None,
    search: Annotated[
        str | None,
        Option(help="Only tasks with this text in number, description, index or result, in any case.", metavar="TEXT"),
    ] = None,
    since: Annotated[
        str | None,
        Option(help="Only tasks created since then: 2026-05-26T03:00:00Z, or 24h, 7d ago.", metavar="TIME"),
    ] = None,
    limit: Annotated[int, Option(help="Maximum number.", min=1)] = 25,
    everything: Annotated[bool, Option("--all", help="All that there are.")] = False,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """List the tasks, newest first."""
    after = None if since is None else options.option_time_or_period(since, "--since")
    with client_of(profile) as client:
        listed = (task.data for task in client.tasks.iterate(status))
        newest = itertools.takewhile(lambda task: after is None or task.state.created_date >= after, listed)
        matching = (
            task
            for task in newest
            if (index is None or index in _indexes(task.target)) and (search is None or _has_text(task, search))
        )
        tasks = list(matching if everything else itertools.islice(matching, limit))
    show_all(tasks, ("task", "state", "created", "index", "format", "description"), _task_row, json=json)


def _task_row(task: "TaskData") -> tuple[object, ...]:
    created, indexes = f"{task.state.created_date:%Y-%m-%d %H:%M}Z", ", ".join(_indexes(task.target))
    return task.id, task.state.code, created, indexes, task.target.get("export_format", ""), task.desc


def _has_text(task: "TaskData", text: str) -> bool:
    """Return whether a text is in what a list shows of a task."""
    shown = (str(task.id), task.desc, *_indexes(task.target), task.result)
    return any(text.casefold() in each.casefold() for each in shown)


@tasks_app.command(epilog="Example: longshore tasks get 12345 --json")
def get(id: options.TaskNumber, profile: options.Profile = None, json: options.Json = False) -> None:
    """Show one task."""
    with client_of(profile) as client:
        task = client.tasks.get(id).data
    if json:
        show(task)
        return
    when = task.state.last_run_date
    rows = [
        ("task", task.id), ("state", task.state.code), ("description", task.desc),
        ("created", f"{task.state.created_date:%Y-%m-%d %H:%M:%S}Z"),
        ("last run", f"{when:%Y-%m-%d %H:%M:%S}Z" if when else "never"), ("result", task.result or "none"),
        *(("log", follow.log_line(entry)) for entry in task.logs),
    ]  # fmt: skip
    show_table(("", ""), rows)


@tasks_app.command(epilog="Example: longshore tasks logs 12345 -f")
def logs(
    id: options.TaskNumber,
    follow_on: Annotated[bool, Option("-f", "--follow", help="Continue until the task has ended.")] = False,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """Show the log of a task; with -f also new entries, until the task ends; exit with 1 if it fails."""
    import msgspec

    def line(entry: "LogEntry") -> None:
        click.echo(msgspec.json.encode(entry) if json else follow.log_line(entry))

    with client_of(profile) as client:
        task = client.tasks.get(id)
        if follow_on:
            follow.wait(task, None, profile, line)
            return
        entries = task.logs()
    if json:
        show(entries)
        return
    for entry in entries:
        line(entry)


@tasks_app.command(epilog="Example: longshore tasks wait 12345 --timeout 600")
def wait(
    id: options.TaskNumber,
    timeout: options.Timeout = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """Wait until a task is DONE, as one that repeats is between its runs; exit with 1 if it fails."""
    with client_of(profile) as client:
        task = client.tasks.get(id)
        follow.wait(task, timeout, profile)
    _show_state(task, json)


@tasks_app.command(epilog="Example: longshore tasks cancel 12345")
def cancel(id: options.TaskNumber, profile: options.Profile = None, json: options.Json = False) -> None:
    """Cancel a task: its run, or its schedule."""
    with client_of(profile) as client:
        task = client.tasks.get(id).cancel()
    _show_state(task, json)


@tasks_app.command(epilog="Example: longshore tasks run 12345")
def run(  # noqa: PLR0913 (the options of the command)
    id: options.TaskNumber,
    interval_end: Annotated[
        str | None, Option(help="A time of the schedule, such as 2026-05-26T03:00:00Z, to run the interval of.")
    ] = None,
    full: Annotated[bool, Option("--full", help="Take all rows, of an incremental task.")] = False,
    timeout: options.Timeout = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """Run a task now, regardless of its trigger, and wait for the end of the run."""
    with client_of(profile) as client:
        task = client.tasks.get(id).execute(interval_end, full=full)
        follow.wait(task, timeout, profile)
    _show_state(task, json)


@tasks_app.command(epilog="Example: longshore tasks delete 12345")
def delete(
    id: options.TaskNumber,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
    profile: options.Profile = None,
) -> None:
    """Delete a task with its runs and results, which stay at destinations."""
    if not yes:
        if not sys.stdin.isatty():
            raise CommandError(f"task {id} and its results cannot be brought back; delete them with --yes", USAGE)
        click.confirm(f"Delete task {id} and its results?", abort=True, err=True)
    with client_of(profile) as client:
        client.tasks.get(id).delete()
    click.echo(f"task {id} is deleted")


@tasks_app.command("open", epilog="Example: longshore tasks open 12345")
def open_page(id: options.TaskNumber, profile: options.Profile = None) -> None:
    """Print the address of a task's page in the console; on a terminal open it in a browser, too."""
    with client_of(profile) as client:
        task = client.tasks.get(id)
        address = f"{client.address}/console/{task.data.chain}/tasks/{id}"
    click.echo(address)
    if sys.stdout.isatty():
        click.launch(address)


def _indexes(target: dict[str, Any]) -> list[str]:
    """Return the indexes of an export; none of another action."""
    return target.get("export_indexes") or ([target["export_index"]] if "export_index" in target else [])


def _show_state(task: "Task", json: bool) -> None:
    show(task.data) if json else click.echo(f"task {task.id} is {task.state.code}")
