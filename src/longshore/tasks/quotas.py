"""Quotas: how many tasks and how many bytes one chain may have stored. Triggers count them in `chain_usage`."""

from collections.abc import Awaitable, Callable

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.errors import ProblemError
from longshore.settings import Settings
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.model import ChainId

RunAction = Callable[[Attempt], Awaitable[RunResult]]
"""Carries out the action of an attempt."""

USAGE = "select tasks, task_bytes, result_bytes from longshore.chain_usage where chain_id = $1"


class Usage(msgspec.Struct, frozen=True):
    """The stored tasks and bytes of a chain, or their limits."""

    tasks: int = 0
    task_bytes: int = 0
    """Bytes of the descriptions, triggers, targets and debug notes of its tasks."""
    result_bytes: int = 0
    """Bytes of its stored results."""


def from_settings(settings: Settings) -> Usage:
    """Return the quota of a chain, which is the same for all of them."""
    megabyte, gigabyte = 10**6, 10**9
    return Usage(
        settings.chain_stored_tasks,
        settings.chain_task_megabytes * megabyte,
        settings.chain_result_gigabytes * gigabyte,
    )


def _quota_error(what: str, used: int, allowed: int) -> ProblemError:
    """Return the error of a chain that exceeds its quota.

    `what`: the unit, such as `tasks`; `used`: the number that the change would make; `allowed`: the quota.
    """
    detail = f"The chain's quota of {allowed:,} {what} does not hold {used:,}; delete tasks first."
    return ProblemError("quota-used-up", detail)


async def usage(connection: Connection | Pool, chain: ChainId) -> Usage:
    """Return the stored tasks and bytes of a chain."""
    row = await connection.fetchrow(USAGE, chain)
    return Usage(*row) if row else Usage()


async def check_tasks(connection: Connection, chain: ChainId, allowed: Usage, before: Usage) -> None:
    """Raise ProblemError if a chain exceeds its quota of tasks or their bytes, and has more than before.

    Call it in the transaction that has created or changed a task: the row of `chain_usage` is locked, so it is exact.
    """
    now = await usage(connection, chain)
    if now.tasks > max(allowed.tasks, before.tasks):
        raise _quota_error("tasks", now.tasks, allowed.tasks)
    if now.task_bytes > max(allowed.task_bytes, before.task_bytes):
        raise _quota_error("bytes of tasks", now.task_bytes, allowed.task_bytes)


def within_quota(run: RunAction, pool: Pool, allowed: Usage) -> RunAction:
    """Return the action with a check before it that raises ProblemError if the chain's results fill its quota."""

    async def run_within_quota(attempt: Attempt) -> RunResult:
        now = await usage(pool, attempt.chain)
        if now.result_bytes >= allowed.result_bytes:
            raise _quota_error("bytes of results", now.result_bytes, allowed.result_bytes)
        return await run(attempt)

    return run_within_quota
