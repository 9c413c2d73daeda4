"""`POST /tasks`: accepted bodies, their normalized form, and violations."""

import time
from typing import Any

import httpx2
import pytest

from tests.answers import problem, violations
from tests.service import CHAIN, Longshore, ended, export_body

FAR = "2126-05-26T12:00:00Z"


def changed(at: str, value: Any, **trigger: Any) -> dict[str, Any]:
    """A good body with one value put, or made, at a path such as `target.action`."""
    body: dict[str, Any] = export_body(**{"once": FAR, **trigger})
    *path, last = at.split(".")
    part = body
    for step in path:
        part = part[step]
    part[last] = value
    return body


def test_a_created_task_is_answered_with_its_location(idle_client: httpx2.Client) -> None:
    answer = idle_client.post("/tasks", json=export_body(once=FAR))
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"/tasks/{answer.json()['id']}"


def test_new_task_has_a_greater_id_than_those_before(idle_client: httpx2.Client) -> None:
    ids = [idle_client.post("/tasks", json=export_body(once=FAR)).json()["id"] for _ in range(3)]
    assert ids == sorted(set(ids))


def test_id_of_a_deleted_task_is_given_to_no_other_in_any_chain(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    newest = idle_client.post("/tasks", json=export_body(once=FAR)).json()["id"]
    assert idle_client.delete(f"/tasks/{newest}").status_code == 204
    for chain in (1765, CHAIN):
        with idle_service.client(chain=chain) as client:
            later = client.post("/tasks", json=export_body(chain=chain, once=FAR)).json()["id"]
        assert later > newest
        newest = later


@pytest.mark.parametrize("past", ["2026-05-26T12:00:00Z", "1900-01-01T00:00:00Z", "1969-12-31T23:59:59.5-08:00"])
def test_task_whose_once_is_in_the_past_runs_now(small_client: httpx2.Client, past: str) -> None:
    task = small_client.post("/tasks", json=export_body(chain=1765, once=past)).json()
    assert ended(small_client, task["id"])["state"]["code"] == "DONE"


def test_task_whose_once_is_in_the_future_runs_then(small_client: httpx2.Client) -> None:
    due = time.time() + 2
    once = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + f".{int(due % 1 * 1000):03}Z"
    task = small_client.post("/tasks", json=export_body(chain=1765, once=once)).json()
    assert task["state"]["code"] == "READY"
    while time.time() < due - 0.3:
        seen = small_client.get(f"/tasks/{task['id']}").json()["state"]["code"]
        assert seen == "READY" or time.time() >= due
        time.sleep(0.05)
    assert ended(small_client, task["id"])["state"]["code"] == "DONE"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2126-05-26T12:00:00Z", "2126-05-26T12:00:00Z"),
        ("2126-05-26T12:00:00z", "2126-05-26T12:00:00Z"),
        ("2126-05-26T14:00:00+02:00", "2126-05-26T12:00:00Z"),
        ("2126-05-26T14:00:00.999999+02:00", "2126-05-26T12:00:00Z"),
        ("2126-05-25T22:29:59.5-13:30", "2126-05-26T11:59:59Z"),
    ],
)
def test_once_with_any_offset_is_shown_in_utc_and_whole_seconds(
    idle_client: httpx2.Client, given: str, shown: str
) -> None:
    assert idle_client.post("/tasks", json=export_body(once=given)).json()["trigger"] == {"once": shown}


