"""The destinations of chains: create, read, change, delete, and open one for a delivery.

Promise 5 is kept here: the chain is part of every `where`, so another chain's destination is the same as a missing one.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID, uuid4

import asyncpg
import msgspec

from longshore.database.connect import Connection, Pool
from longshore.database.rows import Page, fetch_page, raw_json
from longshore.destinations.kind import DestinationError, DestinationUnavailableError, Kind, OpenDestination
from longshore.destinations.redaction import holds_secret
from longshore.errors import NotFoundError, ProblemError
from longshore.exports.run_errors import is_retryable
from longshore.settings import Settings
from longshore.tasks.model import ChainId, CredentialName
from longshore.validation import in_json
from longshore.vault import SealedValues, Vault, VaultError

MAX_DESTINATIONS = 100  # of a chain

# A statement of its own: the count of the next statement then sees the destination of a request that was first.
LOCK_CHAIN = "select pg_advisory_xact_lock(hashtextextended('longshore.destinations', $1))"

COLUMNS = """
id, name, kind, settings, date_trunc('second', created_at) as created, date_trunc('second', modified_at) as modified,
created_by, revision
"""

CREATE = f"""
insert into longshore.destinations (id, chain_id, name, kind, settings, secret, created_by)
select $1, $2, $3, $4, $5, $6, $7
where (select count(*) from longshore.destinations where chain_id = $2) < {MAX_DESTINATIONS}
returning {COLUMNS}
"""

GET = f"select {COLUMNS} from longshore.destinations where id = $1 and chain_id = $2"

LIST = f"""
select {COLUMNS} from longshore.destinations where chain_id = $1 order by created_at desc, id limit $2 offset $3
"""

CHANGE = f"""
update longshore.destinations
set settings = $3, secret = $4, modified_at = greatest(modified_at, now()), revision = revision + 1
where id = $1 and chain_id = $2
returning {COLUMNS}
"""

DELETE = "delete from longshore.destinations where id = $1 and chain_id = $2 returning id"

FIND = "select id, kind, settings, secret from longshore.destinations where chain_id = $1 and name = $2"

SEALED_OF = "select secret from longshore.destinations where id = $1 and chain_id = $2"

KINDS_OF = "select name, kind from longshore.destinations where chain_id = $1 and name = any($2::text[])"

SEALED = SealedValues(
    "destinations",
    "select id, chain_id as chain, 'destination ' || id as owner, secret as sealed from longshore.destinations",
    "update longshore.destinations set secret = $3 where id = $1 and secret = $2",
)

S = TypeVar("S", bound=msgspec.Struct)


class Destination(msgspec.Struct, frozen=True):
    """A chain's own place for results. Its secret is never shown. Times are UTC, in whole seconds."""

    id: UUID
    name: str
    kind: str
    settings: Any
    created: datetime
    modified: datetime
    created_by: str | None
    """Kind and id of the credential that created it, such as `user 7`."""


class StoredDestination(msgspec.Struct, frozen=True):
    """A destination, and the revision it was read at."""

    destination: Destination
    revision: int


