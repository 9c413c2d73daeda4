"""`Idempotency-Key` on `POST /tasks`: sent twice, made once."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx2
import pytest

from longshore.access.tokens import Level
from tests.answers import faults, problem
from tests.service import Longshore, export_body


@pytest.fixture
def key() -> str:
    return f"order {uuid4()}"


def test_the_same_key_and_body_give_the_same_answer(waiting: httpx2.Client, key: str) -> None:
    body, headers = export_body(), {"Idempotency-Key": key}
    first = waiting.post("/tasks", json=body, headers=headers)
    again = waiting.post("/tasks", json=dict(reversed(body.items())), headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert waiting.post("/tasks", json=body).json()["id"] != first.json()["id"]


def test_the_same_key_with_another_body_is_refused(waiting: httpx2.Client, key: str) -> None:
    headers = {"Idempotency-Key": key}
    assert waiting.post("/tasks", json=export_body(), headers=headers).status_code == 201
    problem(waiting.post("/tasks", json=export_body("json"), headers=headers), "idempotency-key-reused")


def test_of_many_at_once_one_makes_the_task(waiting: httpx2.Client, idle: Longshore, key: str) -> None:
    before = idle.sql("select count(*) from longshore.tasks")[0]["count"]
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda _: waiting.post("/tasks", json=export_body(), headers={"Idempotency-Key": key}), range(24))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert idle.sql("select count(*) from longshore.tasks")[0]["count"] == before + 1


def test_a_refused_body_does_not_use_the_key_up(waiting: httpx2.Client, key: str) -> None:
    headers = {"Idempotency-Key": key}
    faults(waiting.post("/tasks", json=export_body("nonsense"), headers=headers))
    assert waiting.post("/tasks", json=export_body(), headers=headers).status_code == 201


def test_keys_are_their_chains_own_and_good_for_a_day(waiting: httpx2.Client, idle: Longshore, key: str) -> None:
    headers = {"Idempotency-Key": key}
    first = waiting.post("/tasks", json=export_body(), headers=headers).json()["id"]
    with idle.client(Level.WRITE, chain=9) as other:
        assert other.post("/tasks", json=export_body(chain=9), headers=headers).json()["id"] != first
    idle.sql(
        "update longshore.idempotency_keys set created_at = now() - interval '25 hours' where key like '% ' || $1", key
    )
    answer = waiting.post("/tasks", json=export_body("json"), headers=headers)
    assert (answer.status_code, answer.json()["id"] == first) == (201, False)
    assert len(idle.sql("select from longshore.idempotency_keys where key like '% ' || $1", key)) == 1, (
        "the other chain's is swept"
    )


@pytest.mark.parametrize("wrong", ["", "x" * 256])
def test_a_key_that_is_none_is_refused(waiting: httpx2.Client, wrong: str) -> None:
    answer = waiting.post("/tasks", json=export_body(), headers={"Idempotency-Key": wrong})
    assert len(faults(answer)) == 1
