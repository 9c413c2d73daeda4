"""The resource `audit`: who did what in the chain, for its admins."""

from datetime import datetime
from typing import Annotated, Any

from litestar import Response, get
from litestar.params import Parameter

from longshore.access import audit
from longshore.access.audit import Entry, Sought
from longshore.access.tokens import Level
from longshore.api.access import SECURITY, AnyRequest, admitted
from longshore.api.documentation import problems
from longshore.api.paging import Limit, Offset, next_page
from longshore.api.tasks import PRINTABLE
from longshore.faults import Fault, FaultyError


def _word(what: str) -> Any:
    return Parameter(description=what, max_length=200, pattern=PRINTABLE)


@get(
    "/audit",
    opt={
        "level": Level.ADMIN,
        "parameters": ("action", "actor", "object", "since", "until", "limit", "offset"),
    },
    security=SECURITY,
    responses=problems(400),
)
async def list_entries(
    request: AnyRequest,
    action: Annotated[str | None, _word("Only this action, such as `task.create`.")] = None,
    actor: Annotated[str | None, _word("Only what this one did, such as `user 7`.")] = None,
    object: Annotated[str | None, _word("Only what was done to this, such as `task 12`.")] = None,
    since: Annotated[datetime | None, Parameter(description="Only from this time on.")] = None,
    until: Annotated[datetime | None, Parameter(description="Only before this time.")] = None,
    limit: Limit = 25,
    offset: Offset = 0,
) -> Response[list[Entry]]:
    """Who did what in the chain, newest first. For all of it, export the index `audit`."""
    service, caller = admitted(request)
    times = {"since": since, "until": until}
    naive = [name for name, time in times.items() if time is not None and time.tzinfo is None]
    if naive:
        raise FaultyError([Fault("expected an offset, such as Z or +02:00", parameter=name) for name in naive])
    sought = Sought(action, actor, object, since, until)
    found, more = await audit.entries(service.pool, caller.chain, sought, limit, offset)
    return Response(found, headers=next_page(request, more, limit, offset))
