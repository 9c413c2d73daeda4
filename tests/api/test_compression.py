"""Answers in JSON are compressed for clients that accept gzip; those with secrets, and files, are not."""

import gzip
import json

import httpx2
import pytest

from longshore.api.compression import MIN_BYTES
from tests.service import ended, export_body

BIG = "/indexes"
PREVIEW = {
    "segment": {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1764, "rules": []},
}


def raw(client: httpx2.Client, path: str, coding: str | None, method: str = "GET") -> tuple[httpx2.Headers, bytes]:
    """The header fields of an answer, and its content as it was sent."""
    request = client.build_request(method, path, headers={"Accept-Encoding": coding or ""})
    if coding is None:
        del request.headers["Accept-Encoding"]
    answer = client.send(request, stream=True)
    content = b"".join(answer.iter_raw())
    answer.close()
    return answer.headers, content


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip", True), ("GZIP", True), ("deflate, gzip;q=0.5, br", True), ("*", True), ("x-gzip", True),
        ("gzip;q=1.0, identity;q=0.5", True), ("identity;q=0, gzip;q=0.001", True),
        ("gzip;q=0", False), ("*;q=0", False), ("br, deflate", False), ("", False), (None, False),
        ("gzip;q=0.5, identity", False), ("gzip;q=0, *", False), ("gzip;q=many", False),
    ],
)  # fmt: skip
def test_weights_of_codings_are_honored(client: httpx2.Client, accepted: str | None, is_compressed: bool) -> None:
    headers, content = raw(client, BIG, accepted)
    plain = gzip.decompress(content) if is_compressed else content
    assert headers.get("content-encoding") == ("gzip" if is_compressed else None)
    assert json.loads(plain)[0]["name"]
    assert int(headers["content-length"]) == len(content)
    assert "accept-encoding" in headers["vary"].lower()


def test_head_has_the_fields_of_the_compressed_get(client: httpx2.Client) -> None:
    headers, content = raw(client, BIG, "gzip", "HEAD")
    assert content == b""
    assert headers["content-encoding"] == "gzip"
    assert headers["content-length"] == raw(client, BIG, "gzip")[0]["content-length"]


def test_large_answers_are_compressed_and_small_ones_are_not(client: httpx2.Client) -> None:
    headers, content = raw(client, "/openapi.json", "gzip")
    assert headers["content-encoding"] == "gzip"
    assert len(content) * 5 < len(gzip.decompress(content))
    headers, content = raw(client, "/healthz", "gzip")
    assert "content-encoding" not in headers
    assert len(content) < MIN_BYTES


def test_answer_with_an_entity_tag_has_the_same_bytes_and_fields_for_every_coding(client: httpx2.Client) -> None:
    """RFC 9110, sections 8.8.3.3 and 15.4.5: a 304 has the `Vary` of its 200."""
    body = {**export_body(once="2126-05-26T12:00:00Z"), "debug": "x" * 2 * MIN_BYTES}
    task = client.post("/tasks", json=body).json()["id"]
    headers, content = raw(client, f"/tasks/{task}", "gzip")
    plain, plain_content = raw(client, f"/tasks/{task}", None)
    assert (headers["etag"], content) == (plain["etag"], plain_content)
    unchanged = client.get(f"/tasks/{task}", headers={"If-None-Match": headers["etag"]})
    for name in ("content-encoding", "vary"):
        assert headers.get(name) == plain.get(name) == unchanged.headers.get(name)
    assert client.get(f"/tasks/{task}", headers={"If-None-Match": headers["etag"]}).status_code == 304
    assert client.post(f"/tasks/{task}/cancel", headers={"If-Match": headers["etag"]}).status_code == 200


def test_answers_with_secrets_are_never_compressed(client: httpx2.Client) -> None:
    body = export_body()
    body["target"]["split"] = {"rows": 1000}
    task = client.post("/tasks", json=body).json()["id"]
    ended(client, task)
    headers, content = raw(client, f"/tasks/{task}/runs/1/files", "gzip")
    assert len(content) > MIN_BYTES
    assert "content-encoding" not in headers, "the signed addresses of files"
    posted = client.post("/segments/preview", json=PREVIEW, headers={"Accept-Encoding": "gzip"})
    assert len(posted.content) > MIN_BYTES
    assert "content-encoding" not in posted.headers, "answers to POST, among which are new secrets"
    cookie = {"Cookie": "longshore=x"}
    assert "content-encoding" not in client.get(BIG, headers={"Accept-Encoding": "gzip", **cookie}).headers


def test_result_file_in_json_is_sent_as_it_is_stored(client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body("json")).json()["id"]
    ended(client, task)
    url = client.get(f"/tasks/{task}/download_url").json()["url"]
    headers, content = raw(client, url, "gzip")
    assert headers["content-type"].startswith("application/json")
    assert "content-encoding" not in headers
    assert len(content) == client.get(f"/tasks/{task}/runs/1").json()["bytes"]


def test_stream_of_events_is_not_compressed(client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body()).json()["id"]
    ended(client, task)
    headers, content = raw(client, f"/tasks/{task}/events", "gzip")
    assert "content-encoding" not in headers
    assert content.startswith(b"retry:")
