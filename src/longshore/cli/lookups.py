"""`longshore indexes` and `longshore segments`: what can be exported, and the filters that are stored."""

from typing import Annotated, Any

import typer

from longshore.cli import remote


def indexes(
    name: Annotated[str | None, typer.Argument(help="Show the fields of this one.")] = None,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """List what can be exported, or the fields of one index."""
    with remote.opened(profile) as client:
        if name is None:
            found = client.indexes.list()
            if json:
                remote.show(found)
            else:
                remote.show_table(
                    ("index", "time field", "what it is"), [(i.name, i.time or "", i.description) for i in found]
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
    remote.show_table(("field", "type", "what it is"), rows)


def segments(
    id: Annotated[str | None, typer.Argument(help="Show the rules of this one.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=100)] = 25,
    profile: remote.Profile = "default",
    json: remote.Json = False,
) -> None:
    """List the stored segments, or show one."""
    with remote.opened(profile) as client:
        if id is not None:
            remote.show(client.segments.get(id))
            return
        found = client.segments.list(limit=limit)
    if json:
        remote.show(found)
        return
    remote.show_table(("id", "index", "rules", "name"), [(s.id, *_shape(s.segment), s.name) for s in found])


def _shape(segment: dict[str, Any] | None) -> tuple[str, int | str]:
    """Return the index and the number of rules of a stored segment; where its rules are hidden, neither."""
    return ("", "") if segment is None else (segment["index"], len(segment["rules"]))
