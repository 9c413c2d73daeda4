"""`longshore tasks …`: list, wait, run and cancel tasks; `task_results` has those for their results."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, cast

from longshore.cli import commands as typer
from longshore.cli import follow, remote

if TYPE_CHECKING:
    from datetime import datetime

    from longshore.client import Task
    from longshore.client.model import Backfill


class CatchUp(StrEnum):
    """The values of `catch_up`."""

    ONE = "one"
    NONE = "none"
    ALL = "all"


app = typer.Typer(help="Tasks: list, follow, run, cancel, download.", epilog="Example: longshore tasks list")


@app.command("list", epilog="Example: longshore tasks list --status ERROR --json")
def list_tasks(
    status: Annotated[
        str | None, typer.Option(help="Only tasks in this state: READY, INPROGRESS, DONE or ERROR.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Maximum number.", min=1, max=100)] = 25,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """List the tasks, newest first."""
    with remote.client_of(profile) as client:
        tasks = [task.data for task in client.tasks.list(cast("Any", status), limit=limit)]
    if json:
        remote.show(tasks)
        return
    rows = [
        (task.id, task.state.code, f"{task.state.created_date:%Y-%m-%d %H:%M}Z", _indexes(task.target),
         task.target.get("export_format", ""), task.desc)
        for task in tasks
    ]  # fmt: skip
    remote.show_table(("task", "state", "created", "index", "format", "description"), rows)


@app.command(epilog="Example: longshore tasks get 12345 --json")
def get(id: remote.TaskNumber, profile: remote.Profile = "default", json: remote.Json = False) -> None:
    """Show one task."""
    with remote.client_of(profile) as client:
        task = client.tasks.get(id).data
    if json:
        remote.show(task)
        return
    when = task.state.last_run_date
    rows = [
        ("task", task.id), ("state", task.state.code), ("description", task.desc),
        ("created", f"{task.state.created_date:%Y-%m-%d %H:%M:%S}Z"),
        ("last run", f"{when:%Y-%m-%d %H:%M:%S}Z" if when else "never"), ("result", task.result or "none"),
        *(("log", follow.log_line(entry)) for entry in task.logs),
    ]  # fmt: skip
    remote.show_table(("", ""), rows)


@app.command(epilog="Example: longshore tasks logs 12345 -f")
def logs(
    id: remote.TaskNumber,
    follow_on: Annotated[bool, typer.Option("-f", "--follow", help="Continue until the task has ended.")] = False,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """Show the log of a task; with -f also new entries, until the task ends; exit with 1 if it fails."""
    import msgspec

    def line(entry: object) -> None:
        typer.echo(msgspec.json.encode(entry) if json else follow.log_line(entry))  # type: ignore[arg-type]

    with remote.client_of(profile) as client:
        task = client.tasks.get(id)
        if follow_on:
            task.wait(on_log=line)
            return
        entries = task.logs()
    if json:
        remote.show(entries)
        return
    for entry in entries:
        line(entry)


@app.command(epilog="Example: longshore tasks wait 12345 --timeout 600")
def wait(
    id: remote.TaskNumber,
    timeout: remote.Timeout = None,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """Wait until a task is DONE."""
    with remote.client_of(profile) as client:
        task = client.tasks.get(id)
        follow.wait(task, timeout)
    _show_state(task, json)


@app.command(epilog="Example: longshore tasks cancel 12345")
def cancel(id: remote.TaskNumber, profile: remote.Profile = "default", json: remote.Json = False) -> None:
    """Cancel a task: its run, or its schedule."""
    with remote.client_of(profile) as client:
        task = client.tasks.get(id).cancel()
    _show_state(task, json)


@app.command(epilog="Example: longshore tasks runs 12345 --limit 7")
def runs(
    id: remote.TaskNumber,
    limit: Annotated[int, typer.Option(help="Maximum number.", min=1, max=100)] = 25,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """List the runs of a task, newest first, each with its data interval."""
    with remote.client_of(profile) as client:
        found = client.tasks.get(id).runs(limit=limit)
    if json:
        remote.show(found)
        return
    rows = [
        (run.run, run.state, _time(run.interval.start if run.interval else None),
         _time(run.interval.end if run.interval else None), _time(run.began), run.rows, run.bytes)
        for run in found
    ]  # fmt: skip
    remote.show_table(("run", "state", "interval from", "until", "began", "rows", "bytes"), rows)


@app.command(epilog="Example: longshore tasks pause 12345")
def pause(id: remote.TaskNumber, profile: remote.Profile = "default", json: remote.Json = False) -> None:
    """Pause the schedule of a task; a run that has begun ends as usual."""
    with remote.client_of(profile) as client:
        task = client.tasks.get(id).pause()
    remote.show(task.data) if json else typer.echo(f"task {task.id} is paused")


@app.command(epilog="Example: longshore tasks resume 12345 --catch-up none")
def resume(
    id: remote.TaskNumber,
    catch_up: Annotated[
        CatchUp | None, typer.Option(help="Runs missed meanwhile: one for all, none, or all; by default as created.")
    ] = None,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """Resume the paused schedule of a task."""
    with remote.client_of(profile) as client:
        task = client.tasks.get(id).resume(catch_up.value if catch_up else None)
    remote.show(task.data) if json else typer.echo(f"task {task.id} is resumed")


@app.command(epilog="Example: longshore tasks backfill 12345 --start 2026-05-01T00:00:00Z --end 2026-05-26T00:00:00Z")
def backfill(
    id: remote.TaskNumber,
    start: Annotated[str, typer.Option(help="Run the schedule's times after this one.")],
    end: Annotated[str, typer.Option(help="The last time to run.")],
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """Run past times of a task's schedule, oldest first and one at a time."""
    after, until = remote.moment(start, "--start"), remote.moment(end, "--end")
    with remote.client_of(profile) as client:
        created = client.tasks.get(id).backfill(after, until)
    remote.show(created) if json else typer.echo(f"backfill {created.id} of task {id} has {created.runs} runs")


