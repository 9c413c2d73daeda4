"""Links: download addresses can be counted, limited and taken back."""

import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from longshore.access.tokens import Level
from tests.answers import problem, violations
from tests.service import Longshore, ended, export_body

SMALL = 1765


@pytest.fixture(scope="module")
def task(small_client: httpx2.Client) -> int:
    """A DONE export."""
    found: int = small_client.post("/tasks", json=export_body(chain=SMALL)).json()["id"]
    ended(small_client, found)
    return found


@pytest.fixture
def asking(service: Longshore) -> Iterator[httpx2.Client]:
    """A client with a token that no other test has."""
    with service.client(Level.ADMIN, SMALL) as client:
        yield client


def address(client: httpx2.Client, task: int, **asked: int) -> str:
    answer = client.get(f"/tasks/{task}/download_url", params=asked)
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["url"]
    return url


def link_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["link"][0]


def test_links_of_a_task_are_listed_with_their_uses(asking: httpx2.Client, task: int) -> None:
    first, second = address(asking, task), address(asking, task)
    for _ in range(2):
        assert httpx2.get(first).status_code == 200
    assert httpx2.head(first).status_code == 200
    listed = {link["id"]: link for link in asking.get(f"/tasks/{task}/links").json()}
    used, unused = listed[link_of(first)], listed[link_of(second)]
    assert (used["uses"], unused["uses"]) == (2, 0)
    token = asking.headers["Authorization"].removeprefix("Bearer ").split(":")[0]
    assert used["created_by"] == f"token {token}"
    assert used["used"] and unused["used"] is None
    assert (used["run"], used["max_uses"], used["revoked"], used["active"]) == (1, None, None, True)
    assert next(iter(listed)) == link_of(second), "the newest comes first"


def test_revoked_link_is_refused_and_others_are_not(asking: httpx2.Client, task: int) -> None:
    first, second = address(asking, task), address(asking, task)
    for _ in range(2):  # again is the same
        assert asking.delete(f"/tasks/{task}/links/{link_of(first)}").status_code == 204
    problem(httpx2.get(first), "bad-address")
    assert httpx2.head(first).status_code == 403
    assert httpx2.get(second).status_code == 200
    listed = {link["id"]: link for link in asking.get(f"/tasks/{task}/links").json()}
    assert listed[link_of(first)]["revoked"] and not listed[link_of(first)]["active"]


def test_running_transfer_goes_on_when_its_link_is_revoked(asking: httpx2.Client, task: int) -> None:
    url = address(asking, task)
    whole = httpx2.get(url).content
    with httpx2.stream("GET", url) as answer:
        assert answer.status_code == 200
        assert asking.delete(f"/tasks/{task}/links/{link_of(url)}").status_code == 204
        assert answer.read() == whole
    problem(httpx2.get(url), "bad-address")


def test_link_can_be_used_as_often_as_allowed(asking: httpx2.Client, task: int) -> None:
    url = address(asking, task, max_uses=2)
    assert [httpx2.get(url).status_code for _ in range(4)] == [200, 200, 403, 403]
    listed = {link["id"]: link for link in asking.get(f"/tasks/{task}/links").json()}
    assert (listed[link_of(url)]["uses"], listed[link_of(url)]["max_uses"]) == (2, 2)


DISCONNECT = """
create function longshore.disconnect() returns trigger language plpgsql as $$
begin
    perform pg_terminate_backend(pg_backend_pid());
    return new;
end $$
"""
DISCONNECT_BEFORE_ENTRY = """
create trigger disconnect before insert on longshore.audit
for each row when (new.action = 'result.download') execute function longshore.disconnect()
"""


def test_download_that_fails_before_its_audit_entry_is_written_does_not_count_as_a_use(
    service: Longshore, asking: httpx2.Client, task: int
) -> None:
    url = address(asking, task, max_uses=1)
    service.sql(DISCONNECT)
    try:
        service.sql(DISCONNECT_BEFORE_ENTRY)
        assert httpx2.get(url).status_code == 503
    finally:
        service.sql("drop function longshore.disconnect() cascade")
    assert [httpx2.get(url).status_code for _ in range(2)] == [200, 403]


def test_link_can_have_a_shorter_life(asking: httpx2.Client, task: int) -> None:
    url = address(asking, task, expires_in=1)
    expires = int(parse_qs(urlsplit(url).query)["expires"][0])
    assert expires <= time.time() + 1
    time.sleep(max(0.0, expires + 0.1 - time.time()))
    problem(httpx2.get(url), "bad-address")


@pytest.mark.parametrize("asked", [{"expires_in": 0}, {"expires_in": 3601}, {"max_uses": 0}, {"max_uses": "x"}])
def test_invalid_life_or_limit_of_a_link_is_refused(asking: httpx2.Client, task: int, asked: dict[str, str]) -> None:
    answer = asking.get(f"/tasks/{task}/download_url", params=asked)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["parameter"] == next(iter(asked))


def test_revoking_a_token_revokes_its_links(service: Longshore, asking: httpx2.Client, task: int) -> None:
    with service.client(Level.READ, SMALL) as other:
        url, mine = address(other, task), address(asking, task)
        token = other.headers["Authorization"].removeprefix("Bearer ").split(":")[0]
    assert httpx2.get(url).status_code == 200
    assert asking.delete(f"/access_tokens/{token}").status_code == 200
    problem(httpx2.get(url), "bad-address")
    assert httpx2.get(mine).status_code == 200


def test_a_link_of_another_task_or_chain_is_not_found(
    service: Longshore, client: httpx2.Client, asking: httpx2.Client, task: int
) -> None:
    url = address(asking, task)
    other = asking.post("/tasks", json=export_body(chain=SMALL, once="2126-05-26T12:00:00Z")).json()["id"]
    problem(asking.delete(f"/tasks/{other}/links/{link_of(url)}"), "link-not-found")
    problem(asking.delete(f"/tasks/{task}/links/nonsense"), "link-not-found")
    problem(client.get(f"/tasks/{task}/links"), "task-not-found")
    problem(client.delete(f"/tasks/{task}/links/{link_of(url)}"), "task-not-found")
    assert asking.get(f"/tasks/{other}/links").json() == []
    assert httpx2.get(url).status_code == 200
    with service.client(Level.READ, SMALL) as reader:
        problem(reader.delete(f"/tasks/{task}/links/{link_of(url)}"), "forbidden")
    assert violations(asking.get(f"/tasks/{task}/links", params={"limit": 0}))
