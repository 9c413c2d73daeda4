"""Exports as bodies of `POST /tasks` have them, and the one that *Repeat as new* begins from."""

from collections.abc import Sequence
from typing import Any

import msgspec

from longshore.api.bodies import BODY
from longshore.api.guard import service_and_caller
from longshore.api.service import AnyRequest
from longshore.api.tasks import task_id
from longshore.api.visibility_checks import hides_rules, visible_task
from longshore.console.rule_form import Line, line_of
from longshore.exports.target import decode_definition
from longshore.tasks import queries

SHARED_KEYS = ("priority", "timeout_seconds", "result_days")
"""Keys of a target that the form does not show."""
SCHEDULE_KEYS = ("until", "catch_up")
"""Keys of a trigger that repeats which the form does not show."""


class ExportBody(msgspec.Struct, frozen=True):
    """The description, target and trigger of an export, with exact numbers."""

    desc: str
    target: dict[str, Any]
    trigger: dict[str, Any]

    @property
    def indexes(self) -> list[str]:
        """Its indexes; the form shows the columns, rules and folders of the first."""
        return self.target.get("export_indexes") or [self.target.get("export_index", "")]

    def of(self, key: str, index: str) -> Any:
        """Return the columns, folders (keys of the target) or `segment` of an index; None without them."""
        if index not in self.indexes:
            return None
        place = self.trigger if key == "segment" else self.target
        value = place.get(key)
        return value.get(index) if "export_indexes" in self.target and isinstance(value, dict) else value

    def others(self, key: str, indexes: Sequence[str]) -> dict[str, Any]:
        """Return what the indexes after the first have of `fields`, `partition_by` or `segment`."""
        return {name: value for name in indexes[1:] if (value := self.of(key, name)) is not None}

    def kept(self, indexes: Sequence[str]) -> dict[str, Any]:
        """Return the keys of the target that the form does not show."""
        keys = (*SHARED_KEYS, "schema") if indexes == self.indexes else SHARED_KEYS
        return {key: self.target[key] for key in keys if key in self.target}

    def rules(self, index: str) -> list[dict[str, Any]]:
        """Return the rules of an index; none for a stored segment."""
        rules: list[dict[str, Any]] = (self.of("segment", index) or {}).get("rules", [])
        return rules

    def columns(self, index: str, chosen: Sequence[str]) -> list[Any]:
        """Return the chosen columns of an index: those of the task in its order, under their names, then the others."""
        before = self.of("fields", index) or []
        names = column_names(before)
        kept = [column for column, name in zip(before, names, strict=True) if name in chosen]
        return [*kept, *(name for name in chosen if name not in names)]


NO_EXPORT = ExportBody("", {}, {})


async def repeated_export(request: AnyRequest, id: int) -> ExportBody | None:
    """Return the export of a task, as it is stored.

    None for another action, for a task that this version cannot read, or where the caller may not see its rules. Raises
    NotFoundError.
    """
    service, caller = service_and_caller(request)
    polled = await queries.poll(service.pool, caller.chain, task_id(id))
    task = visible_task(caller, service.catalog, polled.task, polled.reads)
    if hides_rules(task):
        return None
    try:
        target = msgspec.to_builtins(decode_definition(task.target, task.trigger)[0])  # no null where it is optional
        trigger = BODY.decode(task.trigger)
    except (msgspec.MsgspecError, ArithmeticError, UnicodeDecodeError):
        return None
    return ExportBody(task.desc, target, trigger)


def column_names(columns: Sequence[Any]) -> list[str]:
    """Return the fields of columns, which a request names by them or by `{"name": …, "as": …}`."""
    return [column if isinstance(column, str) else column["name"] for column in columns]


def form_values(export: ExportBody, index: str) -> dict[str, Any]:
    """Return the values that the form begins with, by the names of its fields, and its lines of rules."""
    target, trigger = export.target, export.trigger
    split = target.get("split", {})
    unit = next(iter(split), "rows")
    columns = export.of("fields", index)
    keys = export.of("partition_by", index) or []
    lines: list[Line] = [line_of(rule) for rule in export.rules(index)]
    return {
        "desc": export.desc,
        "more": export.indexes[1:],
        "columns": columns and column_names(columns),
        "format": target.get("export_format", ""),
        "profile": target.get("csv", {}).get("profile", ""),
        "compression": target.get("compression", ""),
        "incremental": {True: "true"}.get(target.get("incremental", ""), target.get("incremental", "")),
        "deletes": target.get("deletes", False),
        "split": split.get(unit, ""),
        "unit": unit,
        "partition": ", ".join(":".join(filter(None, (key["field"], key.get("by")))) for key in keys),
        "deliver": (target.get("deliver") or [{}])[0],
        "when": "cron" if "cron" in trigger else "now",
        "cron": trigger.get("cron", ""),
        "repeat": trigger.get("repeat", ""),
        "zone": trigger.get("timezone", "UTC"),
        "has_zone": "timezone" in trigger,
        "has_rules": "segment" in trigger,
        "join": (export.of("segment", index) or {}).get("join", "all"),
        "lines": lines,
    }
