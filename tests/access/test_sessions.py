"""Sessions: what they open, how they end, and what a browser may do with them."""

import asyncio
import contextlib
import uuid

import asyncpg
import httpx2
import pytest

from longshore.access.tokens import Level
from tests.access.users import User, headers_of, new_user
from tests.answers import problem, violations
from tests.service import Longshore, export_body
from tests.waiting import until

NEW = "another horse, another staple"


@pytest.fixture(scope="module")
def anna(idle_service: Longshore) -> User:
    """May write in chain 1764 and read in 1765."""
    return new_user(idle_service, _1764=Level.WRITE, _1765=Level.READ)


@pytest.mark.parametrize("prefix", ["X-Session-", "X-Spaaza-Session-"])
def test_a_session_does_what_its_level_for_the_chain_allows(idle_service: Longshore, anna: User, prefix: str) -> None:
    opened = anna.sign_in().json()
    with httpx2.Client(base_url=idle_service.address) as client:
        mine = headers_of(opened, 1764, prefix)
        body = export_body(once="2126-05-26T12:00:00Z")
        made = client.post("/tasks", json=body, headers=mine)
        assert made.status_code == 201
        other = headers_of(opened, 1765, prefix)
        assert client.get("/tasks", headers=other).status_code == 200
        problem(client.get(f"/tasks/{made.json()['id']}", headers=other), "task-not-found")
        problem(client.post("/tasks", json=export_body(chain=1765), headers=other), "forbidden")
        problem(client.get("/tasks", headers=headers_of(opened, 9, prefix)), "forbidden")
        problem(client.get("/users", headers=mine), "forbidden")


def test_request_with_an_invalid_session_is_401_and_one_that_names_no_chain_400(
    idle_service: Longshore, anna: User
) -> None:
    good = anna.session()
    for name in good:
        without = {key: value for key, value in good.items() if key != name}
        refuse = assert_chain_missing if name == "X-Session-Chain-Id" else assert_unauthorized
        refuse(httpx2.get(f"{idle_service.address}/tasks", headers=without))
        for bad in ("", "x", "0", "-1", "9" * 30, "1.5", good["X-Session-Key"] + "x", "x" * 5000):
            answer = httpx2.get(f"{idle_service.address}/tasks", headers={**good, name: bad})
            if name == "X-Session-Chain-Id" and bad == "0":
                problem(answer, "forbidden")
            else:
                refuse(answer)
    other = new_user(idle_service, _1764=Level.WRITE)
    assert_unauthorized(
        httpx2.get(f"{idle_service.address}/tasks", headers={**good, "X-Session-User-Id": str(other.id)})
    )


@pytest.mark.parametrize("chain", ["x", "", "-1", "9" * 30])
def test_credential_is_checked_before_the_chain_that_a_request_names(
    idle_service: Longshore, anna: User, chain: str
) -> None:
    token = idle_service.token(Level.READ)
    good = anna.session()
    user = {"X-Session-User-Id": good["X-Session-User-Id"]}
    named = {"X-Session-Chain-Id": chain}
    cookies = {name: f"longshore={good['X-Session-User-Id']}.{good['X-Session-Key']}{name}" for name in ("", "x")}
    bad: list[dict[str, str]] = [{"Authorization": f"Bearer {token}x"}, {"Authorization": "x"}, {}]
    for headers in (*bad, {**user, "X-Session-Key": "x"}, {"Cookie": cookies["x"]}):
        assert_unauthorized(httpx2.get(f"{idle_service.address}/tasks", headers={**headers, **named}))
    for headers in ({"Authorization": f"Bearer {token}"}, good, {"Cookie": cookies[""]}):
        assert_chain_missing(httpx2.get(f"{idle_service.address}/tasks", headers={**headers, **named}))


def assert_chain_missing(answer: httpx2.Response) -> None:
    assert [error["parameter"] for error in problem(answer, "bad-request")["errors"]] == ["X-Session-Chain-Id"]


def assert_unauthorized(answer: httpx2.Response) -> None:
    problem(answer, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "change",
    [
        "update longshore.sessions set used_at = now() - interval '3601 seconds' where user_id = $1",
        "update longshore.sessions set created_at = now() - interval '43201 seconds' where user_id = $1",
        "update longshore.users set disabled_at = now() where id = $1",
        "delete from longshore.sessions where user_id = $1",
    ],
)
def test_session_ends_by_time_and_with_its_user(idle_service: Longshore, change: str) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    with user.client() as client:
        assert client.get("/tasks").status_code == 200
        idle_service.sql(change, user.id)
        assert_unauthorized(client.get("/tasks"))
        assert_unauthorized(client.get("/auth/sessions"))