@pytest.mark.parametrize("trigger", [{"repeat": "daily"}, {"cron": "0 6 * * *"}])
def test_until_is_shown_in_utc_and_whole_seconds(idle_client: httpx2.Client, trigger: dict[str, str]) -> None:
    given = {**trigger, "until": "2127-05-26T14:00:00.999+02:00"}
    body = export_body() | {"trigger": given if "cron" in given else {"once": FAR, **given}}
    answer = idle_client.post("/tasks", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["trigger"] == body["trigger"] | {"until": "2127-05-26T12:00:00Z"}
    assert idle_client.get(answer.headers["location"]).json()["trigger"] == answer.json()["trigger"]


@pytest.mark.parametrize(
    "once",
    ["2126-05-26T12:00:00", "2126-05-26", "tomorrow", "", 4935556800, "4935556800", "2126-02-30T12:00:00Z", None, True,
     "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "2126-05-26T12:00:60Z", "2126-05-26T25:00:00Z"],
)  # fmt: skip
def test_a_time_that_is_none_or_has_no_offset_is_refused(idle_client: httpx2.Client, once: Any) -> None:
    assert list(violations(idle_client.post("/tasks", json=export_body(once=once)))) == ["/trigger/once"]


@pytest.mark.parametrize(
    ("at", "value", "pointer", "hint"),
    [
        ("dbug", "", "/dbug", 'did you mean "debug"?'),
        ("a/b~c", 1, "/a~1b~0c", "unknown key"),
        ("target.export_indx", "x", "/target/export_indx", 'did you mean "export_index"?'),
        ("trigger.onse", FAR, "/trigger/onse", 'did you mean "once"?'),
        ("target.action", "exprot", "/target/action", 'did you mean "export"?'),
        ("target.action", "mail", "/target/action", "expected one of export, http"),
        ("target.export_index", "wallet-leger", "/target/export_index", 'did you mean "wallet-ledger"?'),
        ("target.export_index", "zzz", "/target/export_index", "expected one of"),
        ("target.export_format", "cvs", "/target/export_format", 'did you mean "csv"?'),
        ("target.export_format", "x" * 1000, "/target/export_format", "expected one of csv"),
        ("chain", "1764", "/chain", "expected an integer"),
        ("chain", True, "/chain", "expected an integer"),
        ("chain", 1764.5, "/chain", "expected an integer"),
        ("chain", 0, "/chain", "positive"),
        ("chain", -1764, "/chain", "positive"),
        ("chain", 2**63, "/chain", "expected a positive integer of at most 9223372036854775807"),
        ("chain", 10**30, "/chain", "expected"),
        ("desc", None, "/desc", "expected a string"),
        ("desc", "a\x00b", "/desc", "U+0000"),
        ("debug", "a\x00b", "/debug", "U+0000"),
        ("debug", None, "/debug", "expected a string"),
        ("target", "export", "/target", "expected an object, got a string"),
        ("target", None, "/target", "expected an object, got null"),
        ("trigger", [], "/trigger", "expected an object, got an array"),
        ("trigger.segment", 5, "/trigger/segment", "expected an object, got a number"),
    ],
)
def test_violation_names_its_place_and_the_expected_value(
    idle_client: httpx2.Client, at: str, value: Any, pointer: str, hint: str
) -> None:
    found = violations(idle_client.post("/tasks", json=changed(at, value)))
    assert list(found) == [pointer]
    assert hint in found[pointer]


@pytest.mark.parametrize("key", ["chain", "desc", "target", "trigger"])
def test_body_of_a_task_without_a_required_key_is_refused(idle_client: httpx2.Client, key: str) -> None:
    body = export_body(once=FAR)
    del body[key]
    assert violations(idle_client.post("/tasks", json=body)) == {f"/{key}": "is required"}


def test_all_violations_of_a_body_are_named_at_once(idle_client: httpx2.Client) -> None:
    body = {
        "chain": 0,
        "dsc": "a test",
        "target": {"action": "exprt", "export_index": "wallet-leger", "export_format": "cvs", "colour": "red"},
        "trigger": {"once": "2126-05-26T12:00:00", "segmnt": {}},
    }
    assert set(violations(idle_client.post("/tasks", json=body))) == {
        "/chain", "/dsc", "/desc", "/target/action", "/target/export_index", "/target/export_format",
        "/target/colour", "/trigger/once", "/trigger/segmnt",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"desc": "\\ud800"}', r"expected JSON: a string has half a surrogate pair, such as \ud800 alone"),
        (b'{"desc": "\\ud8', "expected JSON: Input data was truncated"),
    ],
)
def test_half_a_surrogate_pair_is_not_called_a_body_that_is_cut_off(
    idle_client: httpx2.Client, body: bytes, message: str
) -> None:
    answer = idle_client.post("/tasks", content=body, headers={"Content-Type": "application/json"})
    assert violations(answer) == {"": message}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b"\xff\xfe", b'{"chain": NaN}', b"[" * 60_000, b'{"desc": "\\ud800"}', b"{} {}"]
)
def test_body_that_is_not_json_is_refused(idle_client: httpx2.Client, body: bytes) -> None:
    answer = idle_client.post("/tasks", content=body, headers={"Content-Type": "application/json"})
    assert list(violations(answer)) == [""]


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"x"', b"true"])
def test_body_that_is_not_an_object_is_refused(idle_client: httpx2.Client, body: bytes) -> None:
    answer = idle_client.post("/tasks", content=body, headers={"Content-Type": "application/json"})
    assert violations(answer)[""].startswith("expected an object, got")


def test_task_for_another_chain_than_that_of_the_credential_is_refused(idle_client: httpx2.Client) -> None:
    assert "1765" in problem(idle_client.post("/tasks", json=export_body(chain=1765)), "forbidden")["detail"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_64_kib_is_refused(idle_client: httpx2.Client, chunked: bool) -> None:
    def large() -> Any:
        for _ in range(65):
            yield b" " * 1024

    content = large() if chunked else b"".join(large())
    headers = {"Content-Type": "application/json"}
    problem(idle_client.post("/tasks", content=content, headers=headers), "too-large")


def test_body_of_64_kib_is_accepted(idle_client: httpx2.Client) -> None:
    body = httpx2.Request("POST", "http://x", json=export_body(once=FAR)).content
    answer = idle_client.post(
        "/tasks", content=body + b" " * (65536 - len(body)), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", ""]
)
def test_other_media_types_than_json_are_refused(idle_client: httpx2.Client, media_type: str) -> None:
    problem(idle_client.post("/tasks", content=b"{}", headers={"Content-Type": media_type}), "not-json")


def test_the_media_type_may_have_parameters_and_any_case(idle_client: httpx2.Client) -> None:
    body = httpx2.Request("POST", "http://x", json=export_body(once=FAR)).content
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert idle_client.post("/tasks", content=body, headers=headers).status_code == 201


def test_a_refused_task_leaves_nothing_behind(idle_client: httpx2.Client) -> None:
    newest = idle_client.get("/tasks", params={"limit": 1}).json()
    idle_client.post("/tasks", json=changed("target.action", "mail"))
    idle_client.post("/tasks", json=export_body(chain=CHAIN + 1))
    assert idle_client.get("/tasks", params={"limit": 1}).json() == newest


@pytest.mark.parametrize(
    ("once", "until"), [("x", "y"), ({}, "y"), (1, True), (FAR, "y"), ("2126-05-26T12:00:00", "2126-05-26T12:00:00Z")]
)
def test_trigger_whose_times_are_none_is_refused_and_each_is_named(
    idle_client: httpx2.Client, once: Any, until: Any
) -> None:
    trigger = {"once": once, "until": until, "repeat": "daily"}
    for path, body in (("/tasks", export_body(**trigger)), ("/tasks/preview", {"trigger": trigger})):
        assert violations(idle_client.post(path, json=body)).keys() <= {"/trigger/once", "/trigger/until"}
