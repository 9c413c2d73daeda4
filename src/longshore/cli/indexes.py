"""`longshore indexes`: the export indexes and their fields."""

from typing import Annotated

from longshore.cli import complete, options
from longshore.cli.app import app
from longshore.cli.client import client_of
from longshore.cli.commands import Argument
from longshore.cli.output import show, show_all, show_table


@app.command(epilog="Example: longshore indexes wallet-ledger")
def indexes(
    name: Annotated[
        str | None, Argument(help="Show the fields of this index.", shell_complete=complete.indexes)
    ] = None,
    profile: options.Profile = None,
    json: options.Json = False,
) -> None:
    """List the export indexes, or the fields of one."""
    with client_of(profile) as client:
        if name is None:
            heads = ("index", "time field", "description")
            show_all(client.indexes.list(), heads, lambda one: (one.name, one.time or "", one.description), json=json)
            return
        index = client.indexes.get(name)
    if json:
        show(index)
        return
    rows = []
    for field in index.fields:
        rows.append((field.name, field.type, field.description))
        rows += [(f"{field.name}.{inner.name}", inner.type, inner.description) for inner in field.fields]
    show_table(("field", "type", "description"), rows)
