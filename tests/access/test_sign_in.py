"""Signing in: passwords, one-time codes, and slowed guesses."""

import asyncio
import secrets
import statistics
import threading
import time
import unicodedata
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pyotp
import pytest
from argon2 import PasswordHasher

from longshore.access import one_time_codes, passwords, sign_in
from longshore.access.tokens import Level
from longshore.settings import Settings
from longshore.vault import VaultError, open_vault
from tests.access.users import PASSWORD, User, headers_of, new_user
from tests.answers import problem, violations
from tests.service import Longshore


@pytest.fixture(autouse=True)
def forgotten(idle_service: Longshore) -> None:
    """No failure of one test slows the next one."""
    idle_service.sql("delete from longshore.sign_in_failures")


def send_code(user: User, attempt: str, code: str) -> httpx2.Response:
    body = {"attempt_id": attempt, "passcode": code}
    return httpx2.post(f"{user.service.address}/auth/session", json=body, timeout=60)


def code_of(user: User, steps: int = 0) -> str:
    assert user.totp is not None
    return str(pyotp.TOTP(user.totp).at(int(time.time()) + 30 * steps))


def wrong_code(user: User) -> str:
    good = {code_of(user, steps) for steps in range(-3, 4)}
    return next(code for code in ("000000", "111111", "222222", "333333", "444444", "555555", "666666", "777777")
                if code not in good)  # fmt: skip


def test_sign_in_ignores_case_of_the_name_and_unicode_form_of_the_password(idle_service: Longshore) -> None:
    user = new_user(idle_service, password="café au lait, s'il vous plaît", _1764=Level.READ)
    user.name = user.name.upper()
    opened = user.sign_in("cafe\u0301 au lait, s'il vous plai\u0302t").json()
    assert opened["user_id"] == user.id
    assert opened["session_key"].startswith("longshore_")
    assert httpx2.get(f"{idle_service.address}/tasks", headers=headers_of(opened)).status_code == 200


def test_name_in_another_unicode_form_is_the_same_user(idle_service: Longshore, idle_client: httpx2.Client) -> None:
    composed = f"Jos\u00e9 {secrets.token_hex(4)}"
    decomposed = unicodedata.normalize("NFD", composed)
    for first, second in ((composed, decomposed), (f"{decomposed} 2", f"{composed} 2")):
        body = {"username": first, "password": PASSWORD, "level": "read"}
        made = idle_client.post("/users", json=body)
        assert (made.status_code, made.json()["name"]) == (201, unicodedata.normalize("NFC", first))
        problem(idle_client.post("/users", json={**body, "username": second.upper()}), "name-taken")
        for name in (first, second, second.upper()):
            answer = User(idle_service, made.json()["id"], name, PASSWORD, None).sign_in()
            assert (answer.status_code, answer.json()["user_id"]) == (200, made.json()["id"])


def test_service_client_in_another_unicode_form_is_the_same_client(idle_client: httpx2.Client) -> None:
    name = f"Jos\u00e9 {secrets.token_hex(4)}"
    made = idle_client.post("/service_clients", json={"name": unicodedata.normalize("NFD", name)}).json()
    assert made["name"] == name
    problem(idle_client.post("/service_clients", json={"name": name}), "name-taken")


def test_a_wrong_password_an_unknown_user_and_a_disabled_one_have_the_same_answer(idle_service: Longshore) -> None:
    user, disabled = new_user(idle_service, _1764=Level.ADMIN), new_user(idle_service, _1764=Level.ADMIN)
    idle_service.sql("update longshore.users set disabled_at = now() where id = $1", disabled.id)
    answers = [
        user.sign_in("wrong horse battery staple"),
        disabled.sign_in(),
        User(idle_service, 0, "nobody", "correct horse battery staple", None).sign_in(),
    ]
    bodies = [problem(answer, "login-failed") for answer in answers]
    for body in bodies:
        del body["request_id"]
    assert bodies[0] == bodies[1] == bodies[2]
    assert {answer.status_code for answer in answers} == {401}
    assert len({tuple(answer.headers) for answer in answers}) == 1


