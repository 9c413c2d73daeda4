"""Secrets of tasks: the values of those fields of a target that are shown as null, sealed by the vault."""

from collections.abc import Mapping

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.tasks.model import ChainId, TaskId
from longshore.vault import SealedValues, Vault

SAVE = """
insert into longshore.task_secrets (task_id, sealed) values ($1, $2)
on conflict (task_id) do update set sealed = excluded.sealed
"""

DELETE = "delete from longshore.task_secrets where task_id = $1"

LOAD = "select sealed from longshore.task_secrets where task_id = $1"

SEALED = SealedValues(
    "secrets of tasks",
    """
    select t.id, t.chain_id as chain, 'task ' || t.id as owner, s.sealed
    from longshore.task_secrets s
    join longshore.tasks t on t.id = s.task_id
    """,
    "update longshore.task_secrets set sealed = $3 where task_id = $1 and sealed = $2",
)

Secrets = Mapping[str, Mapping[str, str]]
"""Values by field of the target, such as `secret_headers`, and name."""


async def save(connection: Connection, vault: Vault, chain: ChainId, task: TaskId, secrets: Secrets) -> None:
    """Replace the secrets of a task, in the connection's transaction. Raises VaultError."""
    if secrets:
        await connection.execute(SAVE, task, vault.seal(chain, _owner(task), msgspec.json.encode(secrets)))
    else:
        await connection.execute(DELETE, task)


async def load(connection: Connection | Pool, vault: Vault, chain: ChainId, task: TaskId) -> Secrets:
    """Return the secrets of a task, empty where it has none. Raises VaultError."""
    sealed = await connection.fetchval(LOAD, task)
    if sealed is None:
        return {}
    return msgspec.json.decode(vault.unseal(chain, _owner(task), sealed), type=dict[str, dict[str, str]])


def _owner(task: TaskId) -> str:
    return f"task {task}"
