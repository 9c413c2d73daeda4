"""The task object and its parts, exactly as clients see them."""

from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

import msgspec
from msgspec import UNSET, UnsetType

TaskId = NewType("TaskId", int)
ChainId = NewType("ChainId", int)

FORMAT_VERSION = 2


class Code(StrEnum):
    """The states of a task."""

    READY = "READY"
    INPROGRESS = "INPROGRESS"
    DONE = "DONE"
    ERROR = "ERROR"


ENDED = frozenset({Code.DONE, Code.ERROR})


class State(msgspec.Struct, frozen=True):
    """Where a task stands. Times are UTC, whole seconds."""

    code: Code
    last_run_date: datetime | None
    last_modified: datetime
    created_date: datetime


class LogEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a task's log; the counts (of rows) only in the entry that sums a run up."""

    errors: int | UnsetType = UNSET
    msg: str = msgspec.field(default_factory=str)
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


class Version(msgspec.Struct, frozen=True):
    """A version of a task's representation: its revision, and how many steps its run's progress has made since."""

    revision: int
    progress: int = 0


class Next(msgspec.Struct, frozen=True):
    """What the service will do next of itself."""

    step: str
    """`start`, `retry` or `give up`."""
    at: datetime | None
    """When; null: as soon as a worker is free."""
    if_silent: bool
    """Whether only if the worker gives no sign of life until then. If it does, it simply goes on."""


class Progress(msgspec.Struct, frozen=True):
    """How far the newest run of a task is."""

    run: int
    """Number of the run, from 1; 0 before the first."""
    attempt: int
    """Which attempt of this run it is, from 1."""
    rows: int
    """Rows written."""
    bytes: int
    """Bytes written."""
    rows_expected: int | None
    """Rows that the run will have, as far as is known."""
    rows_expected_is: str | None
    """`exact` where they were counted or the run is done, `estimate` where the figure is the query planner's."""
    rows_per_second: float | None
    percent: float | None
    seconds_left: float | None
    heartbeat_age: float | None
    """Seconds since the worker's last sign of life; null where none works on it."""
    queue_place: int | None
    """How many due runs, this one included, a free worker takes until it is this one's turn; null where it is not due.
    10,000 stands for that or more."""
    next: Next | None
    """Null where nothing comes next of itself."""


class RunField(msgspec.Struct, frozen=True):
    """A column of a result."""

    name: str
    type: str


class RunIncrement(msgspec.Struct, frozen=True):
    """Which part of the data a run gave. Marks say nothing but whether they are equal."""

    start: str | None = msgspec.field(name="from")
    """The mark where it begins, which is where another one ended; null for the beginning of all."""
    end: str = msgspec.field(name="to")
    """The mark where it ends."""
    acknowledged: bool | None
    """Whether the client has confirmed it; null where nobody waits for that."""


class Run(msgspec.Struct, frozen=True):
    """One execution of a task, and what it left behind."""

    run: int
    state: str
    attempts: int
    began: datetime
    ended: datetime | None
    rows: int
    bytes: int
    snapshot: datetime | None
    """The moment of the source's data that the result shows."""
    sha256: str | None
    """SHA-256 of the result file, hexadecimal."""
    result: str | None
    seconds: float | None
    """From the beginning of its first attempt to its end."""
    fields: list[RunField] | None
    """The columns of the result, in order."""
    segment: Any
    """The rules as this run took them: relative ones with the times they meant; null where there were none."""
    increment: RunIncrement | None
    """Null where the result is not a part but the whole."""
