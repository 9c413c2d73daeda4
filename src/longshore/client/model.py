"""What the service answers, as structs. Keys that a newer service adds are passed over."""

from datetime import datetime
from typing import Any

import msgspec


class State(msgspec.Struct, frozen=True):
    """Where a task stands."""

    code: str
    """`READY`, `INPROGRESS`, `DONE`, `ERROR`, or what a newer service adds."""
    last_run_date: datetime | None
    last_modified: datetime
    created_date: datetime

    @property
    def ended(self) -> bool:
        """Whether the task neither runs nor waits for its time."""
        return self.code not in ("READY", "INPROGRESS")


class LogEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a task's log; the counts (of rows) only in the entry that sums a run up."""

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


class Progress(msgspec.Struct, frozen=True):
    """How far the newest run of a task is."""

    run: int
    attempt: int
    rows: int
    bytes: int
    rows_expected: int | None = None
    rows_expected_is: str | None = None
    rows_per_second: float | None = None
    percent: float | None = None
    seconds_left: float | None = None


class Run(msgspec.Struct, frozen=True):
    """One execution of a task, and what it left behind."""

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


class Field(msgspec.Struct, frozen=True):
    """A field of an export index."""

    name: str
    type: str
    description: str = ""
    fields: list["Field"] = []
    """Of a nested field: the fields of the objects inside."""


class Index(msgspec.Struct, frozen=True):
    """A data set that can be exported."""

    name: str
    description: str
    time: str | None
    """The field that tells when a row came to be or changed."""
    schema: str
    fields: list[Field]


class StoredSegment(msgspec.Struct, frozen=True):
    """A segment that tasks name by its id."""

    id: str
    chain: int
    name: str
    segment: dict[str, Any] | None
    """None where the credential may not see its rules."""
    created: datetime
    modified: datetime
    created_by: str | None = None
    """Kind and id of the credential that made it, such as `user 7`."""


class Warned(msgspec.Struct, frozen=True):
    """What a preview warns of."""

    code: str
    detail: str


class Preview(msgspec.Struct, frozen=True):
    """What an export of a segment would be if it ran now."""

    rows: int | None
    rows_are: str | None
    sample: list[dict[str, Any]]
    bytes: int | None = None
    seconds: float | None = None
    warnings: list[Warned] = []
