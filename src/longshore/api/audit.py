"""The resource `audit`: who did what in the chain, for its admins."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.params import QueryParameter

from longshore.access import audit
from longshore.access.audit import AuditFilter, Entry
from longshore.api.guard import AnyRequest, admitted
from longshore.api.paging import Limit, Offset, next_page
from longshore.api.tasks import PRINTABLE
from longshore.validation import ValidationError, Violation


def _word(what: str) -> Any:
    return QueryParameter(description=what, max_length=200, pattern=PRINTABLE)


def _time(what: str) -> Any:
    return QueryParameter(description=what, schema_extra={"format": "date-time"})


def _moment(name: str, given: str | None, violations: list[Violation]) -> datetime | None:
    """A time as a client gives it (RFC 3339), or a fault."""
    if given is None:
        return None
    try:
        time = msgspec.convert(given, datetime)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        pass
    violations.append(Violation("expected a time with an offset, such as 2026-05-26T12:00:00Z", parameter=name))
    return None


@get(
    "/audit",
)
async def list_entries(
    request: AnyRequest,
    action: Annotated[str | None, _word("Only this action, such as `task.create`.")] = None,
    actor: Annotated[str | None, _word("Only what this one did, such as `user 7`.")] = None,
    object: Annotated[str | None, _word("Only what was done to this, such as `task 12`.")] = None,
    since: Annotated[str | None, _time("Only from this time on.")] = None,
    until: Annotated[str | None, _time("Only before this time.")] = None,
    limit: Limit = 25,
    offset: Offset = 0,
) -> Response[list[Entry]]:
    """Who did what in the chain, newest first. For all of it, export the index `audit`."""
    service, caller = admitted(request)
    violations: list[Violation] = []
    sought = AuditFilter(
        action, actor, object, _moment("since", since, violations), _moment("until", until, violations)
    )
    if violations:
        raise ValidationError(violations)
    found, more = await audit.entries(service.pool, caller.chain, sought, limit, offset)
    return Response(found, headers=next_page(request, more, limit, offset))
