"""The action `export`: what a request may ask for, and how a run of it goes."""

from decimal import Decimal
from typing import Any, Literal

import msgspec

from longshore.database.connect import Pool
from longshore.exports import segment as segments
from longshore.exports.catalog import Catalog, Index, quoted
from longshore.exports.copy import Query, copy_rows
from longshore.exports.formats import FORMATS
from longshore.exports.segment import Segment
from longshore.faults import Fault, pointer, suggestion
from longshore.results.store import LocalStore
from longshore.tasks import lifecycle
from longshore.tasks.lifecycle import Begun, Outcome

RESULTS = """
select location from longshore.runs where task_id = $1 and location is not null
"""


class ExportTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to export, and as what."""

    action: Literal["export"]
    export_index: str
    export_format: str


class ExportTrigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a stored trigger that an export reads."""

    segment: Segment | None = None


TRIGGER = msgspec.json.Decoder(ExportTrigger, float_hook=Decimal)


def check_target(target: dict[str, Any], catalog: Catalog, at: str) -> list[Fault]:
    """What a target names that there is not; `at` is its JSON pointer."""
    faults = []
    for key, known in (("export_index", catalog), ("export_format", FORMATS)):
        value = target.get(key)
        if isinstance(value, str) and value not in known:
            hint = suggestion(value, known) or f"; expected one of {', '.join(known)}"
            faults.append(Fault(f"{value!r} is not known{hint}", pointer(at, key)))
    return faults


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
    return f"{index.prefix}_Export-{task}.{FORMATS[target.export_format].extension}"


class Exporter:
    """Runs exports: from the source, by the catalog, into the store."""

    def __init__(self, state: Pool, source: Pool, catalog: Catalog, store: LocalStore) -> None:
        self._state = state
        self._source = source
        self._catalog = catalog
        self._store = store

    async def run(self, begun: Begun) -> Outcome:
        """Run one attempt of an export. Raises whatever the database, the disk and the copy raise."""
        target = msgspec.json.decode(begun.target, type=ExportTarget)
        trigger = TRIGGER.decode(begun.trigger)
        index = self._catalog[target.export_index]
        form = FORMATS[target.export_format]()
        names = list(index.fields)
        source, values = self._source_of(index, trigger.segment, begun)
        query = Query(form.query(names, [index.shown(name) for name in names], source), values)

        message = begun.message
        kept = [row["location"] for row in await self._state.fetch(RESULTS, message.task)]
        self._store.remove_abandoned(begun.chain, message.task, message.attempt, kept)
        name = result_name(target, index, message.task)
        location = self._store.location(begun.chain, message.task, message.attempt, name)

        async def report(rows: int, size: int, expected: int | None) -> None:
            await lifecycle.report(self._state, message, max(rows, 0), size, expected)

        with self._store.create(location) as file:
            copied = await copy_rows(self._source, query, form, file, report)
        return Outcome(
            result=name,
            location=location,
            total=copied.sent,
            success=copied.rows,
            size=copied.size,
            sha256=copied.sha256,
            snapshot_at=copied.snapshot_at,
        )

    def _source_of(self, index: Index, segment: Segment | None, begun: Begun) -> tuple[str, tuple[Any, ...]]:
        # The chain is bound here and nowhere else: whatever a request says, its rows are those of its task's chain.
        source = f"from {quoted(index.relation)} where {quoted(index.chain)} = $1"
        if segment is None:
            return source, (begun.chain,)
        condition = segments.condition(segment, index, begun.run_began_at, first=2)
        return f"{source} and ({condition.sql})", (begun.chain, *condition.values)
