"""All that the vault has sealed: its rotation to the newest secret, and what no secret of this machine unseals."""

import msgspec

from longshore.access import users
from longshore.database.connect import Connection, Pool
from longshore.destinations import stored as stored_destinations
from longshore.exports import signing_keys
from longshore.tasks import task_secrets
from longshore.vault import SealedValues, Vault, VaultError
from longshore.webhooks import stored as stored_webhooks

SEALED: tuple[SealedValues, ...] = (
    stored_destinations.SEALED,
    *stored_webhooks.SEALED,
    users.SEALED,
    signing_keys.SEALED,
    task_secrets.SEALED,
)

# $1: the first bytes of all that is sealed under the newest secret.
OLDER = "select * from ({}) sealed_values where substr(sealed, 1, length($1::bytea)) <> $1"


class Rotation(msgspec.Struct, frozen=True):
    """The outcome of a rotation of one kind of values."""

    name: str
    rewrapped: int
    failures: list[str]
    """The reasons why some values could not be read."""


class Backlog(msgspec.Struct, frozen=True):
    """Values that are not sealed under the newest secret."""

    older: int
    """Values of earlier secrets that this machine has."""
    failures: list[str]
    """The reasons why others could not be read."""


async def rotate(connection: Connection | Pool, vault: Vault, values: SealedValues) -> Rotation:
    """Seal the data keys of all values under the newest secret. May be interrupted, and run again.

    Each value is replaced on its own, and only as it was read, so the service may go on changing them. Raises
    VaultError where there is no secret to seal under.
    """
    rewrapped, failures = 0, []
    for row in await connection.fetch(OLDER.format(values.select), vault.newest_prefix):
        try:
            new = vault.rewrap(row["chain"], row["owner"], row["sealed"])
        except VaultError as error:
            failures.append(str(error))
            continue
        if await connection.execute(values.replace, row["id"], row["sealed"], new) != "UPDATE 0":
            rewrapped += 1
    return Rotation(values.name, rewrapped, failures)


async def backlog(connection: Connection, vault: Vault) -> Backlog:
    """Return what a rotation would have to do. Raises VaultError where there is no secret to seal under."""
    older, failures = 0, []
    for values in SEALED:
        for row in await connection.fetch(OLDER.format(values.select), vault.newest_prefix):
            try:
                vault.unseal(row["chain"], row["owner"], row["sealed"])
            except VaultError as error:
                failures.append(str(error))
            else:
                older += 1
    return Backlog(older, failures)


async def has_sealed_values(connection: Connection) -> bool:
    """Return whether anything is stored that the vault has sealed."""
    text = "select exists (select from ({}) sealed_values where sealed is not null)"
    for values in SEALED:
        if await connection.fetchval(text.format(values.select)):
            return True
    return False
