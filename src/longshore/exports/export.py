"""The action `export`: what a request may ask for, and how a run of it goes."""

import asyncio
import functools
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import asyncpg
import msgspec
import structlog
from msgspec import Meta

from longshore import tracing
from longshore.database.connect import Pool, is_passing
from longshore.errors import LongshoreError
from longshore.exports import conditions, formats, increments, row_security, schemas, stored_segments, totals
from longshore.exports import segment as segments
from longshore.exports.again import give_again, read_again
from longshore.exports.care import Care, Pace
from longshore.exports.catalog import Catalog, Index, Shape, fingerprint, shape
from longshore.exports.columns import Column, FieldChoice, check_fields, choices, columns_of
from longshore.exports.control import Control
from longshore.exports.copy import Copied, Readers, copy_rows
from longshore.exports.formats import FORMATS, Compression
from longshore.exports.formats.dialect import CsvOptions, check_options, dialect
from longshore.exports.manifest import SUFFIX, Manifest, ManifestField, hash_of
from longshore.exports.plan import plan, source_of
from longshore.exports.reading import Layout
from longshore.exports.segment import Segment
from longshore.faults import Fault, check, pointer, suggestion
from longshore.results.open import Store, written_aside
from longshore.tasks import lifecycle, marks
from longshore.tasks.lifecycle import Begun, Outcome
from longshore.tasks.marks import Increment, Standing

log = structlog.get_logger()

NONE = Care()

MOST_SECONDS, MOST_DAYS = 7 * 24 * 3600, 3650

PREVIOUS = """
select manifest from longshore.runs where task_id = $1 and state = 'DONE' order by run desc limit 1
"""