@app.command(epilog="Example: longshore tasks backfills 12345 --stop 1")
def backfills(
    id: remote.TaskNumber,
    stop: Annotated[int | None, typer.Option(help="End the backfill of this number first.", min=1)] = None,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """List the backfills of a task with their progress, newest first."""
    with remote.client_of(profile) as client:
        task = client.tasks.get(id)
        if stop is not None:
            task.end_backfill(stop)
        _show_backfills(task.backfills(), json)


def _show_backfills(backfills: "list[Backfill]", json: bool) -> None:
    if json:
        remote.show(backfills)
        return
    rows = [
        (each.id, each.state, f"{each.start:%Y-%m-%d %H:%M}Z", f"{each.end:%Y-%m-%d %H:%M}Z", each.runs, each.done,
         each.failed, each.left)
        for each in backfills
    ]  # fmt: skip
    remote.show_table(("backfill", "state", "after", "until", "runs", "done", "failed", "left"), rows)


@app.command(epilog="Example: longshore tasks run 12345")
def run(
    id: remote.TaskNumber,
    interval_end: Annotated[
        str | None, typer.Option(help="A time of the schedule, such as 2026-05-26T03:00:00Z, to run the interval of.")
    ] = None,
    timeout: remote.Timeout = None,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """Run a task now, regardless of its trigger, and wait for the end of the run."""
    with remote.client_of(profile) as client:
        task = client.tasks.get(id).execute(interval_end)
        follow.wait(task, timeout)
    _show_state(task, json)


def _time(moment: "datetime | None") -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z" if moment else ""


def _indexes(target: dict[str, Any]) -> str:
    return ", ".join(target.get("export_indexes") or [target.get("export_index", "")])


def _show_state(task: "Task", json: bool) -> None:
    remote.show(task.data) if json else typer.echo(f"task {task.id} is {task.state.code}")
