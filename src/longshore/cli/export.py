"""`longshore export`: create an export, wait for it, download its file."""

import re
from typing import TYPE_CHECKING, Annotated, Any, cast

from longshore.cli import commands as typer
from longshore.cli import follow, remote

if TYPE_CHECKING:
    from longshore.client.words import PartitionKey

MIDNIGHT = "0 0 * * *"  # so that each run is for a whole day of the zone
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def export(  # noqa: PLR0913 (the options of the command)
    index: Annotated[
        list[str],
        typer.Argument(help="Export index; several are exported from one snapshot; `longshore indexes` lists them."),
    ],
    format: Annotated[str, typer.Option(help="csv, json, jsonl, parquet or xlsx.")] = "csv",
    last: Annotated[str | None, typer.Option(help="Only rows of the last 30m, 24h, 7d, 2w.")] = None,
    segment: Annotated[str | None, typer.Option(help="Only rows of this stored segment.", metavar="ID")] = None,
    field: Annotated[list[str] | None, typer.Option(help="A column; repeatable; all by default.")] = None,
    partition_by: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder for each value of a keyword, or for each timestamp:day, :month or :year; repeatable."
        ),
    ] = None,
    split_rows: Annotated[int | None, typer.Option(help="Rows of each file.", min=1)] = None,
    split_bytes: Annotated[int | None, typer.Option(help="Bytes from which on a new file begins.", min=1)] = None,
    compression: Annotated[str | None, typer.Option(help="gzip or zstd.")] = None,
    deletes: Annotated[
        bool, typer.Option("--deletes", help="Changes since the run before, with the rows to delete from a copy.")
    ] = False,
    share_as: Annotated[
        str | None, typer.Option(help="Table that other programs read the newest result as; parquet.", metavar="NAME")
    ] = None,
    deliver: Annotated[
        list[str] | None, typer.Option(help="A destination of the result; repeatable.", metavar="NAME")
    ] = None,
    at: Annotated[str | None, typer.Option(help="When, such as 2026-05-26T03:00:00Z; then without a download.")] = None,
    nightly: Annotated[
        bool, typer.Option("--nightly", help="Each midnight, or daily from --at on; no download.")
    ] = False,
    timezone: Annotated[str | None, typer.Option(help="IANA time zone of --nightly; UTC by default.")] = None,
    desc: Annotated[str, typer.Option(help="Description of the task.")] = "",
    output: Annotated[str | None, typer.Option("-o", "--output", help="File or folder; - for standard output.")] = None,
    timeout: remote.Timeout = None,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """Export an index to a file."""
    if last and segment:
        raise typer.BadParameter("give --last or --segment, not both")
    if timezone and not nightly:
        raise typer.BadParameter("--timezone is for --nightly")
    if json and output == follow.STDOUT:
        raise typer.BadParameter("the file and the JSON cannot both go to stdout")
    if split_rows and split_bytes:
        raise typer.BadParameter("give --split-rows or --split-bytes, not both")
    follow.refuse_missing_folder(output)
    if output == follow.STDOUT and (partition_by or split_rows or split_bytes or len(index) > 1):
        raise typer.BadParameter("a result of many files needs a folder", param_hint="--output")
    period, moment = _period(last), None if at is None else remote.moment(at, "--at")
    with remote.client_of(profile) as client:
        where: Any = segment
        if period:
            from longshore import F

            where = {}
            for name in index:
                time = client.indexes.get(name).time
                if time is None:
                    raise typer.BadParameter(f"the index {name} has no time field for --last")
                where[name] = F(time).within(**period)
            where = where if len(index) > 1 else where[index[0]]
        task = client.exports.create(
            index if len(index) > 1 else index[0],
            format=cast("Any", format),  # the service says which words it knows
            where=where,
            at=moment,
            repeat="daily" if nightly and moment else None,
            cron=MIDNIGHT if nightly and not moment else None,
            timezone=timezone,
            fields=field,
            partition_by=[_key(each) for each in partition_by] if partition_by else None,
            split={"rows": split_rows} if split_rows else {"bytes": split_bytes} if split_bytes else None,
            compression=cast("Any", compression),
            deletes=deletes,
            share_as=share_as,
            deliver=[{"destination": name} for name in deliver] if deliver else None,
            desc=desc,
        )
        if nightly or moment:
            due = f"from {at} on" if at and nightly else f"due at {at}" if at else f"at midnight, {timezone or 'UTC'}"
            remote.show(task.data) if json else typer.echo(f"task {task.id} is {task.state.code}, {due}")
            return
        typer.echo(f"task {task.id}", err=True)
        follow.wait(task, timeout)
        file = follow.download(task, output)
        if json:
            remote.show({"task": task.data, "run": task.latest_run(), "file": str(file)})
        elif file:
            typer.echo(file)


def _key(text: str) -> "PartitionKey":
    """Return a key of `partition_by` from `timestamp:day` or `currency`."""
    field, _, by = text.partition(":")
    return cast("PartitionKey", {"field": field, "by": by} if by else {"field": field})


def _period(last: str | None) -> dict[str, int] | None:
    if last is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})([mhdw])", last, re.ASCII)
    if not match:
        raise typer.BadParameter(f"expected a number with m, h, d or w, such as 24h, got {last!r}", param_hint="--last")
    return {UNITS[match[2]]: int(match[1])}
