"""Downloads: a signed address gives the file, whole or in part; nothing else does."""

import base64
import hashlib
import http.client
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx2
import pytest

from longshore.results.download_signatures import DownloadSigner
from longshore.results.links import MAX_SECONDS
from tests.answers import problem
from tests.service import Longshore, ended, export_body

SMALL = 1765


@pytest.fixture(scope="module")
def task(small_client: httpx2.Client) -> int:
    """A DONE export."""
    found: int = small_client.post("/tasks", json=export_body(chain=SMALL)).json()["id"]
    ended(small_client, found)
    return found


@pytest.fixture
def url(small_client: httpx2.Client, task: int) -> str:
    """Its signed address."""
    answer = small_client.get(f"/tasks/{task}/download_url")
    assert answer.status_code == 200
    assert list(answer.json()) == ["url"]
    found: str = answer.json()["url"]
    return found


@pytest.fixture
def content(service: Longshore, task: int) -> bytes:
    """Its file as it is on the disk."""
    return next(path for path in service.files() if path.name == f"Wallet_Export-{task}.csv").read_bytes()


def request_unnormalized(url: str, path_and_query: str, method: str = "GET") -> tuple[int, str, bytes]:
    """Ask for a path and query, which no client has put in order, at the host of `url`."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, path_and_query)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("content-type", ""), answer.read()
    finally:
        connection.close()


def test_download_has_the_whole_file_and_its_description(url: str, content: bytes, task: int) -> None:
    answer = httpx2.get(url)
    assert answer.status_code == 200
    assert answer.content == content
    digest = hashlib.sha256(content).digest()
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["etag"] == f'"{digest.hex()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    assert answer.headers["content-disposition"] == f'attachment; filename="Wallet_Export-{task}.csv"'
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-row-count"] == "2000"
    assert "private" in answer.headers["cache-control"]


def test_head_of_a_download_has_the_same_headers_without_the_file(url: str) -> None:
    got, head = httpx2.get(url), httpx2.head(url)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("content-length", "etag", "repr-digest", "content-disposition", "content-type", "accept-ranges"):
        assert head.headers[name] == got.headers[name]


def test_download_address_is_valid_for_about_an_hour(url: str) -> None:
    expires = int(parse_qs(urlsplit(url).query)["expires"][0])
    assert 3500 <= expires - time.time() <= MAX_SECONDS == 3600


@pytest.mark.parametrize(
    ("wanted", "part"),
    [("bytes=0-9", slice(0, 10)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None)),
     ("bytes=5-5", slice(5, 6)), ("bytes=10-99999999", slice(10, None)), ("BYTES=0-1", slice(0, 2))],
)  # fmt: skip
def test_range_of_a_download_has_that_part(url: str, content: bytes, wanted: str, part: slice) -> None:
    answer = httpx2.get(url, headers={"Range": wanted})
    assert answer.status_code == 206
    assert answer.content == content[part]
    start, stop, _ = part.indices(len(content))
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(content)}"
    assert answer.headers["content-length"] == str(len(answer.content))


def test_several_ranges_of_a_download_come_in_parts(url: str, content: bytes) -> None:
    answer = httpx2.get(url, headers={"Range": "bytes=0-1,10-19"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert b"\r\n\r\n" + content[0:2] + b"\r\n" in answer.content
    assert b"\r\n\r\n" + content[10:20] + b"\r\n" in answer.content


@pytest.mark.parametrize("wanted", ["lines=0-1", "bytes=x", "bytes=", "bytes", "bytes=9-2", "0-1", "bytes=--1"])
def test_invalid_range_is_ignored(url: str, content: bytes, wanted: str) -> None:
    answer = httpx2.get(url, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, content)


def test_a_range_beyond_the_end_is_refused_with_the_size(url: str, content: bytes) -> None:
    answer = httpx2.get(url, headers={"Range": f"bytes={len(content)}-"})
    problem(answer, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(content)}"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [("bytes=0-4,{end}-", slice(0, 5)), ("bytes={end}-,-3", slice(-3, None)), ("bytes = 0-4", slice(0, 5)),
     ("bytes=0-4,2-6", slice(0, 7)), ("bytes=0-99999999999999999999999999", slice(None)), ("bytes=,0-1,", slice(0, 2))],
)  # fmt: skip
def test_ranges_beyond_the_end_are_left_out(url: str, content: bytes, wanted: str, part: slice) -> None:
    answer = httpx2.get(url, headers={"Range": wanted.format(end=len(content))})
    assert (answer.status_code, answer.content) == (206, content[part])


def test_as_many_ranges_as_are_answered_may_be_large_and_a_longer_field_is_ignored(url: str, content: bytes) -> None:
    ranges = ",".join(f"{10**18 + number}-{10**19 - 1}" for number in range(99))
    answer = httpx2.get(url, headers={"Range": f"bytes=0-4,{ranges}"})
    assert (answer.status_code, answer.content) == (206, content[:5])
    for long in ("bytes=0-4" + "," * 5_000, "bytes=" + "0-4," * 1_500):
        answer = httpx2.get(url, headers={"Range": long})
        assert (answer.status_code, answer.content) == (200, content)


def test_head_and_several_range_fields_ask_for_no_range(url: str, content: bytes) -> None:
    assert httpx2.head(url, headers={"Range": "bytes=0-4"}).status_code == 200
    answer = httpx2.get(url, headers=[("Range", "bytes=0-4"), ("Range", "bytes=5-9")])
    assert (answer.status_code, answer.content) == (200, content)


def test_download_without_bytes_does_not_count_as_a_use(small_client: httpx2.Client, task: int, content: bytes) -> None:
    url = small_client.get(f"/tasks/{task}/download_url", params={"max_uses": 1}).json()["url"]
    tag = httpx2.head(url).headers["etag"]
    for known in (tag, f"W/{tag}", "*", f'"x", {tag}'):
        same = httpx2.get(url, headers={"If-None-Match": known})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    for other in ('"x"', f"W/{tag}"):
        problem(httpx2.get(url, headers={"If-Match": other}), "changed-meanwhile")
    problem(httpx2.get(url, headers={"Range": f"bytes={len(content)}-"}), "range-not-satisfiable")
    assert httpx2.get(url, headers={"If-Match": tag, "If-None-Match": '"x"'}).content == content
    problem(httpx2.get(url), "bad-address")


def test_link_out_of_the_results_folder_is_not_followed(service: Longshore, small_client: httpx2.Client) -> None:
    made = small_client.post("/tasks", json=export_body(chain=SMALL)).json()["id"]
    ended(small_client, made)
    url = small_client.get(f"/tasks/{made}/download_url").json()["url"]
    file = next(path for path in service.files() if path.name == f"Wallet_Export-{made}.csv")
    file.unlink()
    file.symlink_to("/etc/passwd")
    problem(httpx2.get(url), "result-gone")
    problem(small_client.get(f"/tasks/{made}/download_url"), "result-gone")


def test_a_download_goes_on_only_in_the_same_file(url: str, content: bytes) -> None:
    whole = httpx2.get(url)
    for mark in (whole.headers["etag"], whole.headers["last-modified"]):
        assert httpx2.get(url, headers={"Range": "bytes=9-", "If-Range": mark}).content == content[9:]
    for mark in ('"another"', f"W/{whole.headers['etag']}", "Thu, 01 Jan 1970 00:00:00 GMT"):
        answer = httpx2.get(url, headers={"Range": "bytes=9-", "If-Range": mark})
        assert (answer.status_code, answer.content) == (200, content)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
def test_curl_saves_a_download_under_its_name_and_resumes(url: str, content: bytes, task: int, tmp_path: Path) -> None:
    subprocess.run(["curl", "-sSfOJ", url], cwd=tmp_path, check=True)
    file = tmp_path / f"Wallet_Export-{task}.csv"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_bytes() == content
    file.write_bytes(content[:1000])
    subprocess.run(["curl", "-sSf", "-C", "-", "-o", file, url], cwd=tmp_path, check=True)
    assert file.read_bytes() == content


def test_a_task_that_is_not_done_has_no_address(idle_client: httpx2.Client) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    assert "READY" in problem(idle_client.get(f"/tasks/{task}/download_url"), "task-not-done")["detail"]


def test_a_task_that_is_no_export_has_no_address(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    idle_service.sql("update longshore.tasks set action = 'mail', state = 'DONE' where id = $1", task)
    assert "'mail'" in problem(idle_client.get(f"/tasks/{task}/download_url"), "no-export")["detail"]


def test_download_of_a_deleted_file_is_gone(service: Longshore, small_client: httpx2.Client) -> None:
    task = small_client.post("/tasks", json=export_body(chain=SMALL)).json()["id"]
    ended(small_client, task)
    url = small_client.get(f"/tasks/{task}/download_url").json()["url"]
    next(path for path in service.files() if path.name == f"Wallet_Export-{task}.csv").unlink()
    problem(small_client.get(f"/tasks/{task}/download_url"), "result-gone")
    problem(httpx2.get(url), "result-gone")


def test_every_altered_character_of_a_signed_address_is_refused(url: str) -> None:
    parts = urlsplit(url)
    path = parts.path.removeprefix("/results/")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}

    def address(path: str, *values: str) -> str:
        shown = (f"{name}={quote(value, safe='')}" for name, value in zip(query, values, strict=True))
        return f"/results/{quote(path)}?{'&'.join(shown)}"

    assert list(query) == ["expires", "link", "signature"]
    good = [path, *query.values()]
    assert request_unnormalized(url, address(*good))[0] == 200
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    tried = 0
    for which, value in enumerate(good):
        changes = [
            value[:at] + chr(ord(c) ^ 1 << bit) + value[at + 1 :] for at, c in enumerate(value) for bit in range(7)
        ]
        changes += [value[:at] + value[at + 1 :] for at in range(len(value))]  # one left out
        changes += [value[:at] + c + value[at:] for at, c in enumerate(value)]  # one doubled
        for change in changes:
            if change == value or (which == 0 and change.startswith("/")):
                continue
            changed = [*good[:which], change, *good[which + 1 :]]
            connection.request("GET", address(*changed))
            answer = connection.getresponse()
            # With a doubled slash, or one at its end, it is no path of the service at all.
            no_path = "//" in changed[0] or changed[0].endswith("/")
            expected = 404 if no_path else 403
            assert (answer.status, answer.headers["content-type"]) == (expected, "application/problem+json"), change
            answer.read()
            tried += 1
    assert tried > 500
    connection.close()


def test_expired_address_is_refused_by_the_clock_of_the_database(service: Longshore, url: str) -> None:
    key = bytes(service.sql("select value from longshore.keys where name = 'signing'")[0]["value"])
    location = urlsplit(url).path.removeprefix("/results/")
    link = parse_qs(urlsplit(url).query)["link"][0]
    signer = DownloadSigner(key)
    update = "update longshore.links set expires_at = now() + $2 * interval '1 second' where id = $1"
    for seconds, status in ((60, 200), (0, 403), (-3600, 403), (3600, 200)):
        service.sql(update, link, seconds)
        for expires in ("4102444800", "1"):
            query = f"expires={expires}&link={link}&signature={signer._signature(location, expires, link)}"
            assert request_unnormalized(url, f"/results/{location}?{query}")[0] == status, (seconds, expires)


@pytest.mark.parametrize(
    "query", ["", "?", "?expires=1", "?signature=x", "?expires=1&signature=", "?expires=%00&link=%00&signature=%ff"]
)
def test_address_without_a_valid_signature_is_refused(url: str, query: str) -> None:
    status, media_type, _ = request_unnormalized(url, urlsplit(url).path + query)
    assert (status, media_type) == (403, "application/problem+json")


def test_address_with_additional_parameters_is_refused(url: str) -> None:
    problem(httpx2.get(url + "&x=1"), "bad-address")


@pytest.mark.parametrize(
    "trick",
    ["../{}", "../../{}", "%2e%2e/{}", "%2e%2e%2f{}", "..%2f{}", "./{}", "{}/..", "{}/.", "{}%00",
     "{}%00.csv", "//{}",
     "..%5c{}", "%252e%252e/{}", "/etc/passwd", "..%2f..%2f..%2f..%2fetc%2fpasswd", "{}%0a",
     "{}%20", "{}/", "%ff", "%00"],
)  # fmt: skip
def test_path_traversal_is_refused(url: str, content: bytes, trick: str) -> None:
    parts = urlsplit(url)
    path = "/results/" + trick.format(parts.path.removeprefix("/results/"))
    status, media_type, body = request_unnormalized(url, f"{path}?{parts.query}")
    assert status in (400, 403, 404)
    assert body != content
    if status != 400:
        assert media_type == "application/problem+json"


def test_token_instead_of_a_signature_is_refused(small_client: httpx2.Client, url: str) -> None:
    problem(small_client.get(urlsplit(url).path), "bad-address")
