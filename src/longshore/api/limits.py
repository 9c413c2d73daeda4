"""What a token with limits may do: only some export indexes, and never some of their columns.

Such a column is neither exported, nor filtered on (who counts the rows of a filter learns what it filters), nor shown.
"""

from collections.abc import Iterable

from longshore.access.tokens import Caller, ForbiddenError, Level
from longshore.exports.catalog import Catalog, Field, Index
from longshore.exports.columns import FieldChoice
from longshore.exports.export import ExportTarget
from longshore.exports.segment import Segment
from longshore.faults import Fault, pointer


class HiddenError(Exception):
    """What was asked for holds more than the token may see; carries a fault for each such thing."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults


def may_export(caller: Caller, name: str, index: Index, at: str | None = None) -> None:
    """Raise ForbiddenError where an index is for a higher level, and HiddenError where it is beyond the token's limits.

    `at`: the JSON pointer of the index in the request's body.
    """
    needed = Level[index.level.upper()]
    if caller.level < needed:
        raise ForbiddenError(needed)
    if caller.limits and caller.limits.indexes is not None and name not in caller.limits.indexes:
        raise HiddenError([Fault(f"this token may not use the index {name!r}", at)])


def may_use(caller: Caller, name: str) -> bool:
    """Whether an index is within the token's limits."""
    return caller.limits is None or caller.limits.indexes is None or name in caller.limits.indexes


def seen(caller: Caller, name: str, index: Index) -> dict[str, Field]:
    """The fields of an index that the caller may see."""
    hidden = caller.limits.hidden if caller.limits else ()
    return {field: about for field, about in index.fields.items() if f"{name}.{field}" not in hidden}


def refuse_hidden_fields(
    caller: Caller, name: str, index: Index, fields: Iterable[str | FieldChoice] | None, at: str
) -> None:
    """Raise HiddenError where a choice of fields holds hidden ones; no choice is a choice of all."""
    visible = seen(caller, name, index)
    hidden = [field for field in index.fields if field not in visible]
    if fields is None and hidden:
        expected = f"is required: this token may not see {', '.join(hidden)}; there is {', '.join(visible)}"
        raise HiddenError([Fault(expected, at)])
    names = [field if isinstance(field, str) else field.name for field in fields or ()]
    _refuse([(each, pointer(at, number)) for number, each in enumerate(names) if each in hidden])


def refuse_hidden_rules(caller: Caller, segment: Segment, at: str) -> None:
    """Raise HiddenError where a rule is of a field that the token may not see, or of what is inside one."""
    hidden = caller.limits.hidden if caller.limits else frozenset()
    found = []
    for number, rule in enumerate(segment.rules):
        field = rule.nesting_path if rule.nested else rule.field_name
        if field and f"{segment.index}.{field}" in hidden:
            key = "nesting_path" if rule.nested else "field_name"
            found.append((field, pointer(pointer(pointer(at, "rules"), number), key)))
    _refuse(found)


def refuse_hidden_result(caller: Caller, target: ExportTarget, catalog: Catalog) -> None:
    """Raise what keeps the caller from the result of an export: ForbiddenError, HiddenError."""
    index = catalog.get(target.export_index)
    if index is not None:
        may_export(caller, target.export_index, index)
        refuse_hidden_fields(caller, target.export_index, index, target.fields, "/target/fields")


def _refuse(found: list[tuple[str, str]]) -> None:
    if found:
        raise HiddenError([Fault(f"this token may not see {name!r}", at) for name, at in found])
