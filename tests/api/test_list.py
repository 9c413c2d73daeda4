"""`GET /tasks`: newest first, filtered, page by page."""

from collections.abc import Iterator

import httpx2
import pytest

from longshore.access.tokens import Level
from tests.service import Longshore, export_body

CHAIN = 4711
STATES = ["READY", "INPROGRESS", "DONE", "ERROR"]


@pytest.fixture(scope="module")
def ids(idle_service: Longshore) -> list[int]:
    """Sixty tasks of a chain of its own, oldest first, a quarter of them in each state."""
    with idle_service.client(chain=CHAIN) as client:
        body = export_body(chain=CHAIN, once="2126-05-26T12:00:00Z")
        made = [client.post("/tasks", json=body).json()["id"] for _ in range(60)]
    for number, state in enumerate(STATES):
        idle_service.sql("update longshore.tasks set state = $1 where id = any($2::bigint[])", state, made[number::4])
    return made


@pytest.fixture(scope="module")
def chain(idle_service: Longshore, ids: list[int]) -> Iterator[httpx2.Client]:
    assert ids
    with idle_service.client(Level.READ, CHAIN) as client:
        yield client


def listed(answer: httpx2.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [task["id"] for task in answer.json()]


def test_tasks_come_newest_first_25_at_a_time(chain: httpx2.Client, ids: list[int]) -> None:
    assert listed(chain.get("/tasks")) == ids[::-1][:25]
    assert listed(chain.get("/tasks", params={"limit": 100})) == ids[::-1]
    assert listed(chain.get("/tasks", params={"limit": 1})) == [ids[-1]]
    assert listed(chain.get("/tasks", params={"limit": 7, "offset": 5})) == ids[::-1][5:12]
    assert listed(chain.get("/tasks", params={"offset": 60})) == []


def test_listed_tasks_are_task_objects(chain: httpx2.Client) -> None:
    for task in chain.get("/tasks", params={"limit": 5}).json():
        assert task == chain.get(f"/tasks/{task['id']}").json()


@pytest.mark.parametrize("query", [{}, {"limit": "7"}, {"status": "DONE", "limit": "4"}, {"action": "export"}])
def test_next_links_of_the_list_of_tasks_lead_to_every_task_once(
    chain: httpx2.Client, ids: list[int], query: dict[str, str]
) -> None:
    found = []
    answer = chain.get("/tasks", params=query)
    while True:
        found += listed(answer)
        if "next" not in answer.links:
            break
        answer = chain.get(answer.links["next"]["url"])
    assert found == (ids[2::4] if "status" in query else ids)[::-1]


def test_last_page_of_the_list_of_tasks_has_no_next_link(chain: httpx2.Client) -> None:
    assert "link" not in chain.get("/tasks", params={"limit": 60}).headers
    assert chain.get("/tasks", params={"limit": 59}).links["next"]["url"] == "/tasks?limit=59&offset=59"


@pytest.mark.parametrize("number", range(4))
def test_list_of_tasks_is_filtered_by_status(chain: httpx2.Client, ids: list[int], number: int) -> None:
    assert listed(chain.get("/tasks", params={"status": STATES[number], "limit": 100})) == ids[number::4][::-1]


def test_list_of_tasks_is_filtered_by_action(chain: httpx2.Client, ids: list[int]) -> None:
    assert listed(chain.get("/tasks", params={"action": "export", "limit": 100})) == ids[::-1]
    assert listed(chain.get("/tasks", params={"action": "mail"})) == []
    assert listed(chain.get("/tasks", params={"action": "' or true --"})) == []
    assert chain.get("/tasks", params={"action": "export\n"}).status_code == 400


def test_list_of_tasks_is_filtered_by_campaign_id(
    idle_service: Longshore, chain: httpx2.Client, ids: list[int]
) -> None:
    idle_service.sql(
        """update longshore.tasks set target = '{"action": "export", "campaign": 77}' where id = $1""", ids[0]
    )
    try:
        assert listed(chain.get("/tasks", params={"campaign_id": 77})) == [ids[0]]
        assert listed(chain.get("/tasks", params={"campaign_id": 7})) == []
        assert listed(chain.get("/tasks", params={"campaign_id": 77, "status": "DONE"})) == []
    finally:
        copied = "update longshore.tasks t set target = o.target from longshore.tasks o where o.id = $2 and t.id = $1"
        idle_service.sql(copied, ids[0], ids[1])


def test_a_chain_without_tasks_has_an_empty_list(idle_service: Longshore) -> None:
    with idle_service.client(Level.READ, 4712) as client:
        assert client.get("/tasks").json() == []
