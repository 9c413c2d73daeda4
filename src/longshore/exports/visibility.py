"""The rights of a credential to a whole task: to the data that its runs have read, and to that of its definition."""

from uuid import UUID

import msgspec

from longshore.access.tokens import Caller, Level, limits_of
from longshore.database.connect import Pool
from longshore.exports.catalog import Catalog
from longshore.exports.rights import sees
from longshore.exports.target import ExportTarget, ExportTrigger, decode_definition, reads_of
from longshore.tasks.model import ChainId
from longshore.tasks.recorded_reads import Read, decoded

# $1: a webhook, $2: a task. A token that has ended keeps its limits, as schedules that it made go on within them.
# No row: a user who has no level any more, or a token whose scope no longer has the chain.
WEBHOOK_MAKER = """
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


class Definition(msgspec.Struct, frozen=True):
    """The parts of a target that say which index it reads."""

    action: str
    export_index: str = ""
    export_indexes: list[str] | None = None


DEFINITION = msgspec.json.Decoder(Definition)


def sees_task(caller: Caller, catalog: Catalog, target: str | bytes, trigger: str | bytes, reads: list[Read]) -> bool:
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
        return caller.limits is None and sees(caller, reads, catalog)
    return sees(caller, [*reads, *current], catalog)


def stored_export(target: str | bytes, trigger: str | bytes) -> tuple[ExportTarget, ExportTrigger] | None:
    """Return target and trigger of a stored export; None for another action. Raises msgspec.MsgspecError."""
    if DEFINITION.decode(target).action != "export":
        return None
    return decode_definition(target, trigger)


async def webhook_maker_sees(pool: Pool, catalog: Catalog, webhook: UUID, task: int) -> bool:
    """Return whether the credential that made a webhook may see all of a task, by the rights that it has now.

    A deleted task cannot be judged: only admins without limits see all of it.
    """
    row = await pool.fetchrow(WEBHOOK_MAKER, webhook, task)
    if row is None:
        return False
    limits = limits_of(row["indexes"], row["hidden_columns"])
    maker = Caller(ChainId(row["chain_id"]), Level[row["level"].upper()], "token", "", limits)
    if row["target"] is None:
        return maker.level is Level.ADMIN and limits is None
    return sees_task(maker, catalog, row["target"], row["trigger"], decoded(row["reads"]))


def _indexes_of(target: str | bytes) -> list[str]:
    definition = DEFINITION.decode(target)
    if definition.action != "export":
        return []
    return [definition.export_index] if definition.export_indexes is None else definition.export_indexes
