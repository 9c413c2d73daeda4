"""The violations of a target whose results are shared as a table."""

import re

from longshore.exports.catalog import Catalog
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
    seen: set[str] = set()
    for number, (_, shown) in enumerate(choices(target.fields, index)):
        where = pointer(pointer(at, "fields"), number) if target.fields else pointer(at, "share_as")
        if shown.lower() in seen:
            violations.append(Violation(f"the column {in_json(shown)} differs from another one in case alone", where))
        elif UNSUITED_NAME.search(shown):
            advice = "a column of a table has no space and none of , ; { } ( ) = in its name; rename it with `as`"
            violations.append(Violation(f"{in_json(shown)}: {advice}", where))
        seen.add(shown.lower())
    return violations
