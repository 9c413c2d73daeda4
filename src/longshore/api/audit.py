"""The resource `audit`: entries of the chain's audit log, for its admins."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.params import QueryParameter

from longshore.access import audit
from longshore.access.audit import AuditFilter, Entry
from longshore.api.guard import service_and_caller
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.service import AnyRequest
from longshore.api.tasks import PRINTABLE
from longshore.database.rows import Page
from longshore.validation import ValidationError, Violation


def _text(description: str) -> Any:
    return QueryParameter(description=description, max_length=200, pattern=PRINTABLE)


def _time(description: str) -> Any:
    return QueryParameter(description=description, schema_extra={"format": "date-time"})


def _moment(name: str, text: str | None, violations: list[Violation]) -> datetime | None:
    """Return the time in a parameter (RFC 3339); None without one, or with a violation where it is none."""
    if text is None:
        return None
    try:
        time = msgspec.convert(text, datetime)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        pass
    violations.append(Violation("expected a time with an offset, such as 2026-05-26T12:00:00Z", parameter=name))
    return None


@get("/audit")
async def list_audit_entries(  # noqa: PLR0913 (the parameters of the query)
    request: AnyRequest,
    action: Annotated[str | None, _text("Only this action, such as `task.create`.")] = None,
    actor: Annotated[str | None, _text("Only entries of this credential, such as `user 7`.")] = None,
    object: Annotated[str | None, _text("Only entries about this resource, such as `task 12`.")] = None,
    since: Annotated[str | None, _time("Only from this time on.")] = None,
    until: Annotated[str | None, _time("Only before this time.")] = None,
    limit: Limit = 25,
    offset: Offset = 0,
) -> Response[list[Entry]]:
    """Return entries of the chain's audit log, newest first. To get the whole log, export the index `audit`."""
    service, caller = service_and_caller(request)
    violations: list[Violation] = []
    wanted = AuditFilter(
        action, actor, object, _moment("since", since, violations), _moment("until", until, violations)
    )
    if violations:
        raise ValidationError(violations)
    page = Page(limit, offset)
    return page_response(request, await audit.entries(service.pool, caller.chain, wanted, page), page)
