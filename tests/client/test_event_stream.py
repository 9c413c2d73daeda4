"""The reader of server-sent events: streams may be cut anywhere, and only CR and LF end a line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.client import NoAnswerError, UnauthorizedError
from longshore.client.event_stream import EventReader, RawEvent, task_event

ODD = "a\u2028b\u2029c\x85d\x0be\u00e9\U0001f600"
LINES = [":", "retry: 2000", "", "event: log", f"data: {json.dumps({'msg': ODD}, ensure_ascii=False)}", "id: 0-1", "",
         "event:state", "data:x", "data: y", "id: 1-1", "", "data", "", "event: end", "data: null", ""]  # fmt: skip
EXPECTED = [
    RawEvent("log", json.dumps({"msg": ODD}, ensure_ascii=False), "0-1"), RawEvent("state", "x\ny", "1-1"),
    RawEvent("message", "", ""), RawEvent("end", "null", ""),
]  # fmt: skip


@given(st.sampled_from(["\n", "\r", "\r\n"]), st.integers(1, 50))
def test_events_are_the_same_however_the_stream_is_cut(end: str, size: int) -> None:
    stream = (end.join(LINES) + end).encode() + (b"" if end != "\r" else b":")  # a byte behind a lone CR ends its line
    reader = EventReader()
    found = [event for at in range(0, len(stream), size) for event in reader.read(stream[at : at + size])]
    assert found == EXPECTED


def test_unknown_events_are_left_out_and_a_credential_that_ended_is_an_error() -> None:
    entry = task_event(EXPECTED[0])
    assert entry is not None
    assert entry.entry is not None
    assert entry.entry.msg == ODD
    assert task_event(RawEvent("novelty", "{}", "")) is None
    with pytest.raises(UnauthorizedError):
        task_event(RawEvent("unauthorized", "null", ""))
    with pytest.raises(NoAnswerError):
        task_event(RawEvent("state", "<html>", ""))
