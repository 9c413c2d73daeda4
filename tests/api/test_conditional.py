"""Preconditions, entity tags that move with progress, pages of the log, and what a `PATCH` takes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from longshore.api.conditional import EntityTags, parse_tags
from tests.answers import problem, violations
from tests.run_steps import play
from tests.service import Longshore, export_body

LATER = "2126-05-26T12:00:00Z"
SEGMENT = {
    "entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1764,
    "rules": [{"field_name": "amount", "field_type": "number", "operator": "is_not_empty"}],
}  # fmt: skip


@pytest.fixture
def task(idle_client: httpx2.Client) -> int:
    found: int = idle_client.post("/tasks", json=export_body(once=LATER)).json()["id"]
    return found


@pytest.fixture
def segment(idle_client: httpx2.Client) -> str:
    body = {"chain": 1764, "name": "a test", "segment": SEGMENT}
    answer = idle_client.post("/segments", json=body)
    assert answer.status_code == 201, answer.text
    return f"/segments/{answer.json()['id']}"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], EntityTags()),
        (['"a"'], EntityTags(frozenset({'"a"'}), frozenset({'"a"'}))),
        (['W/"a", "b,c"', ' ,"d" , '], EntityTags(frozenset({'"b,c"', '"d"'}), frozenset({'"a"', '"b,c"', '"d"'}))),
        ([" * "], EntityTags(any=True)),
        (["a"], None), (['"a'], None), (['"a" "b"'], None), (['w/"a"'], None), (['*, "a"'], None), (["W/ \"a\""], None),
    ],
)  # fmt: skip
def test_condition_is_read_as_a_list_over_several_lines(lines: list[str], expected: EntityTags | None) -> None:
    assert parse_tags(lines) == expected


CHANGES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"desc": "another"}), ("DELETE", "", None), ("POST", "/cancel", None),
    ("POST", "/pause", None), ("POST", "/resume", {"catch_up": "all"}),
    ("POST", "/backfill", {"start": "2026-05-01T00:00:00Z", "end": "2026-05-02T00:00:00Z"}),
    ("DELETE", "/backfills/1", None),
    ("POST", "/execute", None), ("POST", "/runs/1/ack", None), ("POST", "/runs/1/deliver", None),
    ("DELETE", "/links/x", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_change_of_a_task_under_a_false_precondition_is_refused_and_does_nothing(
    idle_client: httpx2.Client, task: int, method: str, path: str, body: Any
) -> None:
    before = idle_client.get(f"/tasks/{task}")
    tag = before.headers["etag"]
    wrong: list[tuple[str, str]] = [
        ("If-Match", f'"{task}-99"'), ("If-Match", f"W/{tag}"), ("If-Match", f'"{task + 1}-1"'), ("If-Match", '""'),
        ("If-None-Match", "*"), ("If-None-Match", tag), ("If-None-Match", f'"x", W/{tag}'),
    ]  # fmt: skip
    for field in wrong:
        answer = idle_client.request(method, f"/tasks/{task}{path}", json=body, headers=[field])
        problem(answer, "changed-meanwhile")
    malformed = idle_client.request(method, f"/tasks/{task}{path}", json=body, headers={"If-Match": tag.strip('"')})
    assert list(violations(malformed)) == ["If-Match"]
    assert idle_client.get(f"/tasks/{task}").json() == before.json()


def test_change_under_a_true_precondition_on_a_second_line_is_made(idle_client: httpx2.Client, task: int) -> None:
    headers = [("If-Match", '"x"'), ("If-Match", f'"y", "{task}-1"'), ("If-None-Match", '"z"')]
    assert idle_client.patch(f"/tasks/{task}", json={"desc": "another"}, headers=headers).status_code == 200
    assert idle_client.post(f"/tasks/{task}/cancel", headers={"If-Match": f'"{task}-2-7"'}).status_code == 200
    assert idle_client.delete(f"/tasks/{task}", headers={"If-Match": "*"}).status_code == 204
    problem(idle_client.delete(f"/tasks/{task}", headers={"If-Match": "*"}), "task-not-found")


def test_stored_segment_is_replaced_and_deleted_only_as_its_tag_says(idle_client: httpx2.Client, segment: str) -> None:
    first = idle_client.get(segment)
    body = {"chain": 1764, "name": "another", "segment": SEGMENT}
    second = idle_client.put(segment, json=body, headers={"If-Match": first.headers["etag"]})
    assert second.status_code == 200, second.text
    assert idle_client.get(segment).headers["etag"] == second.headers["etag"] != first.headers["etag"]
    problem(idle_client.put(segment, json=body, headers={"If-Match": first.headers["etag"]}), "changed-meanwhile")
    problem(idle_client.put(segment, json=body, headers={"If-None-Match": "*"}), "changed-meanwhile")
    problem(idle_client.delete(segment, headers={"If-Match": first.headers["etag"]}), "changed-meanwhile")
    assert idle_client.delete(segment, headers={"If-Match": second.headers["etag"]}).status_code == 204


def test_segment_destination_and_task_are_answered_only_as_conditions_on_their_tags_allow(
    idle_client: httpx2.Client, segment: str, task: int
) -> None:
    name, settings = f"shelf-{uuid4().hex}", {"shelf": "top"}
    body = {"name": name, "kind": "memory", "settings": settings, "secret": {"password": "correct horse"}}
    destination = idle_client.post("/destinations", json=body)
    assert destination.status_code == 201, destination.text
    for path in (segment, f"/destinations/{destination.json()['id']}", f"/tasks/{task}"):
        tag = idle_client.get(path).headers["etag"]
        for known in (tag, f'"x", W/{tag}', "*"):
            unchanged = idle_client.get(path, headers={"If-None-Match": known})
            assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
        assert idle_client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
        for expected in (tag, f'"x", {tag}', "*"):
            assert idle_client.get(path, headers={"If-Match": expected}).status_code == 200
        for outdated in ('"x"', f"W/{tag}"):
            problem(idle_client.get(path, headers={"If-Match": outdated, "If-None-Match": tag}), "changed-meanwhile")
        assert idle_client.delete(path).status_code == 204


def test_resource_without_a_tag_meets_no_condition_on_a_tag(idle_client: httpx2.Client) -> None:
    body = {"chain": 1764, "url": "https://a.example/"}
    problem(idle_client.post("/webhooks", json=body, headers={"If-Match": '"x"'}), "changed-meanwhile")
    malformed = idle_client.post("/webhooks", json=body, headers={b"If-None-Match": b"\xc2\x84"})
    assert list(violations(malformed)) == ["If-None-Match"]
    assert idle_client.get("/webhooks").json() == []


@pytest.mark.parametrize("condition", [None, "*", "each revision"])
def test_changes_at_once_whose_precondition_holds_all_along_are_made_one_after_the_other(
    idle_client: httpx2.Client, task: int, condition: str | None
) -> None:
    each = ", ".join(f'"{task}-{revision}"' for revision in range(1, 52))
    headers = {"If-Match": each if condition == "each revision" else condition} if condition else {}
    with ThreadPoolExecutor(25) as pool:
        answers = list(
            pool.map(lambda n: idle_client.patch(f"/tasks/{task}", json={"desc": f"{n}"}, headers=headers), range(50))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert idle_client.get(f"/tasks/{task}").headers["etag"] == f'"{task}-51"'


def test_of_changes_at_once_under_one_tag_a_single_one_is_made(idle_client: httpx2.Client, task: int) -> None:
    headers = {"If-Match": f'"{task}-1"'}
    with ThreadPoolExecutor(25) as pool:
        answers = list(
            pool.map(lambda n: idle_client.patch(f"/tasks/{task}", json={"desc": f"{n}"}, headers=headers), range(25))
        )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 24


def test_merge_patch_merges_and_null_removes(idle_client: httpx2.Client) -> None:
    trigger = {"once": LATER, "repeat": "daily", "until": "2127-01-01T00:00:00Z"}
    task = idle_client.post("/tasks", json={**export_body(), "trigger": trigger, "debug": "x"}).json()["id"]
    headers = {"Content-Type": "application/merge-patch+json"}

    def patched(body: str) -> httpx2.Response:
        return idle_client.patch(f"/tasks/{task}", content=body, headers=headers)

    answer = patched('{"trigger": {"repeat": "weekly", "until": null}, "debug": null}')
    assert answer.status_code == 200, answer.text
    assert answer.json()["trigger"] == {"once": LATER, "repeat": "weekly"}
    assert answer.json()["debug"] == ""
    assert list(violations(patched('{"desc": null}'))) == ["/desc"]
    assert list(violations(patched('{"chain": 9, "target": {"export_format": "nonsense"}}'))) == ["/chain"]
    assert list(violations(patched("[]"))) == [""]


@pytest.mark.parametrize(
    ("media_type", "key"),
    [
        *(("application/json", key) for key in ("desc", "debug", "trigger", "target")),
        *(("application/merge-patch+json", key) for key in ("desc", "trigger", "target")),
    ],
)
def test_null_for_a_required_key_of_a_change_is_refused(
    idle_client: httpx2.Client, task: int, media_type: str, key: str
) -> None:
    answer = idle_client.patch(f"/tasks/{task}", content=f'{{"{key}": null}}', headers={"Content-Type": media_type})
    assert list(violations(answer)) == [f"/{key}"]
    assert idle_client.get(f"/tasks/{task}").headers["etag"] == f'"{task}-1"'


def test_progress_moves_last_modified_and_the_third_part_of_the_tag(
    idle_client: httpx2.Client, idle_service: Longshore
) -> None:
    task = idle_client.post("/tasks", json=export_body()).json()["id"]
    play(idle_service, task, "begin", "report")
    began = idle_client.get(f"/tasks/{task}")
    assert began.headers["etag"] == f'"{task}-2"'

    def progressed(seconds: float) -> httpx2.Response:
        idle_service.sql(
            "update longshore.runs r set progress_at = t.modified_at + make_interval(secs => $2)"
            " from longshore.tasks t where t.id = $1 and r.task_id = t.id",
            task,
            seconds,
        )
        return idle_client.get(f"/tasks/{task}")

    same = progressed(9.9)
    assert (same.headers["etag"], same.json()) == (began.headers["etag"], began.json())
    idle_service.sql("update longshore.tasks set modified_at = '2026-05-26T12:00:00Z' where id = $1", task)
    moved = progressed(25)
    assert moved.headers["etag"] == f'"{task}-2-2"'
    assert moved.json()["state"]["last_modified"] == "2026-05-26T12:00:20Z"
    listed = next(each for each in idle_client.get("/tasks").json() if each["id"] == task)
    assert listed["state"] == moved.json()["state"]

    def status_of(tag: str, **params: Any) -> int:
        return idle_client.get(f"/tasks/{task}", headers={"If-None-Match": tag}, params=params).status_code

    tags = (f'"{task}-2-2"', f'W/"{task}-2-2"', f'"{task}-2"', f'"{task}-2-1"')
    assert [status_of(tag) for tag in tags] == [304, 304, 200, 200]
    assert [status_of(f'"{task}-2-2"', wait=1), status_of(f'"{task}-2"', wait=1)] == [304, 200]
    play(idle_service, task, "finish")
    assert idle_client.get(f"/tasks/{task}").headers["etag"] == f'"{task}-3"'


def test_log_is_paged_from_either_end(idle_client: httpx2.Client, idle_service: Longshore, task: int) -> None:
    idle_service.sql(
        "insert into longshore.task_logs (task_id, seq, at, msg) select $1, n, now(), n::text"
        " from generate_series(0, 24) n",
        task,
    )
    idle_service.sql("update longshore.tasks set log_length = 25 where id = $1", task)

    def read(query: str) -> tuple[list[int], dict[str, str]]:
        answer = idle_client.get(query if query.startswith("/") else f"/tasks/{task}{query}")
        assert answer.headers["x-log-length"] == "25"
        links = {rel: link["url"] for rel, link in answer.links.items() if rel}
        return [int(entry["msg"]) for entry in answer.json()["logs"]], links

    page, links = read("?wait=0")
    assert page == list(range(10))
    assert links == {"next": f"/tasks/{task}?log_limit=10&offset=10", "last": f"/tasks/{task}?log_limit=10&offset=20"}
    assert read(links["last"]) == (list(range(20, 25)), {})
    page, links = read("?log_order=desc&log_limit=20")
    assert page == list(range(24, 4, -1))
    assert read(links["next"]) == ([4, 3, 2, 1, 0], {})
    assert read("?log_order=desc&log_limit=2&offset=24")[0] == [0]
    assert read("?log_limit=0") == ([], {})
    assert list(violations(idle_client.get(f"/tasks/{task}?log_order=newest"))) == ["log_order"]


@pytest.mark.parametrize("last", ["99-1", "1-99", "999999999999999999-999999999"])
def test_events_after_an_unknown_id_start_at_the_beginning(
    idle_client: httpx2.Client, idle_service: Longshore, last: str
) -> None:
    task = idle_client.post("/tasks", json=export_body()).json()["id"]
    play(idle_service, task, "begin", "fail")
    with idle_client.stream("GET", f"/tasks/{task}/events", headers={"Last-Event-ID": last}) as answer:
        event_lines = [line for line in answer.iter_lines() if line.startswith("event: ")]
    assert event_lines == ["event: log"] * 3 + ["event: state", "event: end"]
