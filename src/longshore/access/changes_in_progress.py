"""Changes whose transaction is open while their token or session ends.

A request is authenticated before its body has arrived and before it has a database connection, and a token is cached
for a second. So each change checks its credential once more in its own transaction, and the list of the work of a token
that has ended first waits for the changes that began before: after that there can be no new ones.
"""

from collections.abc import Iterable

from longshore.access.sessions import Lifetimes
from longshore.access.tokens import Caller, Level, UnauthorizedError, level_error
from longshore.database.connect import Connection
from longshore.tasks.model import ChainId

# Not a lock of the token's row: its last use is written meanwhile, and two tokens may revoke each other. One lock is
# for the token in the chain, so that a chain neither waits for changes of another nor delays them (promise 5), the
# other is for the token in all chains.
BEGIN = """
select pg_advisory_xact_lock_shared(hashtextextended('longshore.changes ' || scope, 0))
from unnest(array[$1::text, $1 || ' ' || $2]) scope
"""
WAIT = "select pg_advisory_xact_lock(hashtextextended('longshore.changes ' || $1, 0))"

# A statement of its own, whose snapshot is taken after the lock.
LEVEL = "select longshore.level_of($1, $2, $3, $4, $5, $6)"


async def begin(connection: Connection, caller: Caller, needed: Level, lifetimes: Lifetimes) -> None:
    """Check the credential of a change in the transaction of the change. `needed`: the level of the endpoint.

    Raises UnauthorizedError and ForbiddenError.
    """
    if caller.kind == "token":  # nothing waits for changes of users
        await connection.execute(BEGIN, f"token {caller.id}", str(caller.chain))
    level = await connection.fetchval(
        LEVEL, caller.kind, caller.id, caller.session, caller.chain, lifetimes.idle, lifetimes.total
    )
    if level is None:
        raise UnauthorizedError
    if Level[level.upper()] < needed:
        raise level_error(needed)


async def wait_for(connection: Connection, tokens: Iterable[str], chain: ChainId | None) -> None:
    """Wait until no transaction of a chain is open that has checked one of these tokens.

    `tokens`: such as `token 0b9f1b0e-…`. `chain`: None for all chains. The connection is in no transaction, so
    each lock is released at once.
    """
    for token in tokens:
        await connection.execute(WAIT, token if chain is None else f"{token} {chain}")
