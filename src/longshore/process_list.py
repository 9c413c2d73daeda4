"""The list of running processes: each renews its entry every few seconds, with the secrets of the vault that it has.

A process reads LONGSHORE_SECRET when it starts, so a rotation asks here whether all of them have the newest one.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.retry import DATABASE_ERRORS, repeating

PAUSE_SECONDS = 10.0  # between two heartbeats
MAX_SILENCE_SECONDS = 60.0  # of a process that counts as running
LEAVE_SECONDS = 2.0  # at most, for a process that ends to leave the list

# The end of a name distinguishes pods.
NAME = f"{socket.gethostname().partition('.')[0][-30:]}:{os.getpid()}"

ANNOUNCE = """
with gone as (
    delete from longshore.processes where seen_at < now() - interval '1 day'
)
insert into longshore.processes (id, name, secrets) values ($1, $2, $3)
on conflict (id) do update set seen_at = now(), secrets = excluded.secrets
"""

LEAVE = "delete from longshore.processes where id = $1"

LACKING = f"""
select name, extract(epoch from now() - seen_at)::int as silent_seconds
from longshore.processes
where $1 <> all(secrets) and seen_at > now() - interval '{MAX_SILENCE_SECONDS} seconds'
order by name, seen_at
"""


class LackingProcess(msgspec.Struct, frozen=True):
    """A running process that lacks a secret."""

    name: str
    silent_seconds: int
    """Since its last heartbeat."""


@contextlib.asynccontextmanager
async def listed_while_running(pool: Pool, kind: str, secrets: Sequence[bytes]) -> AsyncIterator[None]:
    """Have this process in the list while the context is open.

    `kind`: `api` or `worker`. `secrets`: the ids of those that it has, see `Vault.prefixes`.
    """
    id = uuid4()

    async def announce() -> None:
        await pool.execute(ANNOUNCE, id, f"{kind} {NAME}", list(secrets))

    try:
        async with repeating("process list", PAUSE_SECONDS, announce):
            yield
    finally:
        with contextlib.suppress(TimeoutError, *DATABASE_ERRORS):
            async with asyncio.timeout(LEAVE_SECONDS):  # also for a connection
                await pool.execute(LEAVE, id)


async def lacking(connection: Connection | Pool, secret: bytes) -> list[LackingProcess]:
    """Return the running processes that lack a secret, by its id."""
    return [LackingProcess(**row) for row in await connection.fetch(LACKING, secret)]
