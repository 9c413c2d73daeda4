"""The body of `POST /tasks`: read, checked with every fault it has, and brought into the shape that is stored."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from longshore.exports import export, segment
from longshore.exports.catalog import Catalog, Shape
from longshore.exports.export import ExportTarget
from longshore.exports.segment import Segment
from longshore.faults import Fault, FaultyError, check
from longshore.tasks.lifecycle import NewTask
from longshore.tasks.model import ChainId

STORED = msgspec.json.Encoder(decimal_format="number")
LARGEST = 2**63 - 1


IndexOf = Callable[[str], Awaitable[str | None]]
"""Takes the id of a stored segment and gives its export index, or None where the chain has no such segment."""


class Trigger(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """When a task runs, and for an export which rows it takes."""

    once: datetime
    segment: Segment | None = None
    segment_id: str | None = None
    """A stored segment instead of one given here."""


class NewTaskBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `POST /tasks` takes."""

    chain: int
    desc: str
    target: ExportTarget
    trigger: Trigger
    debug: str = ""


PinnedOf = Callable[[str], Awaitable[Shape | None]]
"""Takes a fingerprint and gives the fields that it stood for when the chain pinned it, or None where it never did."""


async def read_new_task(value: Any, catalog: Catalog, index_of: IndexOf, pinned_of: PinnedOf) -> NewTask:
    """The task that a body asks for. Raises FaultyError with everything that is wrong with it."""
    faults: list[Fault] = []
    new = check(NewTaskBody, value, "", faults)
    if isinstance(value, dict):
        # The values are looked at one by one, so that a fault in one does not hide those in another.
        target = value.get("target")
        schema = target.get("schema") if isinstance(target, dict) else None
        before = await pinned_of(schema) if isinstance(schema, str) else None
        _check_parts(value, catalog, before, faults)
        faults += await _check_segment_id(value, index_of)
    if faults or new is None:
        raise FaultyError(faults)
    trigger = msgspec.structs.replace(
        new.trigger,
        once=new.trigger.once.astimezone(UTC).replace(microsecond=0),
        segment=new.trigger.segment and segment.normalised(new.trigger.segment),
        segment_id=new.trigger.segment_id and new.trigger.segment_id.lower(),
    )
    return NewTask(
        chain=ChainId(new.chain),
        desc=new.desc,
        action=new.target.action,
        trigger=STORED.encode(trigger).decode(),
        target=STORED.encode(new.target).decode(),
        debug=new.debug,
        once=new.trigger.once,
    )


def _check_parts(value: dict[str, Any], catalog: Catalog, before: Shape | None, faults: list[Fault]) -> None:
    chain = value.get("chain")
    if isinstance(chain, int) and not 1 <= chain <= LARGEST:
        faults.append(Fault("expected a positive integer", "/chain"))
    for key in ("desc", "debug"):
        if isinstance(value.get(key), str) and "\x00" in value[key]:
            faults.append(Fault("expected a string without U+0000", f"/{key}"))
    target, trigger = value.get("target"), value.get("trigger")
    if isinstance(target, dict):
        faults += export.check_target(target, catalog, "/target", before)
    if isinstance(trigger, dict):
        faults += _check_once(trigger.get("once"))
        segment = check(Segment, trigger.get("segment"), "", [])
        if segment is not None and isinstance(target, dict) and isinstance(chain, int):
            faults += export.check_segment(segment, target.get("export_index"), chain, catalog, "/trigger/segment")


async def _check_segment_id(value: dict[str, Any], index_of: IndexOf) -> list[Fault]:
    trigger, target = value.get("trigger"), value.get("target")
    if not isinstance(trigger, dict) or not isinstance(trigger.get("segment_id"), str):
        return []
    at = "/trigger/segment_id"
    if trigger.get("segment") is not None:
        return [Fault("expected either `segment` or `segment_id`, got both", at)]
    index = await index_of(trigger["segment_id"])
    if index is None:
        return [Fault("this chain has no stored segment of that id", at)]
    wanted = target.get("export_index") if isinstance(target, dict) else None
    if isinstance(wanted, str) and wanted != index:
        return [Fault(f"the segment is for the index {index!r}, the target's is {wanted!r}", at)]
    return []


def _check_once(value: Any) -> list[Fault]:
    try:
        once = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return []  # the check of the body has said so
    if once.tzinfo is None:
        return [Fault("expected an offset, such as Z or +02:00", "/trigger/once")]
    try:
        once.astimezone(UTC)
    except OverflowError:
        return [Fault("expected a time in the years 1 to 9999, in UTC too", "/trigger/once")]
    return []