def test_session_in_use_does_not_end_and_its_use_is_written_once_a_minute(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    used = "select used_at from longshore.sessions where user_id = $1"
    with user.client() as client:
        client.get("/tasks")
        first = idle_service.sql(used, user.id)[0][0]
        client.get("/tasks")
        assert idle_service.sql(used, user.id)[0][0] == first
        idle_service.sql(
            "update longshore.sessions set used_at = now() - interval '50 minutes' where user_id = $1", user.id
        )
        assert client.get("/tasks").status_code == 200
        assert idle_service.sql(used, user.id)[0][0] >= first


def test_session_in_use_does_not_end_under_the_shortest_idle_time(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    strict = Longshore(idle_service.data, idle_service.url, session_idle="60")
    change = "update longshore.sessions set used_at = now() - interval '40 seconds' where user_id = $1"
    strict.start_api()
    try:
        headers = user.session()
        for _ in range(2):  # 80 seconds, with a request every 40
            idle_service.sql(change, user.id)
            assert httpx2.get(f"{strict.address}/tasks", headers=headers).status_code == 200
            used = idle_service.sql("select now() - used_at as ago from longshore.sessions where user_id = $1", user.id)
            assert used[0]["ago"].total_seconds() < 30
    finally:
        strict.stop()


def test_user_keeps_the_hundred_sessions_that_were_used_last(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    many = """
        insert into longshore.sessions (user_id, key_sha256, address, used_at)
        select $1, sha256(convert_to($1::bigint || ' ' || n, 'UTF8')), '192.0.2.1', now() - n * interval '1 second'
        from generate_series(10, 129) n
    """
    with user.client() as first:
        idle_service.sql(many, user.id)
        with user.client() as client:
            listed = client.get("/auth/sessions").json()
            assert len(listed) == 100
            assert idle_service.sql("select count(*) from longshore.sessions where user_id = $1", user.id)[0][0] == 100
            assert first.get("/tasks").status_code == 200


def test_user_lists_and_ends_their_own_sessions_and_no_others(idle_service: Longshore) -> None:
    user, other = new_user(idle_service, _1764=Level.READ), new_user(idle_service, _1764=Level.READ)
    with user.client() as here, user.client() as there, other.client() as theirs:
        listed = here.get("/auth/sessions").json()
        assert [each["current"] for each in listed] == [False, True]
        assert {each["address"] for each in listed} == {"127.0.0.1"}
        for id in (theirs.get("/auth/sessions").json()[0]["id"], str(uuid.uuid4()), "x"):
            problem(here.delete(f"/auth/sessions/{id}"), "session-not-found")
        assert here.delete(f"/auth/sessions/{listed[0]['id']}").status_code == 204
        assert_unauthorized(there.get("/tasks"))
        assert here.post("/auth/logout").status_code == 204
        assert_unauthorized(here.get("/tasks"))
        assert theirs.get("/tasks").status_code == 200


def test_a_change_of_password_ends_all_sessions(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    with user.client() as here, user.client() as there:
        wrong = {"password": "wrong horse battery staple", "new_password": NEW}
        problem(here.post("/auth/password", json=wrong), "login-failed")
        short = {"password": user.password, "new_password": "short"}
        assert set(violations(here.post("/auth/password", json=short))) == {"/new_password"}
        assert here.get("/tasks").status_code == 200
        good = {"password": user.password, "new_password": NEW}
        assert here.post("/auth/password", json=good).status_code == 204
        for client in (here, there):
            assert_unauthorized(client.get("/tasks"))
    assert user.sign_in().status_code == 401
    assert user.sign_in(NEW).status_code == 200


def test_change_of_a_password_does_not_replace_one_that_an_operator_sets_meanwhile(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    reset = new_user(idle_service, password="set by the operator")
    copy = "update longshore.users set password = (select password from longshore.users where id = $2) where id = $1"

    async def run(client: httpx2.Client) -> httpx2.Response:
        body = {"password": user.password, "new_password": NEW}
        connection = await asyncpg.connect(idle_service.url)
        async with connection.transaction():
            await connection.execute(copy, user.id, reset.id)
            changing = asyncio.create_task(asyncio.to_thread(client.post, "/auth/password", json=body))
            waits = "select from pg_locks where locktype = 'transactionid' and not granted"
            await asyncio.to_thread(until, lambda: idle_service.sql(waits), "the change to wait for the reset")
        await connection.close()
        return await changing

    with user.client() as client:
        problem(asyncio.run(run(client)), "login-failed")
    assert user.sign_in(NEW).status_code == 401
    assert user.sign_in(reset.password).status_code == 200


def test_token_is_refused_as_a_session(idle_client: httpx2.Client) -> None:
    assert_unauthorized(idle_client.get("/auth/sessions"))
    assert_unauthorized(idle_client.post("/auth/logout"))


def browser(idle_service: Longshore, anna: User) -> httpx2.Client:
    ours = {"Origin": idle_service.address, "Sec-Fetch-Site": "same-origin"}
    client = httpx2.Client(base_url=idle_service.address, headers={"X-Session-Chain-Id": "1764"})
    body = {"username": anna.name, "password": anna.password, "cookie": True}
    answer = client.post("/auth/login", json=body, headers=ours)
    assert answer.json()["session_key"] == "", "a script of the page could read it"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("longshore=")
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.lower().split("; "))
    return client


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "OURS"}, True),
        ({"Origin": "OURS", "Sec-Fetch-Site": "same-origin"}, True),
        ({}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, False),
    ],
)
def test_cookie_allows_changes_only_from_pages_of_this_service(
    idle_service: Longshore, anna: User, headers: dict[str, str], good: bool
) -> None:
    idle_service.sql("delete from longshore.sign_in_failures")
    with contextlib.closing(browser(idle_service, anna)) as client:
        assert client.get("/tasks").status_code == 200, "reading changes nothing"
        sent = {name: idle_service.address if value == "OURS" else value for name, value in headers.items()}
        answer = client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z"), headers=sent)
        if good:
            assert answer.status_code == 201, answer.text
            assert client.post("/auth/logout", headers=sent).status_code == 204
            assert_unauthorized(client.get("/tasks"))
        else:
            problem(answer, "other-site")
            login = {"username": anna.name, "password": anna.password, "cookie": True}
            problem(client.post("/auth/login", json=login, headers=sent), "other-site")
