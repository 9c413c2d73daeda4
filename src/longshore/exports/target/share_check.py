"""The violations of a target whose results are shared as a table."""

import re
from collections.abc import Sequence

from longshore.exports.catalog import Catalog, Field
from longshore.exports.columns import choices
from longshore.exports.formats import FORMATS
from longshore.exports.target import ExportTarget
from longshore.validation import Violation, in_json, pointer

# Column names without column mapping: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#column-mapping
UNSUITED_NAME = re.compile(r"[ ,;{}()\n\t=]")


def check_share_as(target: ExportTarget, catalog: Catalog, at: str) -> list[Violation]:
    """Return the violations of a target with `share_as`; `at` is its JSON pointer."""
    refused = {
        "export_format": target.export_format in FORMATS and target.export_format != "parquet",
        "export_indexes": target.export_indexes is not None,
        "incremental": bool(target.incremental),
        "deletes": target.deletes,
    }
    message = "is not supported with `share_as`: a table has all rows of one index, in the format parquet"
    violations = [Violation(message, pointer(at, key)) for key, is_refused in refused.items() if is_refused]
    index = None if target.export_indexes is not None else catalog.get(target.export_index)
    if index is None or isinstance(target.fields, dict):
        return violations
    chosen = choices(target.fields, index)
    wrong = unsuited_names([shown for _, shown in chosen])
    for number, (name, shown) in enumerate(chosen):
        where = pointer(pointer(at, "fields"), number) if target.fields else pointer(at, "share_as")
        if number in wrong:
            violations.append(Violation(f"{wrong[number]}; rename it with `as`", where))
        elif name in index.fields and (inside := _wrong_inside(index.fields[name])) is not None:
            violations.append(Violation(f"{in_json(shown)}: {inside}; leave it out of `fields`", where))
    return violations


def unsuited_names(names: Sequence[str]) -> dict[int, str]:
    """Return why names of one level of a table's schema do not suit it, by their numbers from 0."""
    wrong: dict[int, str] = {}
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name.lower() in seen:
            wrong[number] = f"the column {in_json(name)} differs from another one in case alone"
        elif UNSUITED_NAME.search(name):
            wrong[number] = f"{in_json(name)}: a column of a table has no space and none of , ; {{ }} ( ) = in its name"
        seen.add(name.lower())
    return wrong


def _wrong_inside(field: Field) -> str | None:
    """Return why a name inside a nested field does not suit a table; None if all do."""
    deeper = (_wrong_inside(inner) for inner in field.fields.values())
    return next(filter(None, [*unsuited_names(list(field.fields)).values(), *deeper]), None)
