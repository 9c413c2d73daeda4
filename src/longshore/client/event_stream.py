"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream."""

import codecs
from collections.abc import Iterator
from typing import Literal

import msgspec

from longshore.client.errors import NoAnswerError, UnauthorizedError
from longshore.client.model import LogEntry, Progress, State

MAX_LINE_CHARACTERS = 10_000_000


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


class RawEvent(msgspec.Struct):
    """An event as it was sent."""

    kind: str = "message"
    data: str = ""
    id: str = ""


class EventReader:
    """Makes events of the chunks of a stream, however they are cut."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._event = RawEvent()
        self._has_data = False

    def read(self, chunk: bytes) -> Iterator[RawEvent]:
        """Yield the events that the chunk completes."""
        text = self._rest + self._decoder.decode(chunk)
        is_cut = text.endswith("\r")  # the "\n" of the same line end may follow
        lines = (text[:-1] if is_cut else text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = lines.pop() + ("\r" if is_cut else "")
        if len(self._rest) > MAX_LINE_CHARACTERS:
            raise NoAnswerError("the stream of events has a line without end, so it is not Longshore's")
        for line in lines:
            if line:
                self._add(*line.partition(":")[::2])
                continue
            if self._has_data:
                yield self._event
            self._event = RawEvent()
            self._has_data = False

    def _add(self, field: str, value: str) -> None:
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._event.kind = value
            case "data":
                self._event.data += f"\n{value}" if self._has_data else value
                self._has_data = True
            case "id":
                self._event.id = value


def task_event(raw: RawEvent) -> TaskEvent | None:
    """Return an event as a struct; None for one that a newer service adds. Raises UnauthorizedError."""
    try:
        match raw.kind:
            case "log":
                return TaskEvent("log", raw.id, entry=msgspec.json.decode(raw.data, type=LogEntry))
            case "state":
                return TaskEvent("state", raw.id, state=msgspec.json.decode(raw.data, type=State))
            case "progress":
                return TaskEvent("progress", raw.id, progress=msgspec.json.decode(raw.data, type=Progress))
            case "end":
                return TaskEvent("end", raw.id, state=msgspec.json.decode(raw.data, type=State | None))
            case "unauthorized":
                detail = "the token was revoked, has expired, or its level is too low by now"
                raise UnauthorizedError(
                    type="about:blank", title="The stream of events was ended", status=401, detail=detail, request_id=""
                )
            case _:
                return None
    except msgspec.MsgspecError as error:
        raise NoAnswerError(f"the stream of events is not Longshore's: {error}") from None
