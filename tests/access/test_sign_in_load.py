"""Sign-ins under load: guesses wait in a bounded queue, and accounts that signed in lately do not wait behind them."""

import asyncio
import time
import unicodedata

import httpx2
import pytest

from longshore.access import passwords
from longshore.access.audit import Actor
from longshore.access.sessions import Lifetimes, Sessions
from longshore.access.sign_in import OneTimeCodeChallenge, SignIn, SignInError, forget_failures
from longshore.access.tokens import Level
from longshore.database.connect import Pool, open_pool
from longshore.errors import OverloadError
from tests.access.users import PASSWORD, new_user
from tests.service import Longshore

HOME = Actor("address", "", "198.51.100.7")


def sign_in_of(service: Longshore, pool: Pool) -> SignIn:
    return SignIn(pool, Sessions(pool, Lifetimes(3600, 3600)), service.vault)


def test_known_account_signs_in_while_guesses_from_many_addresses_wait(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)

    async def run() -> tuple[float, list[BaseException | object]]:
        async with open_pool(idle_service.url, size=5, name="test") as pool:
            door = sign_in_of(idle_service, pool)
            assert not isinstance(await door.with_password(user.name, PASSWORD, HOME), OneTimeCodeChallenge)
            guesses = [
                asyncio.create_task(
                    door.with_password(f"nobody-{number}", "wrong", Actor("address", "", f"203.0.113.{number}"))
                )
                for number in range(60)
            ]
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await door.with_password(user.name, PASSWORD, HOME)
            waited = time.monotonic() - began
            return waited, await asyncio.gather(*guesses, return_exceptions=True)

    waited, answers = asyncio.run(run())
    refused = [answer for answer in answers if isinstance(answer, OverloadError)]
    assert len(refused) >= 30, "the queue has a bound"
    assert all(each.seconds >= 1 and "sign-ins failed" not in each.detail for each in refused)
    assert all(isinstance(answer, OverloadError | SignInError) for answer in answers)
    assert waited < 20


def test_failures_of_strangers_slow_neither_a_known_network_nor_an_open_session(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    wait = "update longshore.sign_in_failures set failures = 30, until = now() + interval '5 minutes'"

    async def run() -> None:
        async with open_pool(idle_service.url, size=5, name="test") as pool:
            door = sign_in_of(idle_service, pool)
            await door.with_password(user.name, PASSWORD, HOME)
            stranger, traveler = Actor("address", "", "203.0.113.5"), Actor("address", "", "192.0.2.7")
            await pool.execute("delete from longshore.sign_in_failures")
            with pytest.raises(SignInError):
                await door.with_password(user.name, "wrong", stranger)
            await pool.execute(f"{wait} where failures = 1")
            with pytest.raises(OverloadError, match="Too many sign-ins failed"):
                await door.with_password(user.name, PASSWORD, traveler)
            assert not isinstance(await door.with_password(user.name, PASSWORD, HOME), OneTimeCodeChallenge)
            await door.confirm(user.id, PASSWORD, stranger)
            with pytest.raises(OverloadError, match="Too many sign-ins failed"):
                await door.with_password(user.name, PASSWORD, traveler)

            with pytest.raises(SignInError):
                await door.with_password(user.name, "wrong", HOME)
            await pool.execute(wait)
            with pytest.raises(OverloadError, match="Too many sign-ins failed"):
                await door.with_password(user.name, PASSWORD, HOME)
            async with pool.acquire() as connection:
                await forget_failures(connection, user.name.upper())
            await pool.execute("update longshore.sign_in_failures set until = now() where octet_length(key) = 32")
            assert not isinstance(await door.with_password(user.name, PASSWORD, HOME), OneTimeCodeChallenge)
            assert not isinstance(await door.with_password(user.name, PASSWORD, traveler), OneTimeCodeChallenge)

    asyncio.run(run())


def test_spellings_of_a_name_that_find_one_account_are_counted_together(idle_service: Longshore) -> None:
    user = new_user(idle_service, _1764=Level.READ)
    idle_service.sql("update longshore.users set name = 'idil-' || id where id = $1", user.id)

    async def run() -> int:
        async with open_pool(idle_service.url, size=2, name="test") as pool:
            door = sign_in_of(idle_service, pool)
            await pool.execute("delete from longshore.sign_in_failures")
            for name in ("idil", "IDIL", "\u0130d\u0130l"):  # İ is i in PostgreSQL and two characters in Python
                with pytest.raises(SignInError):
                    await door.with_password(f"{name}-{user.id}", "wrong", HOME)
            return int(await pool.fetchval("select count(*) from longshore.sign_in_failures"))

    assert asyncio.run(run()) == 2, "the address and the account"


def test_address_that_has_to_wait_leaves_no_rows_for_the_names_it_invents(idle_service: Longshore) -> None:
    async def run() -> int:
        async with open_pool(idle_service.url, size=2, name="test") as pool:
            door = sign_in_of(idle_service, pool)
            guess = Actor("address", "", "192.0.2.99")
            await pool.execute("delete from longshore.sign_in_failures")
            with pytest.raises(SignInError):
                await door.with_password("made-up", "wrong", guess)
            await pool.execute("update longshore.sign_in_failures set until = now() + interval '1 hour'")
            for number in range(10):
                with pytest.raises(OverloadError, match="Too many sign-ins failed"):
                    await door.with_password(f"made-up-{number}", "wrong", guess)
            return int(await pool.fetchval("select count(*) from longshore.sign_in_failures"))

    assert asyncio.run(run()) == 2, "the address and the one name that was looked at"


def test_a_password_whose_normalization_is_slow_does_not_hold_the_event_loop() -> None:
    nasty = "a" + "̖́" * 15_000  # marks whose order has to be changed, one by one
    assert unicodedata.combining(nasty[1]) != unicodedata.combining(nasty[2])

    async def run() -> float:
        before = time.thread_time()
        assert not await passwords.matches(nasty, None)
        return time.thread_time() - before

    assert asyncio.run(run()) < 0.05


def test_requests_without_a_route_count_for_their_address(proxied_service: Longshore) -> None:
    headers = {"X-Forwarded-For": "203.0.113.201"}
    with httpx2.Client(base_url=proxied_service.address, headers=headers, timeout=60) as client:
        statuses = [client.get(f"/nothing/{number}").status_code for number in range(100)]
    assert statuses[0] == 404
    assert 429 in statuses
