"""`longshore export`: create an export, wait for it, download its file."""

import re
from datetime import datetime
from typing import Annotated, Any

import typer

from longshore.cli import follow, remote

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def export(  # noqa: PLR0913 (the options of the command)
    index: Annotated[str, typer.Argument(help="Export index; `longshore indexes` lists them.")],
    format: Annotated[str, typer.Option(help="csv, json, jsonl, parquet or xlsx.")] = "csv",
    last: Annotated[str | None, typer.Option(help="Only rows of the last 30m, 24h, 7d, 2w.")] = None,
    segment: Annotated[str | None, typer.Option(help="Only rows of this stored segment.", metavar="ID")] = None,
    field: Annotated[list[str] | None, typer.Option(help="A column; repeatable; all by default.")] = None,
    compression: Annotated[str | None, typer.Option(help="gzip or zstd.")] = None,
    deletes: Annotated[
        bool, typer.Option("--deletes", help="Changes since the run before, with the rows to delete from a copy.")
    ] = False,
    at: Annotated[str | None, typer.Option(help="When, such as 2026-05-26T03:00:00Z; then without a download.")] = None,
    desc: Annotated[str, typer.Option(help="Description of the task.")] = "",
    output: Annotated[str | None, typer.Option("-o", "--output", help="File or folder; - for standard output.")] = None,
    timeout: remote.Timeout = None,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """Export an index to a file."""
    if last and segment:
        raise typer.BadParameter("give --last or --segment, not both")
    if json and output == follow.STDOUT:
        raise typer.BadParameter("the file and the JSON cannot both go to stdout")
    follow.refuse_missing_folder(output)
    period, moment = _period(last), _moment(at)
    with remote.client_of(profile) as client:
        where: Any = segment
        if period:
            from longshore import F

            time = client.indexes.get(index).time
            if time is None:
                raise typer.BadParameter(f"the index {index} has no time field for --last")
            where = F(time).within(**period)
        task = client.exports.create(
            index,
            format=format,
            where=where,
            at=moment,
            fields=field,
            compression=compression,
            deletes=deletes,
            desc=desc,
        )
        if moment is not None:
            remote.show(task.data) if json else typer.echo(f"task {task.id} is {task.state.code}, due at {at}")
            return
        typer.echo(f"task {task.id}", err=True)
        follow.wait(task, timeout)
        file = follow.download(task, output)
        if json:
            remote.show({"task": task.data, "run": task.runs(limit=1)[0], "file": str(file)})
        elif file:
            typer.echo(file)


def _period(last: str | None) -> dict[str, int] | None:
    if last is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([mhdw])", last, re.ASCII)
    if not match:
        raise typer.BadParameter(f"expected a number with m, h, d or w, such as 24h, got {last!r}", param_hint="--last")
    return {UNITS[match[2]]: int(match[1])}


def _moment(at: str | None) -> datetime | None:
    if at is None:
        return None
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter("expected a time with its offset, such as 2026-05-26T03:00:00Z", param_hint="--at")
    return moment
