"""The start of a run: which rows it takes.

A task that is not incremental exports all rows. An incremental one goes on from its watermark, one with deletes also
from a key list; an increment that waits for its acknowledgement is given again.
"""

import functools
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from longshore.database.connect import Pool
from longshore.exports.increments.baseline import Baseline, open_baseline
from longshore.exports.increments.redelivery import redeliver
from longshore.exports.planned_result import PlannedResult
from longshore.exports.target import ExportTarget
from longshore.results.own_thread import in_own_thread
from longshore.results.store import Store
from longshore.tasks import watermarks
from longshore.tasks.attempts import RunResult
from longshore.tasks.reads import Read
from longshore.tasks.watermarks import PendingIncrement


class RunStart(msgspec.Struct, frozen=True):
    """Where the rows of a run begin."""

    watermark: str | None = None
    """None: with all rows."""
    reread: Sequence[PendingIncrement] = ()
    """The runs, newest first, whose increment is read again, as no copy of its files is left; empty for a new one."""
    baseline: Baseline | None = None
    """Of a run with deletes."""

    @property
    def first_reread(self) -> PendingIncrement | None:
        """The run that read the increment first, if it is read again."""
        return self.reread[-1] if self.reread else None


async def choose_start(
    pool: Pool,
    store: Store,
    planned: PlannedResult,
    target: ExportTarget,
    permit: Callable[[list[Read]], Awaitable[None]],
) -> RunStart | RunResult:
    """Return where a run starts; its result, where that is a copy of the increment that waits for an acknowledgement.

    `permit`: raises LongshoreError where the run may not read what the runs before it have read. Raises the errors of
    the database and of the store.
    """
    if not target.incremental:
        return RunStart()
    state = await watermarks.state(pool, planned.attempt.message)
    if state.pending:
        await permit([read for each in state.pending for read in each.reads])
        redelivered = await redeliver(pool, store, state, planned, on_ack=target.incremental == "on_ack")
        if redelivered is not None:
            return redelivered
    if not target.deletes:
        return RunStart(state.watermark, state.pending)
    baseline = await in_own_thread(functools.partial(open_baseline, store, planned.attempt, state))
    return RunStart(baseline.continues_from, baseline=baseline)
