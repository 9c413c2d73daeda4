"""The work of a credential that an admin has ended: listed in the answer, or stopped."""

from collections.abc import Sequence
from typing import Annotated

from litestar.params import QueryParameter

from longshore.access import work_of_credentials
from longshore.access.work_of_credentials import OngoingWork
from longshore.api.guard import actor, service_and_caller
from longshore.api.service import AnyRequest
from longshore.validation import Violation

Stop = Annotated[bool, QueryParameter(description="Cancel the tasks and delete the webhooks that go on.")]


async def list_or_stop(request: AnyRequest, credentials: Sequence[str], stop: bool) -> OngoingWork:
    """Return the work of ended credentials that goes on in the caller's chain; with `stop`, stop it first."""
    service, caller = service_and_caller(request)
    async with service.pool.acquire() as connection:
        if stop:
            return await work_of_credentials.stop(connection, actor(request), credentials, caller.chain)
        return await work_of_credentials.ongoing_work(connection, credentials, caller.chain)


def stop_violations(stop: bool, ends: bool, ended: str) -> list[Violation]:
    """Return the violation of a `stop` beside a change that ends no credential. `ended`: what it is for."""
    return [Violation(f"is for {ended}", parameter="stop")] if stop and not ends else []
