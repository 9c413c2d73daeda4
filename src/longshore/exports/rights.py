"""Rights: whether a credential may see a run or a task, and whether a run keeps within the limits of its principals.

Runs are judged by the index, level and source columns that `tasks.reads` has of a run, never by the task as it
is today. A run that cannot be judged (a column that the catalog has renamed, columns that were not recorded) is closed
to tokens with limits.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

import asyncpg
import msgspec

from longshore.access.tokens import Caller, Level, TokenLimits, limits_of
from longshore.database.connect import Pool
from longshore.errors import LongshoreError
from longshore.exports.catalog import Catalog, Index
from longshore.exports.target import ExportTarget, ExportTrigger, decode_definition, reads_of
from longshore.tasks.attempts import Attempt
from longshore.tasks.model import ChainId
from longshore.tasks.reads import Read, decoded

# $1: a task. The tokens and users that defined it, and that asked for its next run.
PRINCIPALS = """
select m.name, m.requested_run, t.indexes, t.hidden_columns, coalesce(t.level, l.level) as level,
       longshore.level_of(m.kind, m.id, null, k.chain_id, 0, 0) is not null as active
from longshore.tasks k
cross join lateral (
    select name, requested_run, split_part(name, ' ', 1) as kind, split_part(name, ' ', 2) as id
    from (values (k.defined_by, false), (k.asked_by, true)) as principals (name, requested_run)
) m
left join longshore.access_tokens t on t.id = case m.kind when 'token' then m.id::uuid end
left join longshore.user_levels l
    on l.user_id = case m.kind when 'user' then m.id::bigint end and l.chain_id = k.chain_id and l.enabled
where k.id = $1 and m.kind in ('token', 'user')
"""

# $1: a webhook, $2: a task. A token that has ended keeps its limits, as schedules that it made go on within them.
# No row: a user who has no level any more, or a token whose scope no longer has the chain.
WEBHOOK_CREATOR = """
select w.chain_id, coalesce(t.level, l.level) as level, t.indexes, t.hidden_columns, k.target, k.trigger, k.reads
from longshore.webhooks w
left join longshore.tasks k on k.id = $2 and k.chain_id = w.chain_id
left join longshore.access_tokens t
    on t.id = case when w.created_by like 'token %' then substr(w.created_by, 7)::uuid end
    and w.chain_id = any(t.chain_id || t.more_chains)
left join longshore.users u
    on u.id = case when w.created_by like 'user %' then substr(w.created_by, 6)::bigint end and u.disabled_at is null
left join longshore.user_levels l on l.user_id = u.id and l.chain_id = w.chain_id and l.enabled
where w.id = $1 and coalesce(t.level, l.level) is not null
"""


class IndexNames(msgspec.Struct, frozen=True):
    """The parts of a target that say which index it reads."""

    action: str
    export_index: str = ""
    export_indexes: list[str] | None = None


DEFINITION = msgspec.json.Decoder(IndexNames)


class Principal(msgspec.Struct, frozen=True):
    """A credential that defined a task or asked for a run, with the rights that it has now."""

    name: str
    """Kind and id, such as `user 7`."""
    requested_run: bool
    """Whether it requested this run, rather than defined the task."""
    active: bool
    """Whether it is valid in the chain: neither revoked nor expired nor disabled."""
    level: Level
    limits: TokenLimits | None


def level_for(read: Read, catalog: Catalog) -> Level:
    """Return the level that a read needs: the higher of the recorded one and the catalog's."""
    index = catalog.get(read.index)
    known = [name for name in (read.level, index and index.level) if name]
    return max((Level[name.upper()] for name in known), default=Level.ADMIN)


def may_see(caller: Caller, reads: Iterable[Read], catalog: Catalog) -> bool:
    """Return whether a credential may see the data of all reads."""
    if caller.level is Level.ADMIN and caller.limits is None:
        return True
    return all(caller.level >= level_for(read, catalog) and allows(caller.limits, read, catalog) for read in reads)


def allows(limits: TokenLimits | None, read: Read, catalog: Catalog) -> bool:
    """Return whether a read is within a token's limits."""
    if limits is None:
        return True
    if not allows_index(limits, read.index, catalog):
        return False
    hidden = hidden_columns(limits, read.index)
    if not hidden:
        return True
    # A column that the catalog no longer has may be hidden under its new name.
    known = catalog[read.index].fields if read.index in catalog else {}
    return read.columns is not None and not read.columns & hidden and read.columns <= known.keys()


def allows_index(limits: TokenLimits, name: str, catalog: Catalog) -> bool:
    """Return whether limits allow an index at all: it is in scope, and the catalog has every column that they hide."""
    if limits.indexes is not None:
        return name in limits.indexes and not missing_columns(limits, name, catalog)
    gone = not all(any(column.startswith(f"{index}.") for index in catalog) for column in limits.hidden)
    return not gone and not missing_columns(limits, name, catalog)


