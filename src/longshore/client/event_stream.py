"""The events of a task, which the service sends as server-sent events."""

from typing import TYPE_CHECKING, Literal

import msgspec

from longshore.client.errors import NOT_DECODED, NoAnswerError, UnauthorizedError
from longshore.client.model import LogEntry, Progress, State

if TYPE_CHECKING:
    import httpx2


class TaskEvent(msgspec.Struct, frozen=True):
    """An event of a task: a log entry, a new state, the progress of its run, or the end of all events."""

    kind: Literal["log", "state", "progress", "end"]
    id: str = ""
    """The id that `events(last_id=…)` goes on behind; progress has none."""
    entry: LogEntry | None = None
    """The log entry of `log`."""
    state: State | None = None
    """The state of `state` and `end`; None at the end of a deleted task."""
    progress: Progress | None = None
    """The progress of `progress`."""


def task_event(received: "httpx2.ServerSentEvent") -> TaskEvent | None:
    """Return an event as a struct; None for one that a newer service adds. Raises UnauthorizedError."""
    try:
        match received.event:
            case "log":
                return TaskEvent("log", received.id, entry=msgspec.json.decode(received.data, type=LogEntry))
            case "state":
                return TaskEvent("state", received.id, state=msgspec.json.decode(received.data, type=State))
            case "progress":  # its id is that of the event before
                return TaskEvent("progress", progress=msgspec.json.decode(received.data, type=Progress))
            case "end":
                return TaskEvent("end", received.id, state=msgspec.json.decode(received.data, type=State | None))
            case "unauthorized":
                detail = "the token was revoked, has expired, or its level is too low by now"
                raise UnauthorizedError(
                    type="about:blank", title="The stream of events was ended", status=401, detail=detail, request_id=""
                )
            case _:
                return None
    except NOT_DECODED as error:
        raise NoAnswerError(f"the stream of events is not Longshore's: {error}") from None
