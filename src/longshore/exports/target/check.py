"""The violations of an export's target and segments, as a request has them."""

from collections.abc import Mapping
from typing import Any

from longshore.exports import schemas
from longshore.exports.catalog import Catalog, Index, Shape, fingerprint
from longshore.exports.columns import check_fields, choices, shape_of
from longshore.exports.files.partitions import check_keys
from longshore.exports.formats import FORMATS
from longshore.exports.formats.dialect import CsvOptions, check_options
from longshore.exports.segments import rules as segments
from longshore.exports.segments.rules import Segment
from longshore.exports.target import BY_INDEX, CHANGE_NAMES, ExportTarget, IndexTarget
from longshore.exports.target.deliver import RESERVED_TABLES, TABLE_FORMATS, Deliver, check_template
from longshore.exports.target.share_check import check_share_as
from longshore.validation import Violation, convert, in_json, pointer, suggestion

NOT_INCREMENTAL = (
    "uses `is_in_interval`, which cannot be combined with `incremental`: a row that is written later with a date in an "
    "earlier interval would be in no increment"
)


def check_target(
    value: dict[str, Any], catalog: Catalog, at: str, before: Mapping[str, Shape | None]
) -> list[Violation]:
    """Return the violations of a target; `at` is its JSON pointer.

    `before`: the shapes that the pinned fingerprints were made of, as far as they are known.
    """
    violations = _check_names(value, catalog, at)
    target = convert(ExportTarget, value, at, [])
    if target is None:
        return violations
    format = FORMATS.get(target.export_format)
    if format and format.compression == "fixed" and target.compression:
        violations.append(Violation(f"{target.export_format} is compressed already", pointer(at, "compression")))
    if target.csv is not None:
        if target.export_format != "csv":
            violations.append(Violation("is for the format csv", pointer(at, "csv")))
        violations += check_options(target.csv, pointer(at, "csv"))
    violations += _check_files(target, at)
    if target.share_as is not None:
        violations += check_share_as(target, catalog, at)
    if target.deliver is not None:
        violations += _check_deliver(target, catalog, pointer(at, "deliver"))
    if target.deletes and not target.has_files:
        violations += _check_deletes(target.of(target.export_index), catalog.get(target.export_index), at)
    for name in dict.fromkeys(target.names):
        if name in catalog:
            violations += _check_index(target, name, catalog[name], at, before)
    return violations


def _check_deliver(target: ExportTarget, catalog: Catalog, at: str) -> list[Violation]:
    """Return the violations of the entries of `deliver`, as far as they show without the chain's destinations."""
    violations = []
    if target.deletes and target.incremental != "on_ack":
        message = (
            'needs `"incremental": "on_ack"` beside `deletes`, so that no change is skipped where a delivery fails'
        )
        violations.append(Violation(message, at))
    seen: set[tuple[str, str | None]] = set()
    for number, entry in enumerate(target.deliver or ()):
        where = pointer(at, number)
        place = entry.destination, entry.table if entry.table is not None else entry.path
        if place in seen:
            violations.append(Violation("names the same place as an entry before", where))
        seen.add(place)
        if entry.table is not None or entry.mode is not None:
            violations += _check_table(entry, target, catalog, where)
        elif (wrong_path := check_template(entry, many_files=target.has_files)) is not None:
            violations.append(Violation(wrong_path, pointer(where, "path")))
    return violations


def _check_table(entry: Deliver, target: ExportTarget, catalog: Catalog, at: str) -> list[Violation]:
    violations = []
    if entry.table is None or entry.mode is None:
        missing = "table" if entry.table is None else "mode"
        violations.append(Violation("is required: a table needs `table` and `mode`", pointer(at, missing)))
    if entry.table is not None and RESERVED_TABLES.fullmatch(entry.table):
        violations.append(Violation("names that begin with `_longshore_` or `pg_` are reserved", pointer(at, "table")))
    for key in ("path", "overwrite"):
        if getattr(entry, key):
            violations.append(Violation("is for files, not beside `table`", pointer(at, key)))
    if target.has_files:
        message = "a table takes a result of one file, without `export_indexes`, `split` and `partition_by`"
        violations.append(Violation(message, pointer(at, "table")))
    plain = target.compression is None and target.csv in (None, CsvOptions())
    if target.export_format != "parquet" and not (target.export_format == "csv" and plain):
        violations.append(Violation(TABLE_FORMATS, pointer(at, "table")))
    if entry.mode is not None and (why := _unsuited_mode(entry, target, catalog)) is not None:
        violations.append(Violation(why, pointer(at, "mode")))
    return violations


