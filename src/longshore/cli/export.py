"""`longshore export`: create an export, wait for it, download its file."""

from typing import TYPE_CHECKING, Annotated

import click

from longshore.cli import complete, export_options, follow, options
from longshore.cli import download as downloads
from longshore.cli.app import app
from longshore.cli.client import client_of
from longshore.cli.commands import Argument, Option
from longshore.cli.output import note, show
from longshore.client.api_types import Compression, Format, Repeat

if TYPE_CHECKING:
    from longshore.client import Task


@app.command(epilog="Example: longshore export wallet-ledger --where 'amount > 10' --last 24h -o ledger.csv")
def export(  # noqa: PLR0913 (the options of the command)
    index: Annotated[
        list[str],
        Argument(
            help="Export index; several are exported from one snapshot; `longshore indexes` lists them.",
            shell_complete=complete.indexes,
        ),
    ],
    format: Annotated[Format, Option(help="Format of the file.")] = "csv",
    where: export_options.Where = None,
    last: Annotated[str | None, Option(help="Only rows of the last 30m, 24h, 7d, 2w.", metavar="PERIOD")] = None,
    segment: Annotated[
        str | None,
        Option(help="Only rows of this stored segment.", metavar="ID", shell_complete=complete.segments),
    ] = None,
    field: Annotated[
        list[str] | None,
        Option(help="A column; repeatable; all by default.", metavar="NAME", shell_complete=complete.fields),
    ] = None,
    partition_by: Annotated[
        list[str] | None,
        Option(
            help="A folder for each value of a keyword, or for each timestamp:day, :month or :year; repeatable.",
            metavar="FIELD[:PERIOD]",
        ),
    ] = None,
    split_rows: Annotated[int | None, Option(help="Rows of each file.", min=1)] = None,
    split_bytes: Annotated[int | None, Option(help="Bytes from which on a new file begins.", min=1)] = None,
    compression: Annotated[Compression | None, Option(help="Compression of the file.")] = None,
    deletes: Annotated[
        bool, Option("--deletes", help="Changes since the run before, with the rows to delete from a copy.")
    ] = False,
    share_as: Annotated[
        str | None, Option(help="Table that other programs read the newest result as; parquet.", metavar="NAME")
    ] = None,
    deliver: Annotated[
        list[str] | None,
        Option(
            help="A destination of the result, such as archive, archive:path={index}/{date}/{run}-{name} or"
            " warehouse:table=orders,mode=merge; repeatable.",
            metavar="NAME[:KEY=VALUE,…]",
            shell_complete=complete.destinations,
        ),
    ] = None,
    at: Annotated[str | None, Option(help="When, such as 2026-05-26T03:00:00Z; no download.", metavar="TIME")] = None,
    repeat: Annotated[Repeat | None, Option(help="Again and again, from --at or now on; no download.")] = None,
    cron: Annotated[
        str | None, Option(help="At the times of a cron expression, such as '0 2 * * *'; no download.")
    ] = None,
    timezone: Annotated[
        str | None,
        Option(help="IANA time zone of the schedule and of dates in --where; UTC by default.", metavar="NAME"),
    ] = None,
    desc: Annotated[str, Option(help="Description of the task.", metavar="TEXT")] = "",
    output: downloads.OutputPath = None,
    clobber: downloads.Clobber = False,
    timeout: options.Timeout = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """Export an index to a file. With --at, --repeat or --cron the task runs later, and is not waited for."""
    export_options.refuse_both("--segment", segment, "--last", last)
    export_options.refuse_both("--segment", segment, "--where", where)
    export_options.refuse_both("--split-rows", split_rows, "--split-bytes", split_bytes)
    export_options.refuse_both("--repeat", repeat, "--cron", cron)
    if json and output == downloads.STDOUT:
        raise click.BadParameter("the file and the JSON cannot both go to standard output", param_hint="--output")
    is_later = bool(at or repeat or cron)
    if is_later and output is not None:
        raise click.BadParameter("nothing is downloaded with --at, --repeat or --cron", param_hint="--output")
    has_many_files = bool(partition_by or split_rows or split_bytes or len(index) > 1)
    if not is_later:
        downloads.refuse_output(output, clobber=clobber, has_many_files=has_many_files)
    conditions = export_options.Conditions(where or [], last)
    with client_of(profile) as client:
        task = client.exports.create(
            index if len(index) > 1 else index[0],
            format=format,
            at=None if at is None else options.option_time(at, "--at"),
            repeat=repeat,
            cron=cron,
            timezone=timezone,
            fields=field,
            partition_by=[export_options.partition(each) for each in partition_by] if partition_by else None,
            split={"rows": split_rows} if split_rows else {"bytes": split_bytes} if split_bytes else None,
            compression=compression,
            deletes=deletes,
            share_as=share_as,
            deliver=[export_options.delivery(each) for each in deliver] if deliver else None,
            desc=desc,
            where=conditions.rules(client, index) if conditions else segment,
        )
        if is_later:
            show(task.data) if json else click.echo(_planned(task))
            return
        note(f"task {task.id}")
        follow.wait(task, timeout, profile)
        file = downloads.download(task, output, clobber=clobber)
        if json:
            show({"task": task.data, "run": task.latest_run(), "file": str(file)})
        elif file:
            click.echo(file)


def _planned(task: "Task") -> str:
    trigger = task.data.trigger
    zone = trigger.get("timezone", "UTC")
    parts = [
        f"at {trigger['once']}" if "once" in trigger else "",
        f"{trigger['repeat']}, {zone}" if "repeat" in trigger else "",
        f"at {trigger['cron']}, {zone}" if "cron" in trigger else "",
    ]
    return f"task {task.id} is {task.state.code}, runs {', '.join(filter(None, parts))}"
