"""Downloads over connections that are cut, from addresses that expire, while newer runs end."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore import Longshore
from longshore.client import DownloadError, LostError, NotFoundError
from tests.client.scripted import Pieces, Scripted, json_answer
from tests.client.test_event_stream import TASK, TIMES

CONTENT = bytes(range(256)) * 4_000  # less than what was once held back
NEWER = CONTENT[::-1]


def run(number: int, content: bytes) -> dict[str, object]:
    return {
        "run": number, "state": "DONE", "attempts": 1, "began": "2026-05-26T12:00:00Z", "rows": 1,
        "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "result": "User_Export-7.csv",
    }  # fmt: skip


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """A service with one run of task 7, whose result lies at another address."""
    server = Scripted()
    server.add("/tasks/7", json_answer({**TASK, "state": {"code": "DONE", **TIMES}, "result": "User_Export-7.csv"}))
    server.add("/tasks/7/runs/latest", json_answer(run(1, CONTENT)))
    server.add("/tasks/7/runs/1/download_url", json_answer({"url": f"{server.address}/store/1"}))
    yield server
    server.close()


def sent(headers: dict[str, str], content: bytes, size: int) -> Pieces:
    """Return the beginning of the rest of a content; the connection is then lost unless that is all."""
    start = int(headers["range"].removeprefix("bytes=").removesuffix("-")) if "range" in headers else 0
    rest = content[start:]
    head = f"HTTP/1.1 206 x\r\nContent-Range: bytes {start}-{len(content) - 1}/{len(content)}\r\n"
    return [f"{head}Content-Length: {len(rest)}\r\n\r\n".encode(), rest[:size]]


def test_download_over_a_connection_that_is_cut_again_and_again_loses_nothing(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.add("/store/1", lambda headers: sent(headers, CONTENT, 100_000))
    with Longshore(scripted.address, "x:y", chain=1, retry_for=1) as client:
        file = client.tasks.get(7).download(tmp_path)
    assert file.read_bytes() == CONTENT
    assert scripted.paths().count("/store/1") == len(CONTENT) // 100_000 + 1
    assert list(tmp_path.iterdir()) == [file]


def test_download_that_never_gets_further_ends_once_its_retries_are_used(scripted: Scripted, tmp_path: Path) -> None:
    """As behind a proxy that takes `Range` out of requests, and cuts each answer."""
    whole = f"HTTP/1.1 200 x\r\nContent-Length: {len(CONTENT)}\r\n\r\n".encode()
    for _ in range(40):
        scripted.add("/store/1", [whole, CONTENT[:600_000]])
    scripted.add("/store/1", [whole, CONTENT])
    with Longshore(scripted.address, "x:y", chain=1, retry_for=1) as client, pytest.raises(LostError, match="lost"):
        client.tasks.get(7).download(tmp_path)
    assert scripted.paths().count("/store/1") < 40


def test_expired_address_is_replaced_by_one_of_the_same_run_though_a_newer_one_has_ended(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.add("/tasks/7/download_url", json_answer({"url": f"{scripted.address}/store/1"}))
    scripted.add("/tasks/7/download_url", json_answer({"url": f"{scripted.address}/store/2"}))  # the newer one's
    scripted.add("/store/1", lambda headers: sent(headers, CONTENT, 100_000))
    scripted.add("/store/1", json_answer(b"expired", 403))
    scripted.add("/store/1", lambda headers: sent(headers, CONTENT, len(CONTENT)))
    scripted.add("/store/2", lambda headers: sent(headers, NEWER, len(NEWER)))
    with Longshore(scripted.address, "x:y", chain=1, retry_for=2) as client:
        file = client.tasks.get(7).download(tmp_path)
    assert file.read_bytes() == CONTENT


def test_expired_address_is_replaced_once_also_by_a_client_that_retries_nothing(
    scripted: Scripted, tmp_path: Path
) -> None:
    scripted.add("/store/1", json_answer(b"expired", 403))
    scripted.add("/store/1", lambda headers: sent(headers, CONTENT, len(CONTENT)))
    with Longshore(scripted.address, "x:y", chain=1, retry_for=0) as client:
        file = client.tasks.get(7).download(tmp_path)
    assert file.read_bytes() == CONTENT


def test_content_that_is_shorter_than_the_run_recorded_is_refused(scripted: Scripted, tmp_path: Path) -> None:
    scripted.add("/store/1", lambda headers: sent(headers, CONTENT, 100_000))
    scripted.add("/store/1", json_answer(b"", 416))
    with (
        Longshore(scripted.address, "x:y", chain=1, retry_for=2) as client,
        pytest.raises(DownloadError, match="shorter than the 1024000 bytes"),
    ):
        client.tasks.get(7).download(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_run_that_cannot_be_is_not_taken_for_the_newest_one(scripted: Scripted, tmp_path: Path) -> None:
    scripted.add("/tasks/7/runs/0", json_answer({"type": "/problems/run-not-found", "title": "x", "status": 404}, 404))
    scripted.add("/store/1", lambda headers: sent(headers, CONTENT, len(CONTENT)))
    with Longshore(scripted.address, "x:y", chain=1, retry_for=1) as client, pytest.raises(NotFoundError):
        client.tasks.get(7).download(tmp_path, run=0)
    assert list(tmp_path.iterdir()) == []
