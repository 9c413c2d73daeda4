"""Two chains in one service, each with its own tokens: neither learns that the other has anything at all."""

import csv
import io
from typing import Any

import httpx2
import pytest

from tests.answers import problem, violations
from tests.service import Longshore, downloaded, ended, export_body

CHAINS = (1764, 1765)


@pytest.fixture(scope="module")
def tasks(client: httpx2.Client, small_client: httpx2.Client) -> dict[int, int]:
    """A DONE export of each chain."""
    found = {}
    for chain, each in zip(CHAINS, (client, small_client), strict=True):
        found[chain] = each.post("/tasks", json=export_body(chain=chain)).json()["id"]
        ended(each, found[chain])
    return found


@pytest.fixture(params=[0, 1], ids=["1764 asks", "1765 asks"])
def sides(
    request: pytest.FixtureRequest, client: httpx2.Client, small_client: httpx2.Client, tasks: dict[int, int]
) -> tuple[httpx2.Client, int, int]:
    """A client, the task of the other chain, and the other chain."""
    me: int = request.param
    return (client, small_client)[me], tasks[CHAINS[1 - me]], CHAINS[1 - me]


def test_task_of_another_chain_is_not_found(service: Longshore, sides: tuple[httpx2.Client, int, int]) -> None:
    asking, theirs, _ = sides
    before = service.sql("select * from longshore.tasks where id = $1", theirs)
    for method, path in (
        ("GET", ""), ("POST", "/execute"), ("GET", "/download_url"), ("GET", "/progress"), ("GET", "/runs"),
    ):  # fmt: skip
        problem(asking.request(method, f"/tasks/{theirs}{path}"), "task-not-found")
    assert service.sql("select * from longshore.tasks where id = $1", theirs) == before


def test_list_of_tasks_has_only_tasks_of_the_chain(sides: tuple[httpx2.Client, int, int]) -> None:
    asking, theirs, other = sides
    seen: list[dict[str, Any]] = []
    while page := asking.get("/tasks", params={"limit": 100, "offset": len(seen)}).json():
        seen += page
    assert seen
    assert {task["chain"] for task in seen} == set(CHAINS) - {other}
    assert theirs not in {task["id"] for task in seen}


def test_task_for_another_chain_is_refused(sides: tuple[httpx2.Client, int, int]) -> None:
    asking, _, other = sides
    problem(asking.post("/tasks", json=export_body(chain=other)), "forbidden")


def test_segment_of_another_chain_is_refused(sides: tuple[httpx2.Client, int, int]) -> None:
    asking, _, other = sides
    mine = next(chain for chain in CHAINS if chain != other)
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": other, "rules": []}
    answer = asking.post("/tasks", json=export_body(chain=mine, segment=segment))
    assert list(violations(answer)) == ["/trigger/segment/chain_id"]


def test_no_header_changes_the_chain_of_a_token(sides: tuple[httpx2.Client, int, int]) -> None:
    asking, theirs, other = sides
    for name in ("X-Session-Chain-Id", "X-Spaaza-Session-Chain-Id"):
        problem(asking.get(f"/tasks/{theirs}", headers={name: str(other)}), "forbidden")
    problem(asking.get(f"/tasks/{theirs}", headers={"X-Chain-Id": str(other)}), "task-not-found")


def test_export_has_exactly_the_rows_of_its_chain(
    service: Longshore, small_client: httpx2.Client, tasks: dict[int, int]
) -> None:
    lines = csv.DictReader(io.StringIO(downloaded(small_client, tasks[1765]).decode(), newline=""))
    found = [int(line["id"]) for line in lines]
    rows = service.sql("select id from loyalty.wallet_ledger where chain_id = 1765")
    assert sorted(found) == sorted(row["id"] for row in rows)
    assert len(found) == 2000


def test_segment_joined_by_any_reads_no_rows_of_another_chain(small_client: httpx2.Client) -> None:
    rules = [
        {"field_name": "id", "field_type": "number", "operator": "is_between_number", "min": 0, "max": 10**9},
        {"field_name": "kind", "field_type": "keyword", "operator": "is", "value": "' or chain_id = 1764 or '"},
    ]
    segment = {"entity": "people", "index": "wallet-ledger", "join": "any", "chain_id": 1765, "rules": rules}
    task = small_client.post("/tasks", json=export_body(chain=1765, segment=segment)).json()["id"]
    assert ended(small_client, task)["logs"][1]["success"] == 2000
