"""`longshore tasks download`, `files`, `deliveries` and `ack`: the results of a task."""

from typing import TYPE_CHECKING, Annotated

from longshore.cli import commands as typer
from longshore.cli import follow, remote

if TYPE_CHECKING:
    from longshore.client import Task
    from longshore.client.model import Run

RunNumber = Annotated[int | None, typer.Option(help="Number of the run; by default that of the newest data.", min=1)]


def download(  # noqa: PLR0913 (options of the command)
    id: remote.TaskNumber,
    output: Annotated[str | None, typer.Option("-o", "--output", help="File or folder; - for standard output.")] = None,
    run: RunNumber = None,
    manifest: Annotated[
        bool, typer.Option("--manifest", help="Also write the manifest and its signature beside the file.")
    ] = False,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """Download the result of a task; an interrupted download is resumed."""
    if output == follow.STDOUT and (json or manifest):
        raise typer.BadParameter("the file and what else was asked for cannot all go to standard output")
    follow.refuse_missing_folder(output)
    with remote.client_of(profile) as client:
        task = client.tasks.get(id)
        file = follow.download(task, output, run, manifest=manifest)
        found = _run(task, run) if json else None
    if json:
        remote.show({"task": task.data, "run": found, "file": str(file)})
    elif file:
        typer.echo(file)


def _run(task: "Task", run: int | None) -> "Run":
    return task.latest_run() if run is None else task.get_run(run)


def files(
    id: remote.TaskNumber,
    run: RunNumber = None,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """List the files of a run."""
    with remote.client_of(profile) as client:
        task = client.tasks.get(id)
        found = task.files(_run(task, run).run)
    if json:
        remote.show(found)
        return
    remote.show_table(("file", "rows", "bytes"), [(file.path, f"{file.rows:,}", f"{file.bytes:,}") for file in found])


def deliveries(
    id: remote.TaskNumber,
    run: Annotated[int, typer.Option(help="Number of the run.", min=1)],
    again: Annotated[
        bool, typer.Option("--again", help="Bring the result to the destinations that lack it, else to all of them.")
    ] = False,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """List the deliveries of a run to destinations, or deliver it again."""
    with remote.client_of(profile) as client:
        task = client.tasks.get(id)
        found = task.deliver(run) if again else task.deliveries(run)
    if json:
        remote.show(found)
        return
    rows = [(each.id, each.destination, each.state, each.attempts, each.address or each.error or "") for each in found]
    remote.show_table(("delivery", "destination", "state", "attempts", "address or error"), rows)


def ack(
    id: remote.TaskNumber,
    run: Annotated[int, typer.Option(help="Number of the run.", min=1)],
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """Confirm that the increment of a run has arrived, so that the next run begins after it."""
    with remote.client_of(profile) as client:
        found = client.tasks.get(id).acknowledge(run)
    remote.show(found) if json else typer.echo(f"run {found.run} of task {id} is acknowledged")