def _unsuited_mode(entry: Deliver, target: ExportTarget, catalog: Catalog) -> str | None:
    """Return why a target's rows cannot be brought to a table in this mode; None if they can."""
    if entry.mode == "replace" and target.incremental:
        return "`replace` would leave the rows of the last increment alone; expected `merge`"
    if entry.mode == "append" and target.deletes:
        return "a result with `deletes` is a list of changes; expected `merge`"
    if entry.mode == "append" and target.incremental is True:
        return '`append` would repeat rows where a delivery fails; expected `merge`, or `"incremental": "on_ack"`'
    index = None if target.has_files else catalog.get(target.export_index)
    if entry.mode == "merge" and index is not None:
        key, fields = index.key_fields, target.of(target.export_index).fields
        chosen = [name for name, _ in choices(fields, index)]
        if not key:
            return "`merge` needs a key, and this index has none in the catalog, or a column of it is no field"
        if missing := [name for name in key if name not in chosen]:
            return f"`merge` needs all fields of the key; missing: {', '.join(missing)}"
    return None


def _check_deletes(target: IndexTarget, index: Index | None, at: str) -> list[Violation]:
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
        message = f"`deletes` needs all fields of the key; missing: {', '.join(missing)}"
        violations.append(Violation(message, pointer(at, "fields")))
    for number, (_, shown) in enumerate(chosen):
        if shown in CHANGE_NAMES:
            where = pointer(pointer(at, "fields"), number) if target.fields else pointer(at, "fields")
            violations.append(
                Violation(f"{in_json(shown)} is a column that `deletes` adds; give the field another name", where)
            )
    return violations


def _check_names(value: dict[str, Any], catalog: Catalog, at: str) -> list[Violation]:
    """Return the violations of the names of indexes and format."""
    several, names = value.get("export_indexes"), [(pointer(at, "export_index"), value.get("export_index"))]
    violations: list[Violation] = []
    if several is None and "export_index" not in value:
        violations.append(Violation("is required", pointer(at, "export_index")))
    elif several is not None and "export_index" in value:
        violations.append(Violation("expected either `export_index` or `export_indexes`, got both", names[0][0]))
    if isinstance(several, list):
        where = pointer(at, "export_indexes")
        if not several:
            violations.append(Violation("expected at least one index", where))
        names += [(pointer(where, number), name) for number, name in enumerate(several)]
        seen: set[str] = set()
        for number, name in enumerate(several):
            if isinstance(name, str):
                if name in seen:
                    violations.append(Violation(f"{in_json(name)} is named before", pointer(where, number)))
                seen.add(name)
    for known, places in ((catalog, names), (FORMATS, [(pointer(at, "export_format"), value.get("export_format"))])):
        for place, name in places:
            if isinstance(name, str) and name not in known:
                hint = suggestion(name, known, violations) or f"; expected one of {', '.join(known)}"
                violations.append(Violation(f"{in_json(name)} is not known{hint}", place))
    return violations


def _check_files(target: ExportTarget, at: str) -> list[Violation]:
    """Return the violations of a result of many files."""
    violations = []
    if target.has_files and target.export_format == "xlsx":
        violations.append(
            Violation("xlsx is one workbook; expected csv, json, jsonl or parquet", pointer(at, "export_format"))
        )
    if target.split is not None and (target.split.rows is None) == (target.split.bytes is None):
        violations.append(Violation("expected either `rows` or `bytes`", pointer(at, "split")))
    if target.export_indexes is not None and target.incremental:
        violations.append(
            Violation(
                "is not supported with `export_indexes`; create one task for each index", pointer(at, "incremental")
            )
        )
    if target.deletes and target.has_files:
        violations.append(Violation("is not supported for a result of many files", pointer(at, "deletes")))
    named = set(target.names)
    for key in BY_INDEX:
        value = getattr(target, key)
        if not isinstance(value, dict):
            continue
        if target.export_indexes is None:
            violations.append(Violation("is an object by index name only with `export_indexes`", pointer(at, key)))
            continue
        violations += [
            Violation(f"{in_json(name)} is not among `export_indexes`", pointer(pointer(at, key), name))
            for name in value
            if name not in named
        ]
    return violations