def hidden_columns(limits: TokenLimits | None, name: str) -> frozenset[str]:
    """Return the columns of an index that limits hide."""
    prefix = f"{name}."
    hidden = limits.hidden if limits else ()
    return frozenset(column.removeprefix(prefix) for column in hidden if column.startswith(prefix))


def missing_columns(limits: TokenLimits, name: str, catalog: Catalog) -> frozenset[str]:
    """Return the columns of an index that limits hide and that the catalog no longer has."""
    return hidden_columns(limits, name) - (catalog[name].fields.keys() if name in catalog else set())


def visible_catalog_for(limits: TokenLimits | None, catalog: Catalog) -> Catalog:
    """Return the catalog without the indexes and columns that limits close or hide."""
    if limits is None:
        return catalog
    return {
        name: _visible(limits, name, index) for name, index in catalog.items() if allows_index(limits, name, catalog)
    }


def _visible(limits: TokenLimits, name: str, index: Index) -> Index:
    hidden = hidden_columns(limits, name)
    fields = {field: about for field, about in index.fields.items() if field not in hidden}
    return msgspec.structs.replace(index, fields=fields)


def may_see_task(
    caller: Caller, catalog: Catalog, target: str | bytes, trigger: str | bytes, reads: list[Read]
) -> bool:
    """Return whether a caller may see all of a task: the reads of its runs, and those of its definition."""
    if caller.level is Level.ADMIN and caller.limits is None:
        return True
    try:
        if caller.limits is None:  # all columns are visible, so the index suffices; polls are many
            current = [Read(name, catalog[name].level if name in catalog else "read") for name in _indexes_of(target)]
        else:
            definition = stored_export(target, trigger)
            current = [] if definition is None else reads_of(*definition, catalog)
    except msgspec.MsgspecError:
        return caller.limits is None and may_see(caller, reads, catalog)
    return may_see(caller, [*reads, *current], catalog)


def stored_export(target: str | bytes, trigger: str | bytes) -> tuple[ExportTarget, ExportTrigger] | None:
    """Return target and trigger of a stored export; None for another action. Raises msgspec.MsgspecError."""
    if DEFINITION.decode(target).action != "export":
        return None
    return decode_definition(target, trigger)


async def webhook_creator_may_see(pool: Pool, catalog: Catalog, webhook: UUID, task: int) -> bool:
    """Return whether the credential that made a webhook may see all of a task, by the rights that it has now.

    A deleted task cannot be judged: only admins without limits see all of it.
    """
    row = await pool.fetchrow(WEBHOOK_CREATOR, webhook, task)
    if row is None:
        return False
    limits = limits_of(row["indexes"], row["hidden_columns"])
    creator = Caller(ChainId(row["chain_id"]), Level[row["level"].upper()], "token", "", limits)
    if row["target"] is None:
        return creator.level is Level.ADMIN and limits is None
    return may_see_task(creator, catalog, row["target"], row["trigger"], decoded(row["reads"]))


async def refuse_beyond(pool: Pool, attempt: Attempt, reads: Sequence[Read], catalog: Catalog) -> None:
    """Raise LongshoreError where a credential that defined the task or asked for the run may not see all its reads."""
    for row in await pool.fetch(PRINCIPALS, attempt.message.task):
        if (why := why_refused(_principal(row), reads, catalog)) is not None:
            raise LongshoreError(why)


def why_refused(principal: Principal, reads: Sequence[Read], catalog: Catalog) -> str | None:
    """Return why a run may not read its data, in a sentence that names nothing hidden; None if it may.

    A credential that is no longer valid cannot ask for runs. The schedules that it defined run on until they are
    stopped, within its limits.
    """
    did = "asked for this run" if principal.requested_run else "defined the task"
    needed = max((level_for(read, catalog) for read in reads), default=Level.READ)
    if principal.requested_run:
        restricted = principal.limits is not None or needed > Level.READ
        if restricted and not principal.active:
            return f"{principal.name}, which {did}, has been revoked, has expired or was disabled"
        if restricted and principal.level < Level.WRITE:
            return f"{principal.name}, which {did}, has a lower level now"
    if principal.active and principal.level < needed:
        return f"{principal.name}, which {did}, has a lower level now than the index needs"
    if not all(allows(principal.limits, read, catalog) for read in reads):
        return f"the run would read what {principal.name}, which {did}, may not see"
    return None


def _principal(row: asyncpg.Record) -> Principal:
    return Principal(
        name=row["name"],
        requested_run=row["requested_run"],
        active=row["active"],
        level=Level[(row["level"] or "read").upper()],
        limits=limits_of(row["indexes"], row["hidden_columns"]),
    )


def _indexes_of(target: str | bytes) -> list[str]:
    definition = DEFINITION.decode(target)
    if definition.action != "export":
        return []
    return [definition.export_index] if definition.export_indexes is None else definition.export_indexes
