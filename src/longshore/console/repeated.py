"""The export that *Repeat as new* begins from: what the form shows of it, and what it keeps of the rest."""

from decimal import Decimal
from typing import Any

import msgspec

from longshore.api.bodies import BODY
from longshore.api.guard import admitted
from longshore.api.service import AnyRequest
from longshore.api.tasks import task_id
from longshore.api.visibility_checks import shown_task
from longshore.exports.target import decode_definition
from longshore.tasks import queries

SHARED_KEYS = ("priority", "timeout_seconds", "result_days")
"""Keys of a target that the form does not show."""
SCHEDULE_KEYS = ("until", "catch_up")
"""Keys of a trigger that repeats which the form does not show."""
EXACT = "\0"
"""Begins a text in the page's JSON that stands for a number which JavaScript would round; `encode` of console.js."""


class RepeatedExport(msgspec.Struct, frozen=True):
    """The description, target and trigger of a task, as they are stored and with exact numbers."""

    id: int
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

    def others(self, key: str, indexes: list[str]) -> dict[str, Any]:
        """Return what the indexes after the first have of `fields`, `partition_by` or `segment`."""
        return {name: value for name in indexes[1:] if (value := self.of(key, name)) is not None}

    def kept(self, indexes: list[str]) -> dict[str, Any]:
        """Return the keys of the target that the form does not show."""
        keys = (*SHARED_KEYS, "schema") if indexes == self.indexes else SHARED_KEYS
        return {key: self.target[key] for key in keys if key in self.target}

    def columns(self, index: str, chosen: list[str]) -> list[Any]:
        """Return the chosen columns of an index: those of the task in its order, under their names, then the others."""
        before = self.of("fields", index) or []
        names = [column if isinstance(column, str) else column["name"] for column in before]
        kept = [column for column, name in zip(before, names, strict=True) if name in chosen]
        return [*kept, *(name for name in chosen if name not in names)]

    def for_script(self) -> dict[str, Any]:
        """Return it for the page's JSON."""
        return {"desc": self.desc, "target": _exact(self.target), "trigger": _exact(self.trigger)}


async def repeated_export(request: AnyRequest, id: int) -> RepeatedExport | None:
    """Return the export of a task.

    None for another action, for a task that this version cannot read, or where the caller may not see its rules. Raises
    NotFoundError.
    """
    service, caller = admitted(request)
    polled = await queries.poll(service.pool, caller.chain, task_id(id))
    assert polled.task is not None
    task = shown_task(caller, service.catalog, polled.task, polled.reads)
    try:
        decode_definition(task.target, task.trigger)
        target, trigger = BODY.decode(task.target), BODY.decode(task.trigger)
    except (msgspec.MsgspecError, ArithmeticError, UnicodeDecodeError):
        return None
    if trigger.get("segment", ()) is None:
        return None
    return RepeatedExport(task.id, task.desc, target, trigger)


def form_values(export: RepeatedExport | None, index: str) -> dict[str, Any]:
    """Return the values that the form begins with, by the names of its fields; rules are not among them."""
    target, trigger = (export.target, export.trigger) if export else ({}, {})
    split = target.get("split", {})
    unit = next(iter(split), "rows")
    place = (target.get("deliver") or [{}])[0]
    columns = export and export.of("fields", index)
    keys = (export and export.of("partition_by", index)) or []
    return {
        "from": export.id if export else "",
        "desc": export.desc if export else "",
        "more": export.indexes[1:] if export else [],
        "columns": columns and [column if isinstance(column, str) else column["name"] for column in columns],
        "format": target.get("export_format", ""),
        "profile": target.get("csv", {}).get("profile", ""),
        "compression": target.get("compression", ""),
        "incremental": {True: "true"}.get(target.get("incremental", ""), target.get("incremental", "")),
        "deletes": target.get("deletes", False),
        "split": split.get(unit, ""),
        "unit": unit,
        "partition": ", ".join(":".join(filter(None, (key["field"], key.get("by")))) for key in keys),
        "place": place,
        "when": "cron" if "cron" in trigger else "now",
        "cron": trigger.get("cron", ""),
        "repeat": trigger.get("repeat", ""),
        "zone": trigger.get("timezone", "UTC"),
        "has_rules": "segment" in trigger,
    }


def _exact(value: Any) -> Any:
    """Return a JSON value whose numbers JavaScript reads as they are."""
    if isinstance(value, dict):
        return {key: _exact(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    if isinstance(value, Decimal):
        return float(value) if repr(float(value)) == str(value) else f"{EXACT}{value}"
    return f"{EXACT}{value}" if isinstance(value, int) and abs(value) >= 2**53 else value
