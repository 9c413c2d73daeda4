"""Work that outlives the credential that made it: tasks with a run to come, and webhooks.

Ending a credential (revoking a token, disabling a client, removing a user's level) lists this work, and stops it on
request.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import structlog

from longshore.access import audit, changes_in_progress
from longshore.access.audit import Actor
from longshore.database.connect import Connection
from longshore.database.rows import structs
from longshore.errors import NotFoundError
from longshore.tasks import cancellation, queries
from longshore.tasks.cancellation import NothingToCancelError
from longshore.tasks.conditions import SETTLED
from longshore.tasks.model import ChainId, TaskId
from longshore.webhooks import stored as stored_webhooks

log = structlog.get_logger()

MAX_LISTED = 1000

# $1: credentials, such as 'token 0b9f…'. $2: a chain, or null for all. $4: the last one of the page before, or null.
TASKS = f"""
select t.id, t.chain_id as chain, t.description as desc, t.action, t.state, t.due_at as next
from longshore.tasks t
where (t.created_by = any($1::text[]) or t.defined_by = any($1::text[])) and ($2::bigint is null or t.chain_id = $2)
  and not ({SETTLED}) and ($4::bigint is null or t.id > $4)
order by t.id
limit $3
"""

WEBHOOKS = """
select id, chain_id as chain, url
from longshore.webhooks
where created_by = any($1::text[]) and ($2::bigint is null or chain_id = $2) and ($4::uuid is null or id > $4)
order by id
limit $3
"""

TOKENS_OF = "select 'token ' || id from longshore.access_tokens where client_id = $1"


class OngoingTask(msgspec.Struct, frozen=True):
    """A task that runs, has a run to come, or is delivering a result."""

    id: int
    chain: int
    desc: str
    action: str
    state: str
    next: datetime | None
    """When the next run begins; null while a run waits for a worker or is running."""


class OngoingWebhook(msgspec.Struct, frozen=True):
    """A webhook."""

    id: UUID
    chain: int
    url: str


W = TypeVar("W", OngoingTask, OngoingWebhook)


class OngoingWork(msgspec.Struct, frozen=True):
    """Tasks and webhooks that a credential made: those that go on or, once all are stopped, those that were stopped."""

    tasks: list[OngoingTask]
    """1,000 at most, oldest first."""
    webhooks: list[OngoingWebhook]
    """1,000 at most."""
    stopped: bool
    """True: all of them were stopped (tasks cancelled, webhooks deleted). False: they go on."""


async def tokens_of(connection: Connection, client: int) -> list[str]:
    """Return the tokens of a service client, in the form of `created_by`."""
    return [row[0] for row in await connection.fetch(TOKENS_OF, client)]


async def ongoing_work(connection: Connection, credentials: Sequence[str], chain: ChainId | None) -> OngoingWork:
    """Return the work of credentials that goes on in a chain; in all chains if `chain` is None.

    Credentials that have ended before this call add no more work to it. The connection is in no transaction.
    """
    await changes_in_progress.wait_for(connection, credentials, chain)
    tasks = structs(OngoingTask, await connection.fetch(TASKS, credentials, chain, MAX_LISTED, None))
    webhooks = structs(OngoingWebhook, await connection.fetch(WEBHOOKS, credentials, chain, MAX_LISTED, None))
    return OngoingWork(tasks, webhooks, stopped=False)


async def stop(connection: Connection, actor: Actor, credentials: Sequence[str], chain: ChainId | None) -> OngoingWork:
    """Cancel the tasks and delete the webhooks of credentials, each in a transaction of its own.

    Return them if all were stopped, else those that could not be stopped; the service's log has the reasons.
    The connection is in no transaction.
    """

    async def cancel(task: OngoingTask) -> None:
        try:
            await queries.lock(connection, ChainId(task.chain), TaskId(task.id))
            await cancellation.cancel(connection, ChainId(task.chain), TaskId(task.id), actor.name)
        except (NotFoundError, NothingToCancelError):  # it was deleted or has ended meanwhile
            return
        await audit.record(connection, actor, task.chain, "task.cancel", f"task {task.id}")

    async def delete(webhook: OngoingWebhook) -> None:
        try:
            await stored_webhooks.delete(connection, ChainId(webhook.chain), webhook.id)
        except NotFoundError:  # it was deleted meanwhile
            return
        await audit.record(connection, actor, webhook.chain, "webhook.delete", f"webhook {webhook.id}")

    await changes_in_progress.wait_for(connection, credentials, chain)
    tasks = [each async for each in _stopped(connection, cancel, OngoingTask, (TASKS, credentials, chain))]
    webhooks = [each async for each in _stopped(connection, delete, OngoingWebhook, (WEBHOOKS, credentials, chain))]
    all_stopped = all(was_stopped for _, was_stopped in (*tasks, *webhooks))
    return OngoingWork(
        [task for task, was_stopped in tasks if was_stopped == all_stopped][:MAX_LISTED],
        [webhook for webhook, was_stopped in webhooks if was_stopped == all_stopped][:MAX_LISTED],
        all_stopped,
    )


async def _stopped(
    connection: Connection, step: Callable[[W], Awaitable[None]], kind: type[W], query: tuple[Any, ...]
) -> AsyncIterator[tuple[W, bool]]:
    """Stop all that a statement finds, page by page, and yield each with whether it was stopped."""
    after: object = None
    while page := structs(kind, await connection.fetch(*query, MAX_LISTED, after)):
        for item in page:
            yield item, await _in_transaction(connection, step, item)
        after = page[-1].id


async def _in_transaction(connection: Connection, step: Callable[[W], Awaitable[None]], item: W) -> bool:
    """Run a step in a transaction of its own and return whether it succeeded."""
    try:
        async with connection.transaction():
            await step(item)
    except Exception as error:
        if connection.is_closed():
            raise
        log.error("work of a revoked credential not stopped", item=str(item), exc_info=error)
        return False
    return True
