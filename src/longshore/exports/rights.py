"""Rights: whether a credential may see the data of a run, and whether a run keeps within the limits of its makers.

Both are judged by the index, level and source columns that `tasks.recorded_reads` has of a run, never by the task as it
is today. A run that cannot be judged (a column that the catalog has renamed, columns that were not recorded) is closed
to tokens with limits.
"""

from collections.abc import Iterable, Sequence

import asyncpg
import msgspec

from longshore.access.tokens import Caller, Level, Limits, limits_of
from longshore.database.connect import Pool
from longshore.errors import LongshoreError
from longshore.exports.catalog import Catalog, Index
from longshore.tasks.attempts import Attempt
from longshore.tasks.recorded_reads import Read

# $1: a task. The tokens and users that defined it, and that asked for its next run.
MAKERS = """
select m.name, m.asked, t.indexes, t.hidden_columns, coalesce(t.level, l.level) as level,
       case when m.token_id is null then u.disabled_at is null and l.level is not null
            else t.revoked_at is null and coalesce(t.expires_at > now(), true) and coalesce(c.enabled, true)
                 and k.chain_id = any(t.chain_id || t.more_chains)
       end as active
from longshore.tasks k
cross join lateral (
    select name, asked, case when name like 'token %' then substr(name, 7)::uuid end as token_id,
           case when name like 'user %' then substr(name, 6)::bigint end as user_id
    from (values (k.defined_by, false), (k.asked_by, true)) as makers (name, asked)
) m
left join longshore.access_tokens t on t.id = m.token_id
left join longshore.service_clients c on c.id = t.client_id
left join longshore.users u on u.id = m.user_id
left join longshore.user_levels l on l.user_id = m.user_id and l.chain_id = k.chain_id and l.enabled
where k.id = $1 and (m.token_id is not null or m.user_id is not null)
"""


class Maker(msgspec.Struct, frozen=True):
    """A credential that defined a task or asked for a run, with the rights that it has now."""

    name: str
    """Kind and id, such as `user 7`."""
    asked: bool
    """Whether it asked for this run, rather than defined the task."""
    active: bool
    """Whether it is valid in the chain: neither revoked nor expired nor disabled."""
    level: Level
    limits: Limits | None


def level_for(read: Read, catalog: Catalog) -> Level:
    """Return the level that a read needs: the higher of the recorded one and the catalog's."""
    index = catalog.get(read.index)
    known = [name for name in (read.level, index and index.level) if name]
    return max((Level[name.upper()] for name in known), default=Level.ADMIN)


def sees(caller: Caller, reads: Iterable[Read], catalog: Catalog) -> bool:
    """Return whether a credential may see the data of all reads."""
    if caller.level is Level.ADMIN and caller.limits is None:
        return True
    return all(caller.level >= level_for(read, catalog) and within(caller.limits, read, catalog) for read in reads)


def within(limits: Limits | None, read: Read, catalog: Catalog) -> bool:
    """Return whether a read is within a token's limits."""
    if limits is None:
        return True
    if not usable(limits, read.index, catalog):
        return False
    hidden = hidden_columns(limits, read.index)
    if not hidden:
        return True
    # A column that the catalog no longer has may be hidden under its new name.
    known = catalog[read.index].fields if read.index in catalog else {}
    return read.columns is not None and not read.columns & hidden and read.columns <= known.keys()


def usable(limits: Limits, name: str, catalog: Catalog) -> bool:
    """Return whether limits allow an index at all: it is in scope, and the catalog has every column that they hide."""
    if limits.indexes is not None:
        return name in limits.indexes and not missing_columns(limits, name, catalog)
    gone = not all(any(column.startswith(f"{index}.") for index in catalog) for column in limits.hidden)
    return not gone and not missing_columns(limits, name, catalog)


def hidden_columns(limits: Limits | None, name: str) -> frozenset[str]:
    """Return the columns of an index that limits hide."""
    prefix = f"{name}."
    hidden = limits.hidden if limits else ()
    return frozenset(column.removeprefix(prefix) for column in hidden if column.startswith(prefix))


def missing_columns(limits: Limits, name: str, catalog: Catalog) -> frozenset[str]:
    """Return the columns of an index that limits hide and that the catalog no longer has."""
    return hidden_columns(limits, name) - (catalog[name].fields.keys() if name in catalog else set())


def visible(limits: Limits | None, catalog: Catalog) -> Catalog:
    """Return the catalog without the indexes and columns that limits close or hide."""
    if limits is None:
        return catalog
    return {name: _visible(limits, name, index) for name, index in catalog.items() if usable(limits, name, catalog)}


def _visible(limits: Limits, name: str, index: Index) -> Index:
    hidden = hidden_columns(limits, name)
    fields = {field: about for field, about in index.fields.items() if field not in hidden}
    return msgspec.structs.replace(index, fields=fields)


async def refuse_beyond(pool: Pool, attempt: Attempt, reads: Sequence[Read], catalog: Catalog) -> None:
    """Raise LongshoreError where a run would read more than the makers of its task, or of the run, may see."""
    for row in await pool.fetch(MAKERS, attempt.message.task):
        if (why := beyond(_maker(row), reads, catalog)) is not None:
            raise LongshoreError(why)


def beyond(maker: Maker, reads: Sequence[Read], catalog: Catalog) -> str | None:
    """Return why a run may not read its data, in a sentence that names nothing hidden; None if it may.

    A credential that is no longer valid cannot ask for runs. The schedules that it defined run on until they are
    stopped, within its limits.
    """
    did = "asked for this run" if maker.asked else "defined the task"
    needed = max((level_for(read, catalog) for read in reads), default=Level.READ)
    if maker.asked:
        restricted = maker.limits is not None or needed > Level.READ
        if restricted and not maker.active:
            return f"{maker.name}, which {did}, has been revoked, has expired or was disabled"
        if restricted and maker.level < Level.WRITE:
            return f"{maker.name}, which {did}, has a lower level now"
    if maker.active and maker.level < needed:
        return f"{maker.name}, which {did}, has a lower level now than the index needs"
    if not all(within(maker.limits, read, catalog) for read in reads):
        return f"the run would read what {maker.name}, which {did}, may not see"
    return None


def _maker(row: asyncpg.Record) -> Maker:
    return Maker(
        name=row["name"],
        asked=row["asked"],
        active=bool(row["active"]),
        level=Level[(row["level"] or "read").upper()],
        limits=limits_of(row["indexes"], row["hidden_columns"]),
    )
