"""The body of `POST /tasks`: validated with all its violations, and converted into the stored form."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from longshore.access.tokens import Caller
from longshore.actions import Action, Target
from longshore.actions.secret_fields import without_secrets
from longshore.api.bodies import time_violations
from longshore.api.ids import uuid_of
from longshore.api.service import Service
from longshore.api.source import source_connection
from longshore.api.visibility_checks import (
    refuse_hidden_definition,
    refuse_hidden_stored_segment,
    refuse_other_chain,
    visible_catalog,
)
from longshore.database.connect import Connection, Pool
from longshore.database.retry import DATABASE_ERRORS
from longshore.database.rows import MAX_BIGINT
from longshore.errors import LongshoreError, NotFoundError, ProblemError
from longshore.exports import schemas
from longshore.exports.catalog import Catalog, Shape
from longshore.exports.columns import choices
from longshore.exports.increments import change_query
from longshore.exports.segments import rules, stored
from longshore.exports.segments.rules import Segment
from longshore.exports.target import ExportTarget
from longshore.exports.target.check import NOT_INCREMENTAL, check_segments, check_target, interval_rules
from longshore.exports.target.deliver import check_takes
from longshore.tasks.model import ChainId
from longshore.tasks.requests import NewTask
from longshore.tasks.schedule import Schedule, cron_violation
from longshore.validation import ValidationError, Violation, check_nuls, convert, in_json, pointer, suggestion

log = structlog.get_logger()

STORED = msgspec.json.Encoder(decimal_format="number")


class Trigger(Schedule, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The times at which a task runs and, for an export, the rows that it takes."""

    segment: Any = None
    """The rows to take; of several indexes, an object of segments by index name."""
    segment_id: str | None = None
    """A stored segment in place of `segment`."""


class NewTaskBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /tasks`."""

    chain: int
    desc: str
    target: Any
    """The target of the action."""
    trigger: Trigger
    debug: str = ""


async def read_new_task(
    caller: Caller, service: Service, connection: Connection | Pool, value: Any
) -> tuple[NewTask, ExportTarget | Target]:
    """Return the new task of a body that `refuse_hidden_task_body` has passed, and its target.

    Raises ValidationError with all violations of the body, and ForbiddenError where it is for another chain or asks for
    more than the caller may see.
    """
    new, target = await _validated(caller, service, connection, value)
    await _refuse_unsuited(service, caller, target)
    refuse_other_chain(caller, new.chain)
    await refuse_hidden_definition(caller, service, connection, new.target, new.trigger)
    return new, target


async def _refuse_unsuited(service: Service, caller: Caller, target: ExportTarget | Target) -> None:
    """Raise ValidationError where the source says that an index cannot have deletes.

    Where the source does not answer, the task is accepted, and its runs say the same.
    """
    if not isinstance(target, ExportTarget) or not target.deletes:
        return
    part = target.of(target.export_index)
    index = service.catalog[part.export_index]
    async with service.previews.turn(caller.chain):
        try:
            async with source_connection(service, index) as source:
                await change_query.refuse_unsuited(source, index, choices(part.fields, index), caller.chain)
        except (ProblemError, *DATABASE_ERRORS) as error:
            log.warning("the source was not asked whether an index can have deletes", reason=str(error))
        except LongshoreError as error:
            raise ValidationError([Violation(str(error), "/target/deletes")]) from None


async def _validated(
    caller: Caller, service: Service, connection: Connection | Pool, value: Any
) -> tuple[NewTask, ExportTarget | Target]:
    """Return the new task of a body, and its target, validated by the part of the catalog that the caller may see."""
    catalog, actions, chain = visible_catalog(caller, service.catalog), service.actions, caller.chain
    violations: list[Violation] = []
    new = convert(NewTaskBody, value, "", violations)
    typed_target = None
    if isinstance(value, dict):
        # Each value is checked by itself, so that a violation in one does not hide those in another.
        target = value.get("target")
        pinned = _pinned(target.get("schema"), catalog) if isinstance(target, dict) else []
        # Another credential's schema may name columns that are hidden from a token with limits.
        before = {each: None if caller.limits else await schemas.load(connection, chain, each) for each in pinned}
        if "target" in value:
            typed_target = _check_target(target, actions, chain, violations)
        _check_parts(value, catalog, actions, before, violations)
        violations += await _check_segment_id(value, caller, service.catalog, connection)
        if isinstance(typed_target, ExportTarget) and typed_target.deliver is not None:
            names = [entry.destination for entry in typed_target.deliver]
            takes = await service.destinations.takes_of(chain, names)
            violations += check_takes(typed_target.deliver, takes, "/target/deliver")
        for key in ("desc", "debug", "target", "trigger"):
            check_nuls(value.get(key), f"/{key}", violations)
    if violations or new is None or typed_target is None:
        raise ValidationError(violations)
    trigger = msgspec.structs.replace(
        new.trigger,
        once=new.trigger.once and _whole(new.trigger.once),
        until=new.trigger.until and _whole(new.trigger.until),
        segment=_in_utc(new.trigger.segment, typed_target),
        segment_id=new.trigger.segment_id and new.trigger.segment_id.lower(),
    )
    fields = actions[typed_target.action].secret_fields if typed_target.action in actions else ()
    shown, secrets = without_secrets(fields, typed_target)
    task = NewTask(
        chain=ChainId(new.chain),
        desc=new.desc,
        action=typed_target.action,
        trigger=STORED.encode(trigger).decode(),
        target=STORED.encode(shown).decode(),
        debug=new.debug,
        # A task that runs once does not begin before its time, of which the stored trigger has whole seconds.
        schedule=trigger if trigger.repeats else msgspec.structs.replace(trigger, once=new.trigger.once),
        priority=typed_target.priority,
        secrets=secrets,
    )
    return task, typed_target


def _pinned(schema: Any, catalog: Catalog) -> list[str]:
    """Return the fingerprints in the `schema` of a target, those for indexes of the catalog."""
    values = [schema[name] for name in catalog if name in schema] if isinstance(schema, dict) else [schema]
    return [value for value in values if isinstance(value, str)]


def _in_utc(segment: Any, target: ExportTarget | Target) -> Any:
    """Return the valid segment of a trigger in the stored form; of several indexes, an object of them."""
    if segment is None or not isinstance(target, ExportTarget):
        return segment
    if target.export_indexes is None:
        return rules.in_utc(msgspec.convert(segment, Segment))
    return {name: rules.in_utc(msgspec.convert(one, Segment)) for name, one in segment.items()}


def _check_target(
    target: Any, actions: Mapping[str, Action], chain: ChainId, violations: list[Violation]
) -> ExportTarget | Target | None:
    if not isinstance(target, dict):
        return convert(Target, target, "/target", violations)
    action = target.get("action")
    if action == "export":
        return convert(ExportTarget, target, "/target", violations)
    if not isinstance(action, str) or action not in actions:
        names = ["export", *actions]
        hint = suggestion(str(action), names) or f"; expected one of {', '.join(names)}"
        detail = f"{in_json(action)} is not known{hint}" if "action" in target else "is required"
        violations.append(Violation(detail, "/target/action"))
        # It may be meant as an export, so the violations of one are named too.
        return convert(ExportTarget, {**target, "action": "export"}, "/target", violations)
    typed = convert(actions[action].target, target, "/target", violations)
    if typed is not None:
        violations += [
            Violation(violation.detail, f"/target{violation.pointer or ''}")
            for violation in actions[action].check(typed, chain)
        ]
    return typed


def _whole(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _check_parts(
    value: dict[str, Any],
    catalog: Catalog,
    actions: Mapping[str, Action],
    before: Mapping[str, Shape | None],
    violations: list[Violation],
) -> None:
    chain = value.get("chain")
    if isinstance(chain, int) and not 1 <= chain <= MAX_BIGINT:
        violations.append(Violation(f"expected a positive integer of at most {MAX_BIGINT}", "/chain"))
    target, trigger = value.get("target"), value.get("trigger")
    action = target.get("action") if isinstance(target, dict) else None
    exports = action == "export" or not (isinstance(action, str) and action in actions)
    if isinstance(target, dict) and exports:
        violations += check_target(target, catalog, "/target", before)
    if isinstance(trigger, dict):
        violations += schedule_violations(trigger, "/trigger")
        if not exports:
            needless = [key for key in ("segment", "segment_id") if trigger.get(key) is not None]
            violations += [Violation("is for the action export", pointer("/trigger", key)) for key in needless]
            return
        violations += check_segments(trigger.get("segment"), target, chain, catalog, "/trigger/segment")


async def _check_segment_id(
    value: dict[str, Any], caller: Caller, catalog: Catalog, connection: Connection | Pool
) -> list[Violation]:
    """Return the violations of `segment_id`. Raises ForbiddenError before it says anything of a hidden segment."""
    trigger, target = value.get("trigger"), value.get("target")
    if not isinstance(trigger, dict) or not isinstance(trigger.get("segment_id"), str):
        return []
    at = "/trigger/segment_id"
    if trigger.get("segment") is not None:
        return [Violation("expected either `segment` or `segment_id`, got both", at)]
    if isinstance(target, dict) and target.get("export_indexes") is not None:
        return [Violation("is for one index; give `segment` as an object of segments by index name", at)]
    try:
        found = await stored.get(connection, caller.chain, uuid_of(trigger["segment_id"], "segment-not-found"))
    except NotFoundError:
        return [Violation("this chain has no stored segment of that id", at)]
    refuse_hidden_stored_segment(caller, catalog, found, at)
    if (segment := stored.decode(found.segment)) is None:
        return [Violation(stored.UNREADABLE, at)]
    wanted = target.get("export_index") if isinstance(target, dict) else None
    if isinstance(wanted, str) and wanted != segment.index:
        return [
            Violation(f"the segment is for the index {in_json(segment.index)}, the target's is {in_json(wanted)}", at)
        ]
    if isinstance(target, dict) and target.get("incremental") and interval_rules(segment):
        return [Violation(f"a rule of the segment {NOT_INCREMENTAL}", at)]
    return []


def schedule_violations(trigger: dict[str, Any], at: str) -> list[Violation]:
    """Return the violations of a trigger's times beyond their types. `at`: the trigger's JSON pointer."""
    once, until = trigger.get("once"), trigger.get("until")
    begin, end = _time(once), _time(until)
    violations = time_violations(begin, pointer(at, "once")) + time_violations(end, pointer(at, "until"))
    repeat, cron, zone = trigger.get("repeat"), trigger.get("cron"), trigger.get("timezone")
    if once is None and cron is None:
        violations.append(Violation("is required where there is no `cron`", pointer(at, "once")))
    if isinstance(cron, str):
        if repeat is not None:
            violations.append(Violation("expected either `repeat` or `cron`, got both", pointer(at, "cron")))
        if (violation := cron_violation(cron)) is not None:
            violations.append(Violation(violation, pointer(at, "cron")))
    if isinstance(zone, str) and not rules.is_zone(zone):
        violations.append(Violation("expected an IANA time zone, such as Europe/Amsterdam", pointer(at, "timezone")))
    if repeat is None and cron is None:
        needless = [key for key in ("until", "catch_up") if trigger.get(key) is not None]
        violations += [Violation("is for triggers with `repeat` or `cron`", pointer(at, key)) for key in needless]
    if not violations and begin and end and end < begin:
        violations.append(Violation("lies before `once`", pointer(at, "until")))
    return violations


def _time(value: Any) -> datetime | None:
    """Return the time in a JSON value; None where it is none, which the check of types reports."""
    try:
        return msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return None
