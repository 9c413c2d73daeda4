"""The page of the documentation that lists the export indexes and their fields, written from the catalog."""

from collections.abc import Iterable, Iterator

from longshore.exports.catalog import Catalog, Field, Index, fingerprint, shape

HEAD = """\
# What can be exported

Written by `longshore catalog docs` from the catalog; run it again after a change. `GET /indexes` gives the same as
JSON. The fields are listed in the order in which an export without `target.fields` writes them; the fields of a
nested one, such as `items.sku`, are for rules with `nested`. See [exports.md](exports.md) for formats, types and rules.
"""


def page(catalog: Catalog) -> str:
    """Return the page in Markdown."""
    return HEAD + "".join(_section(name, index) for name, index in catalog.items())


def _section(name: str, index: Index) -> str:
    rows = "".join(
        f"| `{shown}` | {field.type.value} | {_cell(field.description)} |\n"
        for shown, field in _with_inner(index.fields.items())
    )
    time = f"the time field is `{index.time_field}`" if index.time_field else "there is no time field"
    return (
        f"\n## {name}\n\n{index.description}\n\n"
        f"Files are called `{index.prefix}_Export-…`, {time}, the `schema` of all fields is "
        f"`{fingerprint(shape(index.fields.items()))}`.\n\n"
        f"| field | type | what it is |\n| --- | --- | --- |\n{rows}"
    )


def _with_inner(fields: Iterable[tuple[str, Field]], outer: str = "") -> Iterator[tuple[str, Field]]:
    for name, field in fields:
        yield outer + name, field
        yield from _with_inner(field.fields.items(), f"{outer}{name}.")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
