"""The action `export`: what a request may ask for. How a run of it goes is in `exporter`."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from longshore.exports import formats, schemas
from longshore.exports.catalog import Catalog, Index, Shape, fingerprint, shape
from longshore.exports.columns import FieldChoice, check_fields, choices
from longshore.exports.formats import FORMATS, Compression
from longshore.exports.formats.dialect import CsvOptions, check_options
from longshore.exports.segments import rules as segments
from longshore.exports.segments.rules import Segment
from longshore.tasks.recorded_reads import Read
from longshore.validation import Violation, check, pointer, suggestion

MOST_SECONDS, MOST_DAYS = 7 * 24 * 3600, 3650


class ExportTarget(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to export, and as what."""

    action: Literal["export"]
    export_index: str
    export_format: str
    fields: list[str | FieldChoice] | None = None
    """The columns, in the order wanted; without it, all of them."""
    schema: str | None = None
    """The fingerprint of the fields that the client expects."""
    compression: Compression | None = None
    csv: CsvOptions | None = None
    incremental: bool | Literal["on_ack"] = False
    """Whether each run takes only what became visible since the last one, or since the last one acknowledged."""
    timeout_seconds: Annotated[int, Meta(ge=1, le=MOST_SECONDS)] | None = None
    """How long an attempt may take; then the run is an error."""
    result_days: Annotated[float, Meta(gt=0, le=MOST_DAYS)] | None = None
    """How long a result is kept, where that is shorter than what the service allows."""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    """Of a chain's tasks, the one with the highest gets the next free slot."""


class ExportTrigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a stored trigger that an export reads."""

    segment: Segment | None = None
    segment_id: str | None = None
    timezone: str | None = None
    """The zone of date rules that name none."""


TRIGGER = msgspec.json.Decoder(ExportTrigger, float_hook=Decimal)


def check_target(value: dict[str, Any], catalog: Catalog, at: str, before: Shape | None) -> list[Violation]:
    """What is wrong with a target beyond its shape; `at` is its JSON pointer.

    `before`: what the `schema` that it pins stood for, where that is known.
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
    if target.export_index in catalog:
        violations += _check_fields(target, catalog[target.export_index], at, before)
    return violations


def _check_fields(target: ExportTarget, index: Index, at: str, before: Shape | None) -> list[Violation]:
    chosen = choices(target.fields, index)
    violations = check_fields(chosen, index, pointer(at, "fields"))
    if target.schema is not None and not violations:
        now = shape((shown, index.fields[name]) for name, shown in chosen)
        if fingerprint(now) != target.schema:
            violations.append(Violation(schemas.difference(target.schema, before, now), pointer(at, "schema")))
    return violations


def pinned(target: str, catalog: Catalog) -> Shape | None:
    """What the `schema` of a target that was checked stands for; None where it pins nothing."""
    if msgspec.json.decode(target)["action"] != "export":
        return None
    found = msgspec.json.decode(target, type=ExportTarget)
    if found.schema is None:
        return None
    index = catalog[found.export_index]
    return shape((shown, index.fields[name]) for name, shown in choices(found.fields, index))


def check_segment(segment: Segment, index: Any, chain: int, catalog: Catalog, at: str) -> list[Violation]:
    """What is wrong with a segment for this export index and chain; `at` is its JSON pointer."""
    violations = []
    if segment.chain_id != chain:
        violations.append(Violation(f"expected {chain}, the task's chain", pointer(at, "chain_id")))
    if segment.index != index:
        violations.append(Violation(f"expected {index!r}, the target's index", pointer(at, "index")))
    elif segment.index in catalog:
        violations += segments.check_rules(segment, catalog[segment.index], at)
    return violations


def read_by(target: ExportTarget, segment: Segment | None, catalog: Catalog) -> Read:
    """What an export of this target and segment reads: the columns it writes and those that its rules look at.

    Control totals are of columns that are written too, and increments go by PostgreSQL's own numbers of transactions.
    """
    index = catalog.get(target.export_index)
    if target.fields is not None:
        chosen = [field if isinstance(field, str) else field.name for field in target.fields]
    elif index is not None:
        chosen = list(index.fields)
    else:
        return Read(target.export_index)
    rules = segment.rules if segment else ()
    level = index.level if index else "read"  # without an index there is nothing to read
    return Read(target.export_index, level, frozenset([*chosen, *map(segments.column_of, rules)]))


def result_name(target: ExportTarget, index: Index, task: int) -> str:
    """The name of a result file, such as `Wallet_Export-12345.csv`."""
    return f"{index.prefix}_Export-{task}.{formats.extension(target.export_format, target.compression)}"
