"""Schemas that clients pin: the fields that a fingerprint was made of, and their difference from the fields now."""

import re
from collections.abc import Iterable

import msgspec

from longshore.database.connect import Connection, Pool
from longshore.exports.catalog import Shape, fingerprint
from longshore.tasks.model import ChainId

MAX_SCHEMAS = 1000  # of a chain; changes since further ones are not named

SAVE = f"""
insert into longshore.schemas (chain_id, fingerprint, fields)
select $1, $2, $3 where (select count(*) from longshore.schemas where chain_id = $1) < {MAX_SCHEMAS}
on conflict do nothing
"""

LOAD = "select fields from longshore.schemas where chain_id = $1 and fingerprint = $2"

FINGERPRINT = re.compile("[0-9a-f]{16}")


async def save(connection: Connection, chain: ChainId, shapes: Iterable[Shape]) -> None:
    """Store the shapes of pinned fingerprints, in the connection's transaction.

    Call it after the task was written, which locks the usage of its chain, so that two requests lock in one order.
    """
    for pinned, shape in sorted((fingerprint(shape), shape) for shape in shapes):
        await connection.execute(SAVE, chain, pinned, msgspec.json.encode(shape).decode())


async def load(pool: Pool | Connection, chain: ChainId, pinned: str) -> Shape | None:
    """Return the shape of a fingerprint when this chain pinned it; None if it never did."""
    text = await pool.fetchval(LOAD, chain, pinned) if FINGERPRINT.fullmatch(pinned) else None
    return None if text is None else msgspec.json.decode(text, type=Shape)


def difference(pinned: str, before: Shape | None, now: Shape) -> str:
    """Return a sentence about the change: fields added, removed, of another type, in another order."""
    head = f"the fields have changed: their fingerprint is {fingerprint(now)!r}, expected {pinned!r}"
    if before is None:
        return f"{head}, which this chain has not pinned before, so what differs is not known"
    old, new = dict(before), dict(now)
    changes = [f"{name} ({kind}) was removed" for name, kind in before if name not in new]
    changes += [f"{name} ({kind}) was added" for name, kind in now if name not in old]
    changes += [f"{name} is {new[name]} and was {kind}" for name, kind in before if name in new and new[name] != kind]
    order_before, order_now = [name for name in old if name in new], [name for name in new if name in old]
    if order_before != order_now:
        changes.append(f"the order is {', '.join(order_now)} and was {', '.join(order_before)}")
    return f"{head}; {'; '.join(changes)}"
