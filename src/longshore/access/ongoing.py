"""What goes on that a credential made: tasks with a run to come, and webhooks. It does not end with the credential."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from longshore.access import audit
from longshore.access.audit import Actor
from longshore.database.connect import Connection
from longshore.tasks import run_ends
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.run_ends import NothingToCancelError
from longshore.webhooks import registry

MAX_LISTED = 1000

# $1: kinds and ids, such as 'token 0b9f…'. $2: a chain, or null for all.
TASKS = """
select id, chain_id, description, action, state, due_at
from longshore.tasks
where (created_by = any($1::text[]) or defined_by = any($1::text[])) and ($2::bigint is null or chain_id = $2)
  and (due_at is not null or attempt_began_at is null or state = 'INPROGRESS')
order by id
limit $3
"""

WEBHOOKS = """
select id, chain_id, url
from longshore.webhooks
where created_by = any($1::text[]) and ($2::bigint is null or chain_id = $2)
order by id
limit $3
"""

TOKENS_OF = "select 'token ' || id from longshore.access_tokens where client_id = $1"


class OngoingTask(msgspec.Struct, frozen=True):
    """A task that runs or has a run to come."""

    id: int
    chain: int
    desc: str
    action: str
    state: str
    next: datetime | None
    """When it runs next; null where it runs or waits for a worker."""


class OngoingWebhook(msgspec.Struct, frozen=True):
    """A webhook."""

    id: UUID
    chain: int
    url: str


class Ongoing(msgspec.Struct, frozen=True):
    """What a credential made that goes on without it."""

    tasks: list[OngoingTask]
    """1,000 at most, oldest first."""
    webhooks: list[OngoingWebhook]
    stopped: bool
    """Whether they were stopped: tasks cancelled, webhooks deleted. Else they go on."""


async def tokens_of(connection: Connection, client: int) -> list[str]:
    """The tokens of a service client, as `created_by` names them."""
    return [row[0] for row in await connection.fetch(TOKENS_OF, client)]


async def made_by(connection: Connection, makers: Sequence[str], chain: ChainId | None) -> Ongoing:
    """What goes on in a chain that credentials made. `makers`: kinds and ids; `chain`: None for all chains."""
    tasks = [
        OngoingTask(row["id"], row["chain_id"], row["description"], row["action"], row["state"], row["due_at"])
        for row in await connection.fetch(TASKS, makers, chain, MAX_LISTED)
    ]
    webhooks = [OngoingWebhook(*row) for row in await connection.fetch(WEBHOOKS, makers, chain, MAX_LISTED)]
    return Ongoing(tasks, webhooks, stopped=False)


async def stop(connection: Connection, actor: Actor, makers: Sequence[str], chain: ChainId | None) -> Ongoing:
    """Cancel the tasks and delete the webhooks that `made_by` gives, in the connection's transaction."""
    found = await made_by(connection, makers, chain)
    for task in found.tasks:
        try:
            await run_ends.cancel(connection, ChainId(task.chain), TaskId(task.id), actor.name)
        except NothingToCancelError:  # it has ended meanwhile
            continue
        await audit.record(connection, actor, task.chain, "task.cancel", f"task {task.id}")
    for webhook in found.webhooks:
        await registry.delete(connection, ChainId(webhook.chain), webhook.id)
        await audit.record(connection, actor, webhook.chain, "webhook.delete", f"webhook {webhook.id}")
    return msgspec.structs.replace(found, stopped=True)
