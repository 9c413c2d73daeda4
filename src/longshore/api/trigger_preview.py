"""`POST /tasks/preview`: the times at which a task with a trigger would run."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from litestar import post
from litestar.params import RawBody

from longshore.api.bodies import read_json
from longshore.api.guard import service_and_caller
from longshore.api.new_task import schedule_violations
from longshore.api.service import AnyRequest
from longshore.tasks.requests import NEVER_DUE
from longshore.tasks.schedule import Schedule, preview
from longshore.validation import ValidationError, Violation, convert

PREVIEWED_TIMES = 10


class ScheduleBody(Schedule, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The times at which a task runs: a trigger without the segment, on which they do not depend."""


class TriggerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /tasks/preview`."""

    trigger: ScheduleBody


class Times(msgspec.Struct, frozen=True):
    """Times at which a task with a trigger would run."""

    times: list[datetime]
    """The next ten at most, in UTC; the first is now where `once` has passed."""


@post("/tasks/preview", status_code=200)
async def preview_trigger(request: AnyRequest, body: Annotated[RawBody, TriggerBody]) -> Times:
    """Return the next ten times at most at which a task with this trigger would run."""
    service, _ = service_and_caller(request)
    value = read_json(request, body)
    violations: list[Violation] = []
    wanted = convert(TriggerBody, value, "", violations)
    if isinstance(value, dict) and isinstance(value.get("trigger"), dict):
        violations += schedule_violations(value["trigger"], "/trigger")
    if violations or wanted is None:
        raise ValidationError(violations)
    times = preview(wanted.trigger, await service.pool.fetchval("select now()"), PREVIEWED_TIMES)
    if not times:
        raise ValidationError([NEVER_DUE])
    return Times([time.astimezone(UTC).replace(microsecond=0) for time in times])
