"""Changes whose transaction is open while their credential ends.

A request is authenticated before its body has arrived and before it has a database connection, and a token is cached
for a second. So each change checks its credential once more in its own transaction. Before the work of an ended
credential is listed, the changes that checked it earlier are waited for: no later change passes the check.
"""

from collections.abc import Iterable

from longshore.access.sessions import Lifetimes
from longshore.access.tokens import Caller, Level, UnauthorizedError, level_error
from longshore.database.connect import Connection
from longshore.tasks.model import ChainId

# Not a lock of the credential's row: a token's last use is written meanwhile, and two admins may end each other. One
# lock is for the credential in the chain, so that a chain neither waits for changes of another nor delays them
# (promise 5), the other is for the credential in all chains.
LOCK = """
select pg_advisory_xact_lock_shared(hashtextextended('longshore.changes ' || scope, 0)) from unnest($1::text[]) scope
"""
WAIT = "select pg_advisory_xact_lock(hashtextextended('longshore.changes ' || $1, 0))"

# A statement of its own, whose snapshot is taken after the lock.
LEVEL = "select longshore.level_of($1, $2, $3, $4, $5, $6)"

IS_SIGNED_IN = """
select from longshore.sessions
where id = $1 and used_at > now() - $2 * interval '1 second' and created_at > now() - $3 * interval '1 second'
"""


async def recheck_credential(connection: Connection, caller: Caller, needed: Level, lifetimes: Lifetimes) -> None:
    """Check the credential of a change in the transaction of the change. `needed`: the level of the endpoint.

    Raises UnauthorizedError and ForbiddenError.
    """
    credential = f"{caller.kind} {caller.id}"
    await connection.execute(LOCK, [credential, f"{credential} {caller.chain}"])
    times = (lifetimes.idle, lifetimes.total)
    level = await connection.fetchval(LEVEL, caller.kind, caller.id, caller.session, caller.chain, *times)
    if level is None and await connection.fetchrow(IS_SIGNED_IN, caller.session, *times) is None:
        raise UnauthorizedError
    if level is None or Level[level.upper()] < needed:
        raise level_error(needed)


async def lock_chains(connection: Connection, caller: Caller, chains: Iterable[int]) -> None:
    """Make `wait_for` of the caller's credential in other chains wait for this transaction, which is to concern them.

    A check of the credential's levels there comes after this.
    """
    await connection.execute(LOCK, sorted(f"{caller.kind} {caller.id} {chain}" for chain in set(chains)))


async def wait_for(connection: Connection, credentials: Iterable[str], chain: ChainId | None) -> None:
    """Wait until no transaction of a chain is open that has checked one of these credentials.

    `credentials`: such as `token 0b9f1b0e-…` or `user 7`. `chain`: None for all chains. The connection is in no
    transaction, so each lock is released at once.
    """
    for credential in credentials:
        await connection.execute(WAIT, credential if chain is None else f"{credential} {chain}")
