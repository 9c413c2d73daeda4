"""The service's answers as structs. Keys that a newer service adds are ignored."""

from datetime import datetime
from typing import Any

import msgspec

from longshore.client.api_types import AnsweredSegment, AnsweredState


class State(msgspec.Struct, frozen=True):
    """The state of a task."""

    code: AnsweredState
    """`READY`, `INPROGRESS`, `DONE`, `ERROR`, or one that a newer service adds."""
    last_run_date: datetime | None
    last_modified: datetime
    created_date: datetime

    @property
    def ended(self) -> bool:
        """Whether `code` is neither READY nor INPROGRESS; it stays until the next run begins, also a queued one."""
        return self.code not in ("READY", "INPROGRESS")


class LogEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a task's log; only the summary of a run has counts, in rows."""

    errors: int | None = None
    msg: str = ""
    skips: int | None = None
    success: int | None = None
    time: datetime | None = None
    total: int | None = None


class TaskData(msgspec.Struct, frozen=True):
    """The task object of the API."""

    id: int
    chain: int
    desc: str
    state: State
    trigger: dict[str, Any]
    target: dict[str, Any]
    logs: list[LogEntry]
    debug: str = ""
    version: int = 2
    result: str = ""


class Delivery(msgspec.Struct, frozen=True):
    """A delivery of a run to a destination."""

    id: int
    """Number of the delivery; each run counts from 1."""
    destination: str
    state: str
    """`pending`, `delivered`, `failed`, `cancelled`, or one that a newer service adds."""
    attempts: int
    created: datetime
    path: str | None = None
    """The path of its files, with `{name}` in place of their names; None for a table."""
    table: str | None = None
    address: str | None = None
    """Where the result lies, once it is delivered."""
    evidence: dict[str, Any] | None = None
    """The proof that was read back there."""
    error: str | None = None
    """Why the last attempt failed."""
    created_by: str | None = None
    ended: datetime | None = None
    next: datetime | None = None
    """When the next attempt begins."""


class NextStep(msgspec.Struct, frozen=True):
    """The next step that the service takes without a request."""

    step: str
    """`start`, `retry`, `give up`, `deliver`, or one that a newer service adds."""
    at: datetime | None = None
    """The time of the step; None: as soon as a worker is free."""
    if_silent: bool = False
    """Whether the step is taken only if the worker sends no heartbeat until then."""


class Progress(msgspec.Struct, frozen=True):
    """The progress of the newest run of a task."""

    run: int
    attempt: int
    rows: int
    bytes: int
    rows_expected: int | None = None
    rows_expected_is: str | None = None
    rows_per_second: float | None = None
    percent: float | None = None
    seconds_left: float | None = None
    paused: bool = False
    """Whether the schedule of the task is paused."""
    phase: str | None = None
    """`exporting` or `delivering`; None where no export runs."""
    heartbeat_age: float | None = None
    """Seconds since the last heartbeat or progress of the worker; None if no worker runs the task."""
    queue_place: int | None = None
    """The place among the due runs; None if the task does not wait for a worker."""
    next: NextStep | None = None
    """None if the service does nothing without a request."""


class Interval(msgspec.Struct, frozen=True):
    """The times from `start` on and before `end`."""

    end: datetime
    start: datetime | None = None
    """None: no bound."""


class Run(msgspec.Struct, frozen=True):
    """One execution of a task, with its result."""

    run: int
    state: str
    attempts: int
    began: datetime
    ended: datetime | None = None
    rows: int = 0
    bytes: int = 0
    snapshot: datetime | None = None
    sha256: str | None = None
    result: str | None = None
    increment: dict[str, Any] | None = None
    due: datetime | None = None
    """The time of the schedule that the run is for; None if `execute` asked for it."""
    interval: Interval | None = None
    """The data interval of the run."""
    full: bool | None = None
    """With `deletes`: whether the copy is emptied before the result is applied."""
    backfill: int | None = None
    """The number of the backfill that the run belongs to."""
    seconds: float | None = None
    """How long the run took."""
    fields: list[dict[str, Any]] | None = None
    """The columns of the result, as they were."""
    segment: Any = None
    """The rules that chose the rows, resolved."""


class NewBackfill(msgspec.Struct, frozen=True):
    """The answer to a request for a backfill: its number, and the number of its runs."""

    id: int
    runs: int


class Backfill(msgspec.Struct, frozen=True):
    """A backfill: runs of a schedule's past times, with its progress."""

    id: int
    """Number of the backfill; each task counts from 1."""
    state: str
    """`INPROGRESS`, `DONE`, `CANCELLED`, or one that a newer service adds."""
    start: datetime
    end: datetime
    runs: int
    done: int = 0
    failed: int = 0
    left: int = 0
    """Runs that are still to begin."""
    next: datetime | None = None
    """The time of the schedule that the next run is for."""
    created: datetime | None = None
    created_by: str | None = None
    ended: datetime | None = None


class RunFile(msgspec.Struct, frozen=True):
    """A file of a run."""

    path: str
    """Below the folder of the manifest, such as `users/part-00001.parquet`."""
    index: str
    rows: int
    bytes: int
    sha256: str
    url: str
    """A signed address, valid for about an hour."""
    partition: dict[str, str | None] = {}
    """The values of its partition; None stands for NULL and the empty string."""


class Field(msgspec.Struct, frozen=True):
    """A field of an export index."""

    name: str
    type: str
    description: str = ""
    fields: list["Field"] = []
    """Fields of the objects in a nested field."""


class Index(msgspec.Struct, frozen=True):
    """An export index: a named data set that can be exported."""

    name: str
    description: str
    time: str | None
    """The field with the time at which a row was created or changed."""
    schema: str
    fields: list[Field]
    key: list[str] = []
    """The fields that are unique together within a chain."""


class StoredSegment(msgspec.Struct, frozen=True):
    """A segment that tasks refer to by its id."""

    id: str
    chain: int
    name: str
    segment: AnsweredSegment | None
    """None if the credential may not see the rules."""
    created: datetime
    modified: datetime
    created_by: str | None = None
    """Kind and id of the credential that created it, such as `user 7`."""


class PreviewWarning(msgspec.Struct, frozen=True):
    """A warning of a preview."""

    code: str
    detail: str


class Preview(msgspec.Struct, frozen=True):
    """The result that an export of a segment would have now."""

    rows: int | None
    rows_are: str | None
    sample: list[dict[str, Any]]
    """The first rows; a number with a decimal point is a `Decimal`."""
    bytes: int | None = None
    seconds: float | None = None
    warnings: list[PreviewWarning] = []


class Link(msgspec.Struct, frozen=True):
    """An address of a result that was given out."""

    id: str
    run: int
    created: datetime
    expires: datetime
    uses: int
    active: bool
    created_by: str | None = None
    max_uses: int | None = None
    used: datetime | None = None
    """When a download last began with it."""
    revoked: datetime | None = None
