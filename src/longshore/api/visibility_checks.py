"""Checks of what a credential may see and change of a chain's tasks, segments and indexes.

A hidden column is not exported, not shown, and not filtered on, as the number of matching rows reveals its values.
Tasks and runs are judged by what they recorded, see `exports.rights`; `routes.ENDPOINTS` has each endpoint's check.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from longshore.access.tokens import Caller, ForbiddenError, Level, level_error
from longshore.api.bodies import stored_members
from longshore.api.segment_bodies import PreviewBody
from longshore.api.service import Service
from longshore.database.connect import Connection, Pool
from longshore.database.rows import as_uuid
from longshore.errors import NotFoundError, ProblemError
from longshore.exports.catalog import Catalog
from longshore.exports.columns import FieldChoice
from longshore.exports.rights import (
    allows_index,
    hidden_columns,
    level_for,
    may_see,
    may_see_task,
    missing_columns,
    stored_export,
    visible_catalog_for,
)
from longshore.exports.segments import stored as stored_segments
from longshore.exports.segments.rules import Segment, column_of
from longshore.exports.segments.stored import StoredSegment
from longshore.exports.target import ExportTarget, ExportTrigger
from longshore.tasks import requests
from longshore.tasks.model import HIDDEN_MESSAGE, LogEntry, Task, TaskId
from longshore.tasks.reads import Read
from longshore.tasks.requests import EditableTask
from longshore.validation import Violation, convert, in_json, pointer

# Log entries without data of the source.
PUBLIC_MESSAGE = re.compile(r"[A-Z]+ -> [A-Z]+|success")


def _hidden(violations: list[Violation]) -> ForbiddenError:
    """Return the error for a request that asks for more than the token may see, with a violation for each such part."""
    return ForbiddenError("forbidden", "The token may not see all that this asks for.", violations=violations)


def refuse_other_chain(caller: Caller, chain: int) -> None:
    """Raise ProblemError for a body that names another chain than the credential is for."""
    if chain != caller.chain:
        raise ProblemError("forbidden", f"The credential is for chain {caller.chain}, the body says {chain}.")


def refuse_hidden_index(caller: Caller, name: str, catalog: Catalog, at: str | None = None) -> None:
    """Raise ForbiddenError where an index is for a higher level or beyond the token's limits.

    `at`: the JSON pointer of the index in the request's body. An index that the catalog lacks is left to validation.
    """
    if name not in catalog:
        return
    needed = Level[catalog[name].level.upper()]
    if caller.level < needed:
        raise level_error(needed)
    if caller.limits is None or allows_index(caller.limits, name, catalog):
        return
    if missing_columns(caller.limits, name, catalog):
        why = f"the catalog has renamed a column that is hidden from this token, so {in_json(name)} is closed to it"
        raise _hidden([Violation(why, at)])
    raise _hidden([Violation(f"this token may not use the index {in_json(name)}", at)])


def refuse_hidden_fields(
    caller: Caller, name: str, catalog: Catalog, fields: Iterable[str | FieldChoice] | None, at: str
) -> None:
    """Raise ForbiddenError where a choice of fields has hidden ones; None chooses all."""
    hidden = hidden_columns(caller.limits, name)
    if fields is None and hidden:
        seen = ", ".join(field for field in catalog[name].fields if field not in hidden)
        expected = f"is required: this token may not see all fields; there is {seen}"
        raise _hidden([Violation(expected, at)])
    names = [field if isinstance(field, str) else field.name for field in fields or ()]
    _refuse([pointer(at, number) for number, each in enumerate(names) if each in hidden])


def refuse_hidden_key(caller: Caller, target: ExportTarget, catalog: Catalog) -> None:
    """Raise ForbiddenError where an export asks for deletes and the key of its index has a hidden column."""
    hidden = hidden_columns(caller.limits, target.export_index)
    if target.deletes and hidden & set(catalog[target.export_index].key_fields):
        raise _hidden([Violation("this token may not see the key of the index", "/target/deletes")])


def refuse_hidden_rules(caller: Caller, segment: Segment, at: str) -> None:
    """Raise ForbiddenError where a rule filters on a hidden field, or on a member of one."""
    hidden = hidden_columns(caller.limits, segment.index)
    places = []
    for number, rule in enumerate(segment.rules):
        if column_of(rule) in hidden:
            key = "nesting_path" if rule.nested else "field_name"
            places.append(pointer(pointer(pointer(at, "rules"), number), key))
    _refuse(places)


def refuse_hidden_task_body(caller: Caller, catalog: Catalog, value: Any) -> None:
    """Raise ForbiddenError for the task of a body, before its validation.

    Malformed parts are left to the validation, which uses the part of the catalog that the caller may see.
    """
    if not isinstance(value, dict):
        return
    target = convert(ExportTarget, value.get("target"), "", [])
    trigger = value.get("trigger")
    given = trigger.get("segment") if isinstance(trigger, dict) else None
    if target is not None:
        refuse_hidden_target(caller, catalog, target)
    segments = {"": given} if target is None or target.export_indexes is None else given
    for name, one in segments.items() if isinstance(segments, dict) else ():
        if (segment := convert(Segment, one, "", [])) is not None:
            refuse_hidden_rules(caller, segment, pointer("/trigger/segment", name) if name else "/trigger/segment")


def refuse_hidden_target(caller: Caller, catalog: Catalog, target: ExportTarget) -> None:
    """Raise ForbiddenError where a target asks for an index, field or partition that is hidden."""
    names = target.names
    for name in dict.fromkeys(names):
        if name not in catalog:
            continue
        at = "/target/export_index" if target.export_indexes is None else f"/target/export_indexes/{names.index(name)}"
        refuse_hidden_index(caller, name, catalog, at)
        part = target.of(name)

        def place(key: str, name: str = name) -> str:
            at = pointer("/target", key)
            return pointer(at, name) if isinstance(getattr(target, key), dict) else at

        if not isinstance(part.fields, dict):
            refuse_hidden_fields(caller, name, catalog, part.fields, place("fields"))
        if isinstance(part.partition_by, list):
            keys = [key.field for key in part.partition_by]
            refuse_hidden_fields(caller, name, catalog, keys, place("partition_by"))
        refuse_hidden_key(caller, part, catalog)


def refuse_hidden_segment_body(caller: Caller, catalog: Catalog, value: Any) -> None:
    """Raise ForbiddenError for a body with a segment that is hidden in part, before its validation."""
    segment = convert(Segment, value.get("segment"), "", []) if isinstance(value, dict) else None
    if segment is not None:
        refuse_hidden_segment(caller, catalog, segment, "/segment")


def refuse_hidden_preview_body(caller: Caller, catalog: Catalog, value: Any) -> None:
    """Raise ForbiddenError for the preview of a body, before its validation."""
    preview = convert(PreviewBody, value, "", [])
    if preview is None:
        refuse_hidden_segment_body(caller, catalog, value)
        return
    refuse_hidden_segment(caller, catalog, preview.segment, "/segment")
    if preview.fields is not None:
        refuse_hidden_fields(caller, preview.segment.index, catalog, preview.fields, "/fields")


def refuse_hidden_segment(caller: Caller, catalog: Catalog, segment: Segment, at: str) -> None:
    """Raise ForbiddenError where a caller may not see a segment; `at` is its JSON pointer."""
    refuse_hidden_index(caller, segment.index, catalog, pointer(at, "index"))
    refuse_hidden_rules(caller, segment, at)


def refuse_hidden_stored_segment(caller: Caller, catalog: Catalog, stored: StoredSegment, at: str) -> None:
    """Raise ForbiddenError where a caller may not see a stored segment; `at` is its JSON pointer.

    One that this version cannot read is visible to those who may see everything.
    """
    if caller.limits is None:  # all rules are visible, so they are not decoded
        index = stored_segments.index_of(stored)
        if not index and caller.level < Level.ADMIN:
            raise level_error(Level.ADMIN)
        refuse_hidden_index(caller, index, catalog, pointer(at, "index"))
    elif (segment := stored_segments.decode(stored.segment)) is not None:
        refuse_hidden_segment(caller, catalog, segment, at)
    else:
        raise _hidden([Violation(f"{stored_segments.UNREADABLE}, which this token may not see all of", at)])


def visible_segment(caller: Caller, catalog: Catalog, stored: StoredSegment) -> StoredSegment:
    """Return a stored segment, without its rules where the caller may not see them."""
    try:
        refuse_hidden_stored_segment(caller, catalog, stored, "")
    except ForbiddenError:
        return msgspec.structs.replace(stored, segment=None)
    return stored


async def refuse_hidden_definition(
    caller: Caller, service: Service, connection: Connection | Pool, target: str | bytes, trigger: str | bytes
) -> None:
    """Raise ForbiddenError where a caller may not see all that a valid target and trigger ask for."""
    if (definition := _export(caller, target, trigger)) is None:
        return
    asked, rules = definition
    refuse_hidden_target(caller, service.catalog, asked)
    for name in asked.names:
        segment = rules.of(asked, name)
        if segment is not None:
            at = "/trigger/segment" if asked.export_indexes is None else pointer("/trigger/segment", name)
            refuse_hidden_rules(caller, segment, at)
    stored = as_uuid(rules.segment_id or "")
    if stored is not None:
        try:
            found = await stored_segments.get(connection, caller.chain, stored)
        except NotFoundError:
            return  # deleted meanwhile; for a new task, validation found it
        refuse_hidden_stored_segment(caller, service.catalog, found, "/trigger/segment_id")


def refuse_hidden_run(caller: Caller, catalog: Catalog, reads: list[Read]) -> None:
    """Raise ForbiddenError where a caller may not see all that a run has read."""
    if may_see(caller, reads, catalog):
        return
    needed = max(level_for(read, catalog) for read in reads)
    if caller.level < needed:
        raise level_error(needed)
    raise _hidden([Violation("this token may not see all that was read for it")])


async def changeable_task(
    service: Service, caller: Caller, connection: Connection | Pool, task: TaskId
) -> EditableTask:
    """Return a task to change, if the caller may see all that it has read and all that it asks for now.

    Raises NotFoundError and ForbiddenError.
    """
    editable = await requests.editable(connection, caller.chain, task)
    refuse_hidden_run(caller, service.catalog, editable.reads)
    await refuse_hidden_definition(caller, service, connection, editable.target, editable.trigger)
    return editable


def visible_task(caller: Caller, catalog: Catalog, task: Task, reads: list[Read]) -> Task:
    """Return a task as the caller may see it: without rules and log messages that show hidden data."""
    if may_see_task(caller, catalog, task.target, task.trigger, reads):
        return task
    trigger = stored_members(task.trigger)
    hidden = msgspec.Raw(msgspec.json.encode(trigger | ({"segment": None} if "segment" in trigger else {})))
    return msgspec.structs.replace(task, trigger=hidden, logs=[visible_entry(entry) for entry in task.logs])


def hides_rules(task: Task) -> bool:
    """Return whether `visible_task` has left the rules of a task out."""
    return stored_members(task.trigger).get("segment", ()) is None


def visible_entry(entry: LogEntry) -> LogEntry:
    """Return a log entry without counts, and without a message that may have data of the source."""
    return LogEntry(msg=entry.msg if PUBLIC_MESSAGE.fullmatch(entry.msg) else HIDDEN_MESSAGE, time=entry.time)


def _export(caller: Caller, target: str | bytes, trigger: str | bytes) -> tuple[ExportTarget, ExportTrigger] | None:
    """Return the export of a stored task; None for another action.

    Raises ForbiddenError where this version cannot decode the task and the caller's token has limits.
    """
    try:
        return stored_export(target, trigger)
    except msgspec.MsgspecError:
        if caller.limits is None:
            return None
        raise _hidden([Violation("what this task asks for cannot be judged by the limits of this token")]) from None


def visible_catalog(caller: Caller, catalog: Catalog) -> Catalog:
    """Return the catalog for validating a body of the caller, so that no answer names what is hidden from it."""
    return visible_catalog_for(caller.limits, catalog)


def _refuse(places: list[str]) -> None:
    # Without the field's name: the rule may be a stored one of another credential.
    if places:
        raise _hidden([Violation("this token may not see this field", at) for at in places])
