"""The action `export`: its target and trigger, as requests have them, and their validation. `exporter` runs it."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from longshore.errors import LongshoreError
from longshore.exports import formats, schemas
from longshore.exports.catalog import Catalog, Index, Shape, fingerprint
from longshore.exports.columns import FieldChoice, check_fields, choices, shape_of
from longshore.exports.formats import FORMATS, Compression
from longshore.exports.formats.dialect import CsvOptions, check_options
from longshore.exports.segments import rules as segments
from longshore.exports.segments.rules import Segment
from longshore.tasks.recorded_reads import Read
from longshore.validation import Violation, check, pointer, suggestion

CHANGE, REASON = "_change", "_reason"
CHANGE_NAMES = (CHANGE, REASON)
"""The columns that come first with `deletes`."""

MAX_TIMEOUT_SECONDS, MAX_RESULT_DAYS = 7 * 24 * 3600, 3650


class ExportTarget(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The data to export, and the form of the result."""

    action: Literal["export"]
    export_index: str
    export_format: str
    fields: list[str | FieldChoice] | None = None
    """The columns, in this order; without it, all of them."""
    schema: str | None = None
    """The fingerprint of the fields that the client expects."""
    compression: Compression | None = None
    csv: CsvOptions | None = None
    incremental: bool | Literal["on_ack"] = False
    """Whether each run takes only the rows that became visible since the last one, or the last acknowledged one."""
    deletes: bool = False
    """Whether each run of an incremental task also says which rows are to be deleted from the reader's copy."""
    timeout_seconds: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_SECONDS)] | None = None
    """The time that an attempt may take; then the run ends in `ERROR`."""
    result_days: Annotated[float, Meta(gt=0, le=MAX_RESULT_DAYS)] | None = None
    """The time for which a result is kept, if that is shorter than the service's setting."""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    """The task of a chain with the highest priority gets the next free slot."""


class ExportTrigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a stored trigger that an export reads."""

    segment: Segment | None = None
    segment_id: str | None = None
    timezone: str | None = None
    """The time zone of date rules that name none."""


NOT_INCREMENTAL = (
    "uses `is_in_interval`, which cannot be combined with `incremental`: a row that is written later with a date in an "
    "earlier interval would be in no increment"
)

TRIGGER = msgspec.json.Decoder(ExportTrigger, float_hook=Decimal)


def check_target(value: dict[str, Any], catalog: Catalog, at: str, before: Shape | None) -> list[Violation]:
    """Return the violations of a target; `at` is its JSON pointer.

    `before`: the shape that the pinned `schema` was made of, where that is known.
    """
    violations = []
    for key, known in (("export_index", catalog), ("export_format", FORMATS)):
        name = value.get(key)
        if isinstance(name, str) and name not in known:
            hint = suggestion(name, known) or f"; expected one of {', '.join(known)}"
            violations.append(Violation(f"{name!r} is not known{hint}", pointer(at, key)))
    target = check(ExportTarget, value, at, [])
    if target is None:
        return violations
    form = FORMATS.get(target.export_format)
    if form and form.compression == "refused" and target.compression:
        violations.append(Violation(f"{target.export_format} is compressed already", pointer(at, "compression")))
    if target.csv is not None:
        if target.export_format != "csv":
            violations.append(Violation("is for the format csv", pointer(at, "csv")))
        violations += check_options(target.csv, pointer(at, "csv"))
    if target.deletes:
        violations += _check_deletes(target, catalog.get(target.export_index), at)
    if target.export_index in catalog:
        violations += _check_fields(target, catalog[target.export_index], at, before)
    return violations


def _check_deletes(target: ExportTarget, index: Index | None, at: str) -> list[Violation]:
    violations = []
    if not target.incremental:
        violations.append(Violation("needs `incremental`", pointer(at, "deletes")))
    if target.export_format == "xlsx":
        violations.append(Violation("a workbook cannot hold changes; expected another format", pointer(at, "deletes")))
    if index is None:
        return violations
    if not index.key_fields:
        why = "this index has no key in the catalog, or a column of its key is no field"
        return [*violations, Violation(why, pointer(at, "deletes"))]
    chosen = choices(target.fields, index)
    missing = [name for name in index.key_fields if name not in [name for name, _ in chosen]]
    if missing:
        said = f"`deletes` needs all fields of the key; missing: {', '.join(missing)}"
        violations.append(Violation(said, pointer(at, "fields")))
    for number, (_, shown) in enumerate(chosen):
        if shown in CHANGE_NAMES:
            where = pointer(pointer(at, "fields"), number) if target.fields else pointer(at, "fields")
            violations.append(
                Violation(f"{shown!r} is a column that `deletes` adds; give the field another name", where)
            )
    return violations


def _check_fields(target: ExportTarget, index: Index, at: str, before: Shape | None) -> list[Violation]:
    chosen = choices(target.fields, index)
    violations = check_fields(chosen, index, pointer(at, "fields"))
    if target.schema is not None and not violations:
        now = shape_of(chosen, index)
        if fingerprint(now) != target.schema:
            violations.append(Violation(schemas.difference(target.schema, before, now), pointer(at, "schema")))
    return violations


def pinned_shape(target: str, catalog: Catalog) -> Shape | None:
    """Return the shape of a valid target's fields if it pins their `schema`, else None."""
    if msgspec.json.decode(target)["action"] != "export":
        return None
    export = msgspec.json.decode(target, type=ExportTarget)
    if export.schema is None:
        return None
    index = catalog[export.export_index]
    return shape_of(choices(export.fields, index), index)


