"""`longshore indexes` and `longshore segments`: the export indexes and the stored segments."""

from typing import TYPE_CHECKING, Annotated

from longshore.cli import commands as typer
from longshore.cli import remote

if TYPE_CHECKING:
    from longshore.client.words import Segment


def indexes(
    name: Annotated[str | None, typer.Argument(help="Show the fields of this index.")] = None,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """List the export indexes, or the fields of one."""
    with remote.client_of(profile) as client:
        if name is None:
            all_indexes = client.indexes.list()
            if json:
                remote.show(all_indexes)
            else:
                remote.show_table(
                    ("index", "time field", "description"), [(i.name, i.time or "", i.description) for i in all_indexes]
                )
            return
        index = client.indexes.get(name)
    if json:
        remote.show(index)
        return
    rows = []
    for field in index.fields:
        rows.append((field.name, field.type, field.description))
        rows += [(f"{field.name}.{inner.name}", inner.type, inner.description) for inner in field.fields]
    remote.show_table(("field", "type", "description"), rows)


def segments(
    id: Annotated[str | None, typer.Argument(help="Show the rules of this segment.")] = None,
    limit: Annotated[int, typer.Option(help="Maximum number.", min=1, max=100)] = 25,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """List the stored segments, or show one."""
    with remote.client_of(profile) as client:
        if id is not None:
            remote.show(client.segments.get(id))
            return
        stored = client.segments.list(limit=limit)
    if json:
        remote.show(stored)
        return
    remote.show_table(("id", "index", "rules", "name"), [(s.id, *_shape(s.segment), s.name) for s in stored])


def _shape(segment: "Segment | None") -> tuple[str, int | str]:
    """Return the index and the number of rules of a stored segment; empty strings if its rules are hidden."""
    return ("", "") if segment is None else (segment["index"], len(segment["rules"]))