def _check_index(
    target: ExportTarget, name: str, index: Index, at: str, before: Mapping[str, Shape | None]
) -> list[Violation]:
    def place(key: str) -> str:
        return pointer(pointer(at, key), name) if isinstance(getattr(target, key), dict) else pointer(at, key)

    several = target.export_indexes is not None
    if not several and any(isinstance(getattr(target, key), dict) for key in BY_INDEX):
        return []  # a violation by itself
    part = target.of(name)
    chosen = choices(part.fields, index)
    violations = check_fields(chosen, index, place("fields"))
    if part.partition_by is not None:
        violations += check_keys(part.partition_by, index, place("partition_by"))
    if part.schema is not None and not violations:
        now = shape_of(chosen, index)
        if fingerprint(now) != part.schema:
            violations.append(Violation(schemas.difference(part.schema, before.get(part.schema), now), place("schema")))
    if several:
        return [Violation(f"{each.detail} (index {name})", each.pointer) for each in violations]
    return violations


def pinned_shapes(target: object, catalog: Catalog) -> list[Shape]:
    """Return the shapes of a valid target's fields, of each index whose `schema` it pins."""
    if not isinstance(target, ExportTarget):
        return []
    parts = [target.of(name) for name in target.names]
    pinned = [(part, catalog[part.export_index]) for part in parts if part.schema is not None]
    return [shape_of(choices(part.fields, index), index) for part, index in pinned]


def check_segments(value: Any, target: Any, chain: Any, catalog: Catalog, at: str) -> list[Violation]:
    """Return the violations of the segment of a new task's trigger; `at` is its JSON pointer.

    Target and chain may be invalid, which is named elsewhere.
    """
    if value is None:
        return []
    violations: list[Violation] = []
    target = target if isinstance(target, dict) else {}
    several = target.get("export_indexes")
    if not isinstance(several, list):
        segment, index = convert(Segment, value, at, violations), target.get("export_index")
        if segment is None:
            return violations
        if target.get("incremental"):
            rules = interval_rules(segment)
            violations += [Violation(NOT_INCREMENTAL, f"{at}/rules/{number}/operator") for number in rules]
        if index is not None and isinstance(chain, int):
            violations += check_segment(segment, index, chain, catalog, at)
        return violations
    if not isinstance(value, dict):
        return [Violation("expected an object of segments by index name", at)]
    named = {name for name in several if isinstance(name, str)}
    for name, part in value.items():
        where = pointer(at, name)
        if name not in named:
            violations.append(Violation(f"{in_json(name)} is not among `export_indexes`", where))
        elif (segment := convert(Segment, part, where, violations)) is not None and isinstance(chain, int):
            violations += check_segment(segment, name, chain, catalog, where)
    return violations


def interval_rules(segment: Segment) -> list[int]:
    """Return the numbers of the rules that an incremental export must not have; see NOT_INCREMENTAL."""
    return [number for number, rule in enumerate(segment.rules) if rule.operator == "is_in_interval"]


def check_segment(segment: Segment, index: Any, chain: int, catalog: Catalog, at: str) -> list[Violation]:
    """Return the violations of a segment for this export index and chain; `at` is its JSON pointer."""
    violations = []
    if segment.chain_id != chain:
        violations.append(Violation(f"expected {chain}, the task's chain", pointer(at, "chain_id")))
    if segment.index != index:
        violations.append(Violation(f"expected {in_json(index)}, the target's index", pointer(at, "index")))
    elif segment.index in catalog:
        violations += segments.check_rules(segment, catalog[segment.index], at)
    return violations