def check_segment(segment: Segment, index: Any, chain: int, catalog: Catalog, at: str) -> list[Violation]:
    """Return the violations of a segment for this export index and chain; `at` is its JSON pointer."""
    violations = []
    if segment.chain_id != chain:
        violations.append(Violation(f"expected {chain}, the task's chain", pointer(at, "chain_id")))
    if segment.index != index:
        violations.append(Violation(f"expected {index!r}, the target's index", pointer(at, "index")))
    elif segment.index in catalog:
        violations += segments.check_rules(segment, catalog[segment.index], at)
    return violations


def interval_rules(segment: Segment) -> list[int]:
    """Return the numbers of the rules that an incremental export must not have; see NOT_INCREMENTAL."""
    return [number for number, rule in enumerate(segment.rules) if rule.operator == "is_in_interval"]


def refuse_unfit(segment: Segment | None, target: ExportTarget, chain: int, catalog: Catalog) -> None:
    """Raise LongshoreError where the catalog or a stored segment has changed so that a run cannot use the segment."""
    if segment is None:
        return
    violations = check_segment(segment, target.export_index, chain, catalog, "")
    if violations:
        raise LongshoreError(
            f"the segment does not fit index {target.export_index} of the catalog any more: "
            f"{violations[0].pointer} {violations[0].detail}"
        )
    if target.incremental and (rules := interval_rules(segment)):
        raise LongshoreError(f"the segment's /rules/{rules[0]} {NOT_INCREMENTAL}")


def read_of(target: ExportTarget, segment: Segment | None, catalog: Catalog) -> Read:
    """Return the columns that an export reads: those that it writes and those of its rules.

    Control totals are made of columns that are written too, and increments of PostgreSQL's own transaction numbers.
    """
    index = catalog.get(target.export_index)
    if target.fields is not None:
        chosen = [field if isinstance(field, str) else field.name for field in target.fields]
    elif index is not None:
        chosen = list(index.fields)
    else:
        return Read(target.export_index)
    rules = segment.rules if segment else ()
    level = index.level if index else "read"  # without an index no row is read
    return Read(target.export_index, level, frozenset([*chosen, *map(segments.column_of, rules)]))


def result_name(target: ExportTarget, index: Index, task: int) -> str:
    """Return the name of a result file, such as `Wallet_Export-12345.csv`."""
    return f"{index.prefix}_Export-{task}.{formats.extension(target.export_format, target.compression)}"