class ExportTarget(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What to export, and as what."""

    action: Literal["export"]
    export_index: str
    export_format: str
    fields: list[str | FieldChoice] | None = None
    """The columns, in the order wanted; without it, all of them."""
    schema: str | None = None
    """The fingerprint of the fields that the client expects."""
    compression: Compression | None = None
    csv: CsvOptions | None = None
    incremental: bool | Literal["on_ack"] = False
    """Whether each run takes only what became visible since the last one, or since the last one acknowledged."""
    timeout_seconds: Annotated[int, Meta(ge=1, le=MOST_SECONDS)] | None = None
    """How long an attempt may take; then the run is an error."""
    result_days: Annotated[float, Meta(gt=0, le=MOST_DAYS)] | None = None
    """How long a result is kept, where that is shorter than what the service allows."""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    """Of a chain's tasks, the one with the highest gets the next free slot."""


class ExportTrigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a stored trigger that an export reads."""

    segment: Segment | None = None
    segment_id: str | None = None


TRIGGER = msgspec.json.Decoder(ExportTrigger, float_hook=Decimal)


def check_target(value: dict[str, Any], catalog: Catalog, at: str, before: Shape | None) -> list[Fault]:
    """What is wrong with a target beyond its shape; `at` is its JSON pointer.

    `before`: what the `schema` that it pins stood for, where that is known.
    """
    faults = []
    for key, known in (("export_index", catalog), ("export_format", FORMATS)):
        name = value.get(key)
        if isinstance(name, str) and name not in known:
            hint = suggestion(name, known) or f"; expected one of {', '.join(known)}"
            faults.append(Fault(f"{name!r} is not known{hint}", pointer(at, key)))
    target = check(ExportTarget, value, at, [])
    if target is None:
        return faults
    form = FORMATS.get(target.export_format)
    if form and form.compression == "refused" and target.compression:
        faults.append(Fault(f"{target.export_format} is compressed already", pointer(at, "compression")))
    if target.csv is not None:
        if target.export_format != "csv":
            faults.append(Fault("is for the format csv", pointer(at, "csv")))
        faults += check_options(target.csv, pointer(at, "csv"))
    if target.export_index in catalog:
        faults += _check_fields(target, catalog[target.export_index], at, before)
    return faults


def _check_fields(target: ExportTarget, index: Index, at: str, before: Shape | None) -> list[Fault]:
    chosen = choices(target.fields, index)
    faults = check_fields(chosen, index, pointer(at, "fields"))
    if target.schema is not None and not faults:
        now = shape((shown, index.fields[name]) for name, shown in chosen)
        if fingerprint(now) != target.schema:
            faults.append(Fault(schemas.difference(target.schema, before, now), pointer(at, "schema")))
    return faults


def pinned(target: str, catalog: Catalog) -> Shape | None:
    """What the `schema` of a target that was checked stands for; None where it pins nothing."""
    if msgspec.json.decode(target)["action"] != "export":
        return None
    found = msgspec.json.decode(target, type=ExportTarget)
    if found.schema is None:
        return None
    index = catalog[found.export_index]
    return shape((shown, index.fields[name]) for name, shown in choices(found.fields, index))


def check_segment(segment: Segment, index: Any, chain: int, catalog: Catalog, at: str) -> list[Fault]:
    """What is wrong with a segment for this export index and chain; `at` is its JSON pointer."""
    faults = []
    if segment.chain_id != chain:
        faults.append(Fault(f"expected {chain}, the task's chain", pointer(at, "chain_id")))
    if segment.index != index:
        faults.append(Fault(f"expected {index!r}, the target's index", pointer(at, "index")))
    elif segment.index in catalog:
        faults += segments.check_rules(segment, catalog[segment.index], at)
    return faults


def result_name(target: ExportTarget, index: Index, task: int) -> str:
    """The name of a result file, such as `Wallet_Export-12345.csv`."""
    return f"{index.prefix}_Export-{task}.{formats.extension(target.export_format, target.compression)}"


class SchemaChangedError(LongshoreError):
    """The fields are not those that the client pinned."""


class SegmentUnfitError(LongshoreError):
    """The segment was good when it was taken in, and the catalog has changed since."""


class Exporter:
    """Runs exports: from the source, by the catalog, into the store."""

    def __init__(
        self,
        state: Pool,
        readers: Readers,
        catalog: Catalog,
        store: Store,
        own: Readers | None = None,
        care: Care = NONE,
    ) -> None:
        self._state = state
        self._readers = readers
        self._own = own or readers  # for what lies in the service's own database
        self._catalog = catalog
        self._store = store
        self._care = care

    async def run(self, begun: Begun) -> Outcome:
        """Run one attempt of an export. Raises whatever the database, the disk and the copy raise."""
        target = msgspec.json.decode(begun.target, type=ExportTarget)
        trigger = TRIGGER.decode(begun.trigger)
        index = self._catalog[target.export_index]
        chosen = choices(target.fields, index)
        before = await schemas.remembered(self._state, begun.chain, target.schema) if target.schema else None
        _refuse_changed(target, index, chosen, before)
        message = begun.message
        kept = await lifecycle.locations(self._state, message.task)
        await asyncio.to_thread(self._store.remove_abandoned, begun.chain, message.task, message.attempt, kept)
        name = result_name(target, index, message.task)
        location = self._store.location(begun.chain, message.task, message.attempt, name)

        # All that is asked of the state comes before the copy: it may be away while the copy goes on.
        text = await self._state.fetchval(PREVIOUS, message.task)
        previous = text and hash_of(text.encode())
        standing = await marks.standing(self._state, message) if target.incremental else None
        if standing is not None:
            again = await asyncio.to_thread(give_again, self._store, standing, begun, location, previous)
            if again is not None:
                return again
        segment = await self._segment(begun, trigger, standing)
        _refuse_unfit(segment, target, begun.chain, self._catalog)
        if standing is not None:
            async with self._readers_of(index).watching() as connection:
                await increments.settle(connection)
        return await self._copy(begun, target, index, segment, standing, name, location, previous)

    async def _segment(self, begun: Begun, trigger: ExportTrigger, standing: Standing | None) -> Segment | None:
        """The segment of this run; for an increment that is read again, as it was for the run that gave it first."""
        if trigger.segment_id is None:
            return trigger.segment
        first = standing.pending[-1].segment if standing and standing.pending else None
        if first is not None:
            return stored_segments.READ.decode(first)
        return await stored_segments.settled(self._state, begun, trigger.segment_id)

    async def _copy(
        self,
        begun: Begun,
        target: ExportTarget,
        index: Index,
        segment: Segment | None,
        standing: Standing | None,
        name: str,
        location: str,
        previous: str | None,
    ) -> Outcome:
        async def report(rows: int, size: int) -> None:
            try:
                expected, exact = (cut.expected, cut.exact) if control.rows is None else (control.rows, True)
                await lifecycle.report(self._state, begun.message, rows, size, expected, exact=exact)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                # The copy is well; what counts is written once it has ended, however long that takes.
                if not is_passing(error):
                    raise
                log.warning("progress not reported", task=begun.message.task, error=str(error))

        waits = standing.pending if standing is not None else []
        counted_from = waits[-1].began_at if waits else begun.run_began_at
        readers = self._readers_of(index)
        async with self._care.of_snapshot(), readers.snapshot() as (connection, snapshot_at):
            await self._care.refuse_lagging(connection)
            await row_security.hold(connection, index, begun.chain)
            bounds = None
            if standing is not None:
                end = waits[-1].end if waits else None
                bounds = await increments.bounds(connection, index, standing.mark, end, first=2)
            source = source_of(index, begun.chain, segment, counted_from, bounds.condition if bounds else None)
            columns = await columns_of(connection, index, choices(target.fields, index))
            asked = dialect(target.csv or CsvOptions())
            layout = Layout(target.export_format, [column.name for column in columns], asked)
            control = Control(totals.counted(index, columns), layout)
            form = formats.make(target.export_format, columns, asked, target.compression, control.read)
            with tracing.span("plan"):
                cut = await plan(connection, index, form.query(source.sql), source, count=not control.counts)
            async with written_aside(self._store, location) as file:
                first = functools.partial(control.ask, connection, source)
                copied = await copy_rows(
                    readers, connection, cut, source, form, file, report, first, Pace(self._care.bytes_per_second)
                )
                if bounds is not None:
                    await increments.make_safe(self._state, connection)
                resolved = segment and conditions.resolved(segment, counted_from)
                described = _described(begun, target, resolved, columns, name, copied, snapshot_at, previous)
                described = msgspec.structs.replace(described, totals=await control.checked(file.written, described))
                manifest = described.encoded()
                with tracing.span("publish"):
                    await asyncio.to_thread(file.publish, SUFFIX, manifest)
        return Outcome(
            result=name,
            location=location,
            total=copied.sent,
            success=copied.rows,
            size=copied.size,
            sha256=copied.sha256,
            snapshot_at=snapshot_at,
            manifest=manifest.decode(),
            increment=None if bounds is None else Increment(bounds.start, bounds.end, target.incremental == "on_ack"),
            note=read_again(waits) if waits else None,
        )

    def _readers_of(self, index: Index) -> Readers:
        return self._own if index.own else self._readers


def _described(
    begun: Begun,
    target: ExportTarget,
    segment: Any,
    columns: Sequence[Column],
    name: str,
    copied: Copied,
    snapshot_at: datetime,
    previous: str | None,
) -> Manifest:
    return Manifest(
        file=name,
        size=copied.size,
        sha256=copied.sha256.hex(),
        rows=copied.rows,
        chain=begun.chain,
        task=begun.message.task,
        run=begun.run,
        index=target.export_index,
        format=target.export_format,
        fields=[ManifestField(column.name, column.field.type) for column in columns],
        schema=fingerprint(shape((column.name, column.field) for column in columns)),
        segment=segment,
        snapshot=snapshot_at,
        previous=previous,
        csv=target.csv or CsvOptions(),
    )


def _refuse_changed(target: ExportTarget, index: Index, chosen: list[tuple[str, str]], before: Shape | None) -> None:
    now = shape((shown, index.fields[name]) for name, shown in chosen if name in index.fields)
    if target.schema is not None and fingerprint(now) != target.schema:
        raise SchemaChangedError(schemas.difference(target.schema, before, now))
    missing = [name for name, _ in chosen if name not in index.fields]
    if missing:
        raise SchemaChangedError(f"the catalog has no field {', '.join(missing)} any more")


def _refuse_unfit(segment: Segment | None, target: ExportTarget, chain: int, catalog: Catalog) -> None:
    faults = [] if segment is None else check_segment(segment, target.export_index, chain, catalog, "")
    if faults:
        raise SegmentUnfitError(
            f"the segment does not fit the catalog any more: {faults[0].pointer} {faults[0].detail}"
        )
