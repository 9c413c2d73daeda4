"""The request of an attempt, resolved: its target and trigger decoded, and its segment as the run uses it."""

import msgspec

from longshore.database.connect import Pool
from longshore.errors import LongshoreError
from longshore.exports import schemas
from longshore.exports.catalog import Catalog, Index, fingerprint
from longshore.exports.columns import choices, shape_of
from longshore.exports.formats import FORMATS
from longshore.exports.increments.start import RunStart
from longshore.exports.query import ExportRequest
from longshore.exports.segments import stored
from longshore.exports.segments.rules import Segment, in_zone
from longshore.exports.target import ExportTarget, ExportTrigger, IndexTarget, decode_definition
from longshore.exports.target.check import NOT_INCREMENTAL, check_segment, interval_rules
from longshore.tasks.attempts import Attempt
from longshore.tasks.model import ChainId


def stored_definition(attempt: Attempt) -> tuple[ExportTarget, ExportTrigger]:
    """Return target and trigger of a task. Raises LongshoreError where this version cannot read them."""
    try:
        target, trigger = decode_definition(attempt.target, attempt.trigger)
    except msgspec.MsgspecError as error:
        raise LongshoreError(f"this version cannot read the target or the trigger: {error}") from error
    if target.export_format not in FORMATS:
        raise LongshoreError(f"there is no format {target.export_format!r} any more")
    return target, trigger


async def refuse_changed(pool: Pool, chain: ChainId, target: IndexTarget, index: Index) -> None:
    """Raise LongshoreError where the fields are not those that the client pinned, or one is gone."""
    chosen = choices(target.fields, index)
    now = shape_of(chosen, index)
    if target.schema is not None and fingerprint(now) != target.schema:
        before = await schemas.load(pool, chain, target.schema)
        raise LongshoreError(schemas.difference(target.schema, before, now))
    keys = [key.field for key in target.partition_by or ()]
    missing = [name for name in [*(name for name, _ in chosen), *keys] if name not in index.fields]
    if missing:
        raise LongshoreError(f"the catalog has no field {', '.join(missing)} in index {target.export_index} any more")


class RequestResolver(msgspec.Struct, frozen=True):
    """Resolves the requests of one attempt."""

    pool: Pool
    catalog: Catalog
    attempt: Attempt
    start: RunStart

    async def request(self, target: IndexTarget, trigger: ExportTrigger, segment: Segment | None) -> ExportRequest:
        """Return the request of one index. `segment`: the trigger's own. Raises LongshoreError."""
        resolved = await self._segment(trigger, segment)
        violations = (
            []
            if resolved is None
            else check_segment(resolved, target.export_index, self.attempt.chain, self.catalog, "")
        )
        if violations:
            raise LongshoreError(
                f"the segment does not fit index {target.export_index} of the catalog any more: "
                f"{violations[0].pointer} {violations[0].detail}"
            )
        if target.incremental and resolved is not None and (rules := interval_rules(resolved)):
            raise LongshoreError(f"the segment's /rules/{rules[0]} {NOT_INCREMENTAL}")
        first = self.start.first_reread
        return ExportRequest(
            self.attempt.chain,
            target,
            resolved,
            interval=first.interval if first else self.attempt.interval,
            start=self.start.watermark,
            end=first.end if first else None,
            zone=trigger.zone,
        )

    async def _segment(self, trigger: ExportTrigger, segment: Segment | None) -> Segment | None:
        """Return the segment of this run; for an increment that is read again, that of the run that read it first."""
        if trigger.segment_id is not None:
            first = self.start.first_reread
            if first is not None and first.segment is not None:
                segment = stored.decode_recorded(first.segment, trigger.segment_id)
            else:
                segment = await stored.record_for_run(self.pool, self.attempt, trigger.segment_id)
        return None if segment is None else in_zone(segment, trigger.timezone)
