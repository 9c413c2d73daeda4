"""`longshore segments …`: the stored segments of the chain."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from longshore.cli import complete, export_options, options
from longshore.cli.app import app
from longshore.cli.client import client_of
from longshore.cli.commands import Argument, Option
from longshore.cli.output import show, show_all
from longshore.client.errors import NOT_DECODED
from longshore.client.requests import exact_decoder

if TYPE_CHECKING:
    from longshore.client.api_types import Segment

segments_app = app.add_group(
    "segments", help="Segments: stored filters of exports.", epilog="Example: longshore segments list"
)

SegmentId = Annotated[str, Argument(help="Id of the segment.", metavar="ID", shell_complete=complete.segments)]


@segments_app.command("list", epilog="Example: longshore segments list --json")
def list_segments(limit: options.Limit = 25, profile: options.Profile = None, json: options.Json = False) -> None:
    """List the stored segments, newest first."""
    with client_of(profile) as client:
        stored = client.segments.list(limit=limit)
    heads = ("id", "index", "rules", "name")
    show_all(stored, heads, lambda one: (one.id, *_shape(one.segment), one.name), json=json)


@segments_app.command(epilog="Example: longshore segments get 0b9f1b0e-7f53-4f5e-9d1a-3f8f6f0a2c11")
def get(id: SegmentId, profile: options.Profile = None) -> None:
    """Print a segment with its rules, as JSON."""
    with client_of(profile) as client:
        show(client.segments.get(id))


@segments_app.command(
    epilog="Example: longshore segments create 'large amounts' --index wallet-ledger --where 'amount > 100'"
    " --where 'currency = EUR'"
)
def create(  # noqa: PLR0913 (the options of the command)
    name: Annotated[str, Argument(help="Name of the new segment.")],
    index: Annotated[
        str, Option(help="Export index that it filters.", metavar="NAME", shell_complete=complete.indexes)
    ],
    where: export_options.Where = None,
    file: Annotated[
        Path | None,
        Option(
            "--input", help="File with the rules as JSON, in the form of the API; - for standard input.", metavar="FILE"
        ),
    ] = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """Store a segment; `longshore export --segment` uses it by its id, which is printed."""
    if bool(where) == bool(file):
        raise click.BadParameter("give --where or --input")
    segment = None if file is None else _read(file)
    with client_of(profile) as client:
        rules: Any = export_options.Conditions(where or []).rules(client, [index]) if segment is None else segment
        stored = client.segments.create(name, index, rules)
    show(stored) if json else click.echo(stored.id)


@segments_app.command(epilog="Example: longshore segments delete 0b9f1b0e-7f53-4f5e-9d1a-3f8f6f0a2c11")
def delete(id: SegmentId, profile: options.Profile = None) -> None:
    """Delete a stored segment."""
    with client_of(profile) as client:
        client.segments.delete(id)
    click.echo(f"segment {id} is deleted")


def _read(file: Path) -> dict[str, Any]:
    try:
        return exact_decoder(dict[str, Any]).decode(options.read_file(file, "--input"))
    except NOT_DECODED as error:
        raise click.BadParameter(f"{file} has no JSON object: {error}", param_hint="--input") from None


def _shape(segment: "Segment | None") -> tuple[str, int | str]:
    """Return the index and the number of rules of a stored segment; empty strings if its rules are hidden."""
    return ("", "") if segment is None else (segment["index"], len(segment["rules"]))