def test_an_unknown_user_is_compared_with_a_hash_of_the_same_cost() -> None:
    assert not passwords.is_outdated(passwords.DUMMY_HASH), "made with other parameters than real ones"

    async def seconds(kept: str | None) -> float:
        began = time.perf_counter()
        assert not await passwords.matches("whatever it is", kept)
        return time.perf_counter() - began

    async def measured() -> tuple[float, float]:
        real = await passwords.hash_password("correct horse battery staple")
        pairs = [(await seconds(real), await seconds(None)) for _ in range(7)]
        return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)

    known, unknown = asyncio.run(measured())
    assert 0.5 < known / unknown < 2


def test_a_password_is_kept_as_argon2id_with_the_parameters_of_rfc_9106(idle_service: Longshore) -> None:
    user = new_user(idle_service)
    kept = idle_service.sql("select password from longshore.users where id = $1", user.id)[0]["password"]
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_simultaneous_sign_ins_replace_an_outdated_hash_and_all_of_them_succeed(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    outdated = PasswordHasher(time_cost=1, memory_cost=1024).hash(user.password)
    idle_service.sql("update longshore.users set password = $2 where id = $1", user.id, outdated)
    with ThreadPoolExecutor(3) as threads:
        answers = [each.result().status_code for each in [threads.submit(user.sign_in) for _ in range(3)]]
    assert answers == [200] * 3
    kept = idle_service.sql("select password from longshore.users where id = $1", user.id)[0]["password"]
    assert not passwords.is_outdated(kept)


def test_other_requests_are_answered_while_passwords_are_hashed(idle_service: Longshore) -> None:
    people = [new_user(idle_service, _1764=Level.READ) for _ in range(6)]
    threads = [threading.Thread(target=user.sign_in) for user in people]
    for thread in threads:
        thread.start()
    answered = 0
    while any(thread.is_alive() for thread in threads):
        assert httpx2.get(f"{idle_service.address}/healthz").status_code == 200
        answered += 1
    assert answered > 1


def test_guesses_of_a_password_are_slowed_by_account_and_the_right_one_has_to_wait_too(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    seen = [user.sign_in("wrong horse battery staple").status_code for _ in range(6)]
    assert seen[:5] == [401] * 5
    account = "update longshore.sign_in_failures set until = now() + interval '40 seconds' where key = $1"
    idle_service.sql(account, sign_in._account(user.name))
    slowed = user.sign_in()
    assert problem(slowed, "too-many-requests")["status"] == 429
    assert 30 <= int(slowed.headers["retry-after"]) <= 40
    form = {"username": user.name, "password": user.password}
    page = httpx2.post(f"{idle_service.address}/sign-in", data=form, headers={"Origin": idle_service.address})
    assert page.status_code == 429
    assert 30 <= int(page.headers["retry-after"]) <= 40
    unknown = User(idle_service, 0, user.name + "x", "correct horse battery staple", None)
    assert unknown.sign_in().status_code == 401, "another account is not slowed"
    idle_service.sql("update longshore.sign_in_failures set until = now()")
    assert user.sign_in().status_code == 200
    assert user.sign_in("wrong horse battery staple").status_code == 401, "the slate is clean again"


def test_unknown_account_is_slowed_like_a_known_one(idle_service: Longshore) -> None:
    unknown = User(idle_service, 0, f"nobody-{uuid.uuid4()}", "correct horse battery staple", None)
    seen = [unknown.sign_in().status_code for _ in range(7)]
    assert seen[:5] == [401] * 5
    assert 429 in seen


def test_guesses_of_passwords_are_slowed_by_address(idle_service: Longshore) -> None:
    idle_service.sql("delete from longshore.sign_in_failures")
    new_user(idle_service).sign_in("wrong horse battery staple")
    assert idle_service.sql("select count(*) from longshore.sign_in_failures")[0][0] == 2
    idle_service.sql("update longshore.sign_in_failures set failures = 25, until = now() + interval '1 minute'")
    user = new_user(idle_service, _1764=Level.READ)
    assert user.sign_in().status_code == 429


def test_each_of_many_concurrent_guesses_of_a_password_counts(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    threads = [threading.Thread(target=user.sign_in, args=("wrong horse battery staple",)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hashes = idle_service.sql("select count(*) from longshore.audit where object = $1", f"user {user.id}")[0][0]
    assert hashes <= 8, "more passwords were looked at than one after the other would have been"


def test_one_time_code_is_required_if_turned_on_and_accepted_once(idle_service: Longshore) -> None:
    user = new_user(idle_service, totp=True, _1764=Level.READ)
    first, second = user.sign_in(), user.sign_in()
    assert (first.status_code, set(first.json())) == (202, {"attempt_id"})
    code = code_of(user)
    opened = send_code(user, first.json()["attempt_id"], code)
    assert opened.status_code == 200
    assert httpx2.get(f"{idle_service.address}/tasks", headers=headers_of(opened.json())).status_code == 200
    problem(send_code(user, second.json()["attempt_id"], code), "login-failed")
    problem(send_code(user, first.json()["attempt_id"], code_of(user, 1)), "login-failed")
    assert send_code(user, second.json()["attempt_id"], code_of(user, 1)).status_code == 200
    third = user.sign_in().json()["attempt_id"]
    problem(send_code(user, third, code), "login-failed")


def test_one_code_in_many_requests_at_once_opens_one_session(idle_service: Longshore) -> None:
    user = new_user(idle_service, totp=True, _1764=Level.READ)
    attempts = [user.sign_in().json()["attempt_id"] for _ in range(3)]
    code, seen = code_of(user), []

    def send(attempt: str) -> None:
        seen.append(send_code(user, attempt, code).status_code)

    threads = [threading.Thread(target=send, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [200, 401, 401]


def test_right_code_is_refused_after_five_wrong_ones(idle_service: Longshore) -> None:
    user = new_user(idle_service, totp=True, _1764=Level.READ)
    attempt = user.sign_in().json()["attempt_id"]
    for _ in range(5):
        problem(send_code(user, attempt, wrong_code(user)), "login-failed")
    problem(send_code(user, attempt, code_of(user)), "login-failed")
    idle_service.sql("update longshore.sign_in_failures set until = now()")
    again = user.sign_in().json()["attempt_id"]
    assert send_code(user, again, code_of(user)).status_code == 200


def test_code_is_refused_five_minutes_after_the_password(idle_service: Longshore) -> None:
    user = new_user(idle_service, totp=True, _1764=Level.READ)
    attempt = user.sign_in().json()["attempt_id"]
    idle_service.sql("update longshore.pending_sign_ins set created_at = created_at - interval '301 seconds'")
    problem(send_code(user, attempt, code_of(user)), "login-failed")


def test_code_may_be_one_time_step_off_and_no_more() -> None:
    secret = one_time_codes.new_secret()
    made = pyotp.TOTP(secret)
    now = 1_790_000_015.0
    found = [one_time_codes.step_of(secret, made.at(int(now) + 30 * off), now) for off in (-2, -1, 0, 1, 2)]
    current = int(now) // 30
    assert found == [None, current - 1, current, current + 1, None]


def test_codes_are_those_of_rfc_6238() -> None:
    """The values of its appendix B, for SHA-1, cut to six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for at, code in ((59, "287082"), (1111111109, "081804"), (20000000000, "353130")):
        assert one_time_codes.step_of(secret, code, at) == at // 30


def test_sealed_secret_opens_only_for_its_user() -> None:
    vault = open_vault(Settings(secret="x" * 32))
    sealed = one_time_codes.seal(vault, 7, "SECRET")
    assert one_time_codes.unseal(vault, 7, sealed) == "SECRET"
    with pytest.raises(VaultError):
        one_time_codes.unseal(vault, 8, sealed)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("login", {}, {"/username", "/password"}),
        ("login", {"username": 1, "password": "x", "chain": 1}, {"/username", "/chain"}),
        ("login", {"username": "a\x00", "password": "x"}, {"/username"}),
        ("session", {"attempt_id": "x", "passcode": 1}, {"/attempt_id", "/passcode"}),
    ],
)
def test_violations_of_a_sign_in_body_are_named_and_its_values_not_repeated(
    idle_service: Longshore, path: str, body: dict[str, Any], expected: set[str]
) -> None:
    assert set(violations(httpx2.post(f"{idle_service.address}/auth/{path}", json=body))) == expected
