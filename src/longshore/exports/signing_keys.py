"""The keys that sign manifests, as the database keeps them: private ones sealed by the vault, public ones for ever.

A worker signs with the newest key that its vault can unseal. Where there is none it makes one: at the first export, and
where LONGSHORE_SECRET is another one. Without LONGSHORE_SECRET the vault seals nothing; then each worker process has a
key of its own, of which only the public half is stored. So every manifest is signed, and verifies by the JWK Set.
"""

import asyncpg
import structlog

from longshore.database.connect import Connection, Pool
from longshore.exports.signatures import KeySet, PublicKey, SigningKey, to_base64url
from longshore.vault import SHARED_CHAIN, SealedValues, Vault, VaultError

log = structlog.get_logger()

CURRENT = """
select kid, public_key, sealed from longshore.signing_keys where sealed is not null order by created_at desc, kid
"""

# Two workers that find no key make one: the second one waits here, and finds that of the first.
LOCK = "lock table longshore.signing_keys in share row exclusive mode"

ADD = "insert into longshore.signing_keys (kid, public_key, sealed) values ($1, $2, $3)"

# Private keys are destroyed with their replacement, so only the newest one can sign.
RETIRE = "update longshore.signing_keys set sealed = null where sealed is not null"

PUBLIC = "select kid, public_key from longshore.signing_keys order by created_at desc, kid"

SEALED = SealedValues(
    "signing keys",
    f"select kid as id, {SHARED_CHAIN} as chain, 'signing key ' || kid as owner, sealed from longshore.signing_keys",
    "update longshore.signing_keys set sealed = $3 where kid = $1 and sealed = $2",
)


class SigningKeys:
    """The signing key of a worker."""

    def __init__(self, pool: Pool, vault: Vault) -> None:
        """`pool`: of the service's database."""
        self._pool = pool
        self._vault = vault
        self._unstored: SigningKey | None = None
        """The key of this process, where the vault seals nothing."""

    async def current(self) -> SigningKey:
        """Return the key to sign with."""
        found = await self._stored(self._pool) or self._unstored
        if found is not None:
            return found
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK)
            if (found := await self._stored(connection) or self._unstored) is not None:
                return found
            key = SigningKey.new()
            sealed = self._sealed(key)
            await connection.execute(ADD, key.kid, key.public, sealed)
        if sealed is None:
            self._unstored = key
        return key

    async def _stored(self, connection: Connection | Pool) -> SigningKey | None:
        for row in await connection.fetch(CURRENT):
            try:
                private = self._vault.unseal(SHARED_CHAIN, owner(row["kid"]), row["sealed"])
            except VaultError as error:
                log.warning("signing key not usable", kid=row["kid"], reason=str(error))
            else:
                return SigningKey(row["public_key"], private)
        return None

    def _sealed(self, key: SigningKey) -> bytes | None:
        try:
            return self._vault.seal(SHARED_CHAIN, owner(key.kid), key.private)
        except VaultError as error:
            log.warning("signing key lives as long as this process", kid=key.kid, reason=str(error))
            return None


async def rotate(connection: Connection, vault: Vault) -> tuple[str, int]:
    """Replace the signing key, in the connection's transaction. Return the kid of the new one and the number of keys.

    Raises VaultError.
    """
    key = SigningKey.new()
    sealed = vault.seal(SHARED_CHAIN, owner(key.kid), key.private)
    await connection.execute(LOCK)
    await connection.execute(RETIRE)
    await connection.execute(ADD, key.kid, key.public, sealed)
    return key.kid, await connection.fetchval("select count(*) from longshore.signing_keys")


async def public_keys(pool: Pool) -> KeySet:
    """Return the keys that manifests have been signed with."""
    return KeySet([_public(row) for row in await pool.fetch(PUBLIC)])


def owner(kid: str) -> str:
    """Return the owner of a sealed private key, as the vault names it."""
    return f"signing key {kid}"


def _public(row: asyncpg.Record) -> PublicKey:
    return PublicKey(row["kid"], to_base64url(row["public_key"]))