class Destinations:
    """The destinations of all chains, with their kinds and secrets."""

    def __init__(self, pool: Pool, kinds: Mapping[str, Kind], vault: Vault, settings: Settings) -> None:
        self.kinds = kinds
        self._pool = pool
        self._vault = vault
        self._settings = settings

    @contextlib.asynccontextmanager
    async def open(self, chain: ChainId, name: str) -> AsyncIterator[OpenDestination]:
        """Connect to a destination. Raises DestinationError and DestinationUnavailableError."""
        row = await self._pool.fetchrow(FIND, chain, name)
        if row is None:
            raise DestinationError(f"chain {chain} has no destination {in_json(name)}: it was deleted")
        kind = self.kinds.get(row["kind"])
        if kind is None:
            raise DestinationUnavailableError(  # in a deployment, other workers may have it already
                f"destination {in_json(name)}: no package on this worker has the kind {in_json(row['kind'])}; install"
                " it on every machine"
            )
        settings = stored_settings(kind, name, row["settings"])
        try:
            secret = self._unseal(kind, chain, row["id"], row["secret"])
        except VaultError as error:
            # It works again once the operator has restored the setting that the message names.
            raise DestinationUnavailableError(f"destination {in_json(name)}: {error}") from None
        try:
            async with kind.open(settings, secret, self._settings.outbound_networks_of(chain)) as opened:
                yield opened
        except Exception as error:
            if not holds_secret(error, kind.hidden(secret)):
                raise
            raised = DestinationUnavailableError if is_retryable(error) else DestinationError
            raise raised(
                f"destination {in_json(name)}: {type(error).__name__}, whose message is not shown, as it holds a secret"
            ) from None

    async def takes_of(self, chain: ChainId, names: Sequence[str]) -> dict[str, Literal["files", "tables"]]:
        """Return what each destination of a chain takes, by name, for those that exist and whose kind is installed."""
        rows = await self._pool.fetch(KINDS_OF, chain, list(names))
        return {row["name"]: self.kinds[row["kind"]].takes for row in rows if row["kind"] in self.kinds}

    async def create(
        self, connection: Connection, chain: ChainId, new: "NewDestination", by: CredentialName
    ) -> StoredDestination:
        """Store a valid destination in the connection's transaction. Raises ProblemError and VaultError."""
        await connection.execute(LOCK_CHAIN, chain)
        id = uuid4()
        settings, sealed = _text(new.settings), self._seal(chain, id, new.secret)
        try:
            row = await connection.fetchrow(CREATE, id, chain, new.name, new.kind, settings, sealed, by)
        except asyncpg.UniqueViolationError:
            raise ProblemError(
                "destination-exists", f"Chain {chain} has a destination {in_json(new.name)} already."
            ) from None
        if row is None:
            raise ProblemError("too-many-destinations", f"Chain {chain} has {MAX_DESTINATIONS} already.")
        return _stored(**row)

    async def change(
        self, connection: Connection, chain: ChainId, id: UUID, settings: msgspec.Struct, secret: msgspec.Struct
    ) -> StoredDestination:
        """Replace settings and secret of a destination. Raises NotFoundError and VaultError."""
        row = await connection.fetchrow(CHANGE, id, chain, _text(settings), self._seal(chain, id, secret))
        if row is None:
            raise NotFoundError("destination-not-found")
        return _stored(**row)

    async def secret(self, connection: Connection | Pool, chain: ChainId, id: UUID, kind: Kind) -> Any:
        """Return the secret of a destination, as its kind's struct. Raises NotFoundError and VaultError."""
        sealed = await connection.fetchval(SEALED_OF, id, chain)
        if sealed is None:
            raise NotFoundError("destination-not-found")
        return self._unseal(kind, chain, id, sealed)

    def _seal(self, chain: int, id: UUID, secret: msgspec.Struct) -> bytes:
        """Return the secret of a destination as it is stored. Raises VaultError."""
        return self._vault.seal(chain, _owner(id), msgspec.json.encode(secret))

    def _unseal(self, kind: Kind, chain: int, id: UUID, sealed: bytes) -> Any:
        """Return a stored secret as its kind's struct. Raises VaultError and DestinationError."""
        value = self._vault.unseal(chain, _owner(id), sealed)
        try:
            return msgspec.json.decode(value, type=kind.secret)
        except msgspec.MsgspecError:  # the message would hold parts of the secret
            raise DestinationError("this version cannot read the destination's secret: send it again") from None


class NewDestination(msgspec.Struct, frozen=True):
    """A validated destination, ready to be stored."""

    name: str
    kind: str
    settings: msgspec.Struct
    secret: msgspec.Struct


def stored_settings(kind: Kind, name: str, settings: str) -> Any:
    """Return stored settings as their kind's struct. Raises DestinationError."""
    try:
        return msgspec.json.decode(settings, type=kind.settings)
    except msgspec.MsgspecError as error:
        raise DestinationError(f"destination {in_json(name)}: this version cannot read its settings: {error}") from None


async def get(connection: Connection | Pool, chain: ChainId, id: UUID, *, lock: bool = False) -> StoredDestination:
    """Return a destination. Raises NotFoundError.

    `lock`: whether to lock it until the end of the connection's transaction.
    """
    row = await connection.fetchrow(f"{GET} for update" if lock else GET, id, chain)
    if row is None:
        raise NotFoundError("destination-not-found")
    return _stored(**row)


async def list_destinations(pool: Pool, chain: ChainId, page: Page) -> tuple[list[Destination], bool]:
    """Return a page of a chain's destinations, newest first, and whether more follow."""
    found, more = await fetch_page(pool, _stored, page, LIST, chain)
    return [each.destination for each in found], more


async def delete(connection: Connection, chain: ChainId, id: UUID) -> None:
    """Delete a destination with its secret. Raises NotFoundError."""
    if await connection.fetchval(DELETE, id, chain) is None:
        raise NotFoundError("destination-not-found")


def _owner(id: UUID) -> str:
    return f"destination {id}"


def _text(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()


def _stored(settings: str, revision: int, **columns: Any) -> StoredDestination:
    return StoredDestination(Destination(settings=raw_json(settings), **columns), revision)
