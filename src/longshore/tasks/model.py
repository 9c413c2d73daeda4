"""The task object and its parts as the API shows them, and what a run passes on: `NewDelivery`, `TaskVersion`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NewType, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

TaskId = NewType("TaskId", int)
ChainId = NewType("ChainId", int)
CredentialName: TypeAlias = str
"""Kind and id of a credential, such as `user 7` or `token 0b9f1b0e-…`; `command anna` for the command line."""

FORMAT_VERSION = 2


MAX_TIMEOUT_SECONDS, MAX_RESULT_DAYS = 7 * 24 * 3600, 3650  # that a target may name


class Target(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of every target. The target of an action derives from it and adds its own fields."""

    action: str
    timeout_seconds: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_SECONDS)] | None = None
    """The time that an attempt may take; then the run ends in `ERROR`."""
    result_days: Annotated[float, Meta(gt=0, le=MAX_RESULT_DAYS)] | None = None
    """The time for which a result is kept, if that is shorter than the service's setting."""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    """The task of a chain with the highest priority gets the next free slot."""


class StateCode(StrEnum):
    """The states of a task."""

    READY = "READY"
    INPROGRESS = "INPROGRESS"
    DONE = "DONE"
    ERROR = "ERROR"


ENDED = frozenset({StateCode.DONE, StateCode.ERROR})


class State(msgspec.Struct, frozen=True):
    """The `state` object of a task. Times are UTC, whole seconds."""

    code: StateCode
    last_run_date: datetime | None
    last_modified: datetime
    created_date: datetime


HIDDEN_MESSAGE = "hidden: this credential may not see all that the task has read"
"""Takes the place of a message that may have data of the source."""


class LogEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry of a task's log. Only the entry that sums up a run has the row counts."""

    errors: int | UnsetType = UNSET
    msg: str = msgspec.field(default_factory=str)  # no plain default: `omit_defaults` would leave out an empty text
    skips: int | UnsetType = UNSET
    success: int | UnsetType = UNSET
    time: datetime | UnsetType = UNSET
    total: int | UnsetType = UNSET


class Task(msgspec.Struct, frozen=True):
    """The task object of the contract, keys in its order. `trigger` and `target` are passed on as they were stored."""

    id: int
    chain: int
    desc: str
    state: State
    trigger: Any
    target: Any
    logs: list[LogEntry]
    debug: str
    version: int
    result: str


class TaskVersion(msgspec.Struct, frozen=True):
    """The version of a task's representation: its revision, and the progress steps of its run since that revision."""

    revision: int
    progress: int = 0


Phase = Literal["exporting", "delivering"]


class NextStep(msgspec.Struct, frozen=True):
    """The next step that the service takes without a request."""

    step: str
    """`start`, `retry`, `give up` or `deliver`."""
    at: datetime | None
    """Time of the step; null: as soon as a worker is free."""
    if_silent: bool
    """Whether the step is taken only if the worker sends no heartbeat until then."""


class Progress(msgspec.Struct, frozen=True):
    """The progress of the newest run of a task."""

    run: int
    """Number of the run, from 1; 0 before the first."""
    attempt: int
    """Number of the attempt within the run, from 1."""
    rows: int
    """Rows written."""
    bytes: int
    """Bytes written."""
    rows_expected: int | None
    """Rows that the run will write; null if unknown."""
    rows_expected_is: str | None
    """`exact` if they were counted or the run is done, `estimate` if the query planner estimated them."""
    rows_per_second: float | None
    percent: float | None
    seconds_left: float | None
    heartbeat_age: float | None
    """Seconds since the last heartbeat or progress of the worker; null if no worker runs the attempt."""
    queue_place: int | None
    """Position in the queue of due runs, from 1; null if the run is not due. 10,000 means 10,000 or more."""
    phase: Phase | None
    """`exporting`, or `delivering` once the result is on its way to destinations; null where no export runs."""
    paused: bool
    """Whether the schedule is paused; `POST /tasks/{id}/resume` goes on."""
    next: NextStep | None
    """Null if the service does nothing without a request."""


class RunField(msgspec.Struct, frozen=True):
    """A column of a result."""

    name: str
    type: str


class RunIncrement(msgspec.Struct, frozen=True):
    """The part of the data that an incremental run exported. Watermarks can be compared for equality alone."""

    start: str | None = msgspec.field(name="from")
    """The watermark where it begins, at which the run before it ended; null for the first run."""
    end: str = msgspec.field(name="to")
    """The watermark where it ends."""
    acknowledged: bool | None
    """Whether the client has acknowledged it; null if no acknowledgement is expected."""


class NewDelivery(msgspec.Struct, frozen=True):
    """A delivery that a run is to have."""

    destination: str
    place: str
    """The path of its files, with `{name}` in place of their names, or the table."""
    entry: str
    """The entry of `deliver` in the target, as JSON."""


class Interval(msgspec.Struct, frozen=True):
    """A data interval: the times from `start` on and before `end`, in UTC and whole seconds."""

    start: datetime | None
    """Null: no bound."""
    end: datetime


class NewBackfill(msgspec.Struct, frozen=True):
    """The answer to a request for a backfill."""

    id: int
    """Number of the backfill, from 1 for each task."""
    runs: int
    """Runs that it has: the times of the schedule in its range."""


class Backfill(msgspec.Struct, frozen=True):
    """A backfill with its progress."""

    id: int
    """Number of the backfill, from 1 for each task."""
    state: str
    """`INPROGRESS`, `DONE` once all its runs have ended, or `CANCELLED` if it was ended before."""
    start: datetime
    end: datetime
    runs: int
    """Runs that it was created with."""
    done: int
    """Runs that are `DONE`."""
    failed: int
    """Runs that ended in `ERROR`; the backfill goes on after them."""
    left: int
    """Runs that are still to begin."""
    next: datetime | None
    """The time of the schedule that the next run is for; null where none is left."""
    created: datetime
    created_by: str | None
    """Kind and id of the credential that asked for it."""
    ended: datetime | None
    """When it was ended before all its runs had begun; null else."""


class Run(msgspec.Struct, frozen=True):
    """One execution of a task, with its result."""

    run: int
    state: str
    attempts: int
    due: datetime | None
    """The time of the trigger that the run is for, however late it began; null if `execute` asked for it."""
    interval: Interval
    """The data interval of the run. Relative rules and windows count from its end."""
    backfill: int | None
    """The backfill that the run belongs to; null for all other runs."""
    began: datetime
    ended: datetime | None
    rows: int
    bytes: int
    snapshot: datetime | None
    """Time of the snapshot that the result was read from."""
    sha256: str | None
    """SHA-256 of the result file, hexadecimal."""
    result: str | None
    seconds: float | None
    """From the start of the first attempt to the end of the run."""
    fields: list[RunField] | None
    """The columns of the result, in order."""
    segment: Any
    """The rules as the run resolved them, relative ones with their times; null without rules."""
    increment: RunIncrement | None
    """Null if the run is not incremental."""
    full: bool | None
    """With `deletes`: whether the copy is emptied before the result is applied; null for other runs."""
