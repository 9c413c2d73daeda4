"""Rate limits: what is told, what is refused, and that several processes count together."""

import asyncio
import re
import time

import asyncpg
import httpx2
import pytest

from longshore.access.rate_limits import EXCHANGE_SECONDS, RateLimiter
from longshore.access.tokens import Level
from longshore.errors import ProblemError
from longshore.settings import Rate
from tests.answers import problem
from tests.service import Longshore


def send_requests(service: Longshore, headers: dict[str, str], address: str, times: int) -> list[httpx2.Response]:
    """Send each on a connection of its own, so that all processes get some, from the address that a proxy adds."""
    sent = {**headers, "X-Forwarded-For": address}
    return [httpx2.get(f"{service.address}/tasks", headers=sent) for _ in range(times)]


def exchanged(service: Longshore, what: str, hits: int) -> None:
    """Wait until the processes have told each other of so many requests."""
    deadline = time.monotonic() + 30
    while not service.sql("select 1 from longshore.rate_counts where key like $1 and hits >= $2", f"%{what}%", hits):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2 * EXCHANGE_SECONDS)


def test_credential_has_a_rate_limit_and_sees_the_requests_left(proxied_service: Longshore) -> None:
    token = {"Authorization": f"Bearer {proxied_service.token(Level.READ)}"}
    answers = send_requests(proxied_service, token, "192.0.2.1", 10)
    exchanged(proxied_service, token["Authorization"].split()[1].split(":")[0], 10)
    answers += send_requests(proxied_service, token, "192.0.2.1", 20)
    good = [answer for answer in answers if answer.status_code == 200]
    assert 10 <= len(good) <= 20, "each of the two processes lets its ten through at most, before it hears of the other"
    first = good[0].headers
    assert first.get_list("ratelimit-policy") == ['"address";q=40;w=3600', '"credential";q=10;w=3600']
    left = [re.fullmatch(r'"(address|credential)";r=(\d+);t=(\d+)', field) for field in first.get_list("ratelimit")]
    assert [match and match[1] for match in left] == ["address", "credential"]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert problem(refused, "too-many-requests")["detail"].startswith("This credential")
    assert 3400 < int(refused.headers["retry-after"]) <= 3600
    assert set(refused.headers.get_list("ratelimit-policy")) == {'"address";q=40;w=3600', '"credential";q=10;w=3600'}
    assert f'"credential";r=0;t={refused.headers["retry-after"]}' in refused.headers.get_list("ratelimit")


def test_rate_limit_of_an_address_counts_all_its_credentials_and_no_other_address(proxied_service: Longshore) -> None:
    wrong = {"Authorization": "Bearer 0b9f1b0e-7f53-4f5e-9d1a-3f8f6f0a2c11:guess"}
    answers = send_requests(proxied_service, wrong, "192.0.2.3", 40)
    exchanged(proxied_service, "192.0.2.3", 40)
    answers += send_requests(proxied_service, wrong, "192.0.2.3", 80)
    assert 40 <= sum(answer.status_code == 401 for answer in answers) <= 80
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert problem(refused, "too-many-requests")["detail"].startswith("This address")
    token = {"Authorization": f"Bearer {proxied_service.token(Level.READ)}"}
    assert send_requests(proxied_service, token, "192.0.2.3", 81)[-1].status_code == 429
    assert send_requests(proxied_service, token, "192.0.2.4", 1)[0].status_code == 200


def test_all_addresses_of_a_v6_network_are_one_and_health_is_not_counted(proxied_service: Longshore) -> None:
    send_requests(proxied_service, {}, "2001:db8::1", 1)
    send_requests(proxied_service, {}, "2001:db8::2:1", 1)
    exchanged(proxied_service, "2001:db8::/64", 2)
    assert "ratelimit" not in httpx2.get(f"{proxied_service.address}/healthz").headers


def counted(rates: RateLimiter) -> tuple[int, int]:
    """Count a request; return the requests left, -1 where it is refused, and the seconds until the window ends."""
    try:
        field = rates.count("test", "one")[1][1].decode()
    except ProblemError as refused:
        return -1, int(refused.headers["Retry-After"])
    left, seconds = re.findall(r"=([0-9]+)", field)
    return int(left), int(seconds)


def test_processes_share_their_counts_and_the_end_of_the_window_after_an_exchange(idle_service: Longshore) -> None:
    async def run() -> None:
        async with asyncpg.create_pool(idle_service.url, min_size=1, max_size=2) as pool:
            a, b = (RateLimiter(pool, {"test": Rate(10, 6)}) for _ in range(2))
            for _ in range(7):
                a.count("test", "one")
            await a.exchange()
            b.count("test", "one")
            await b.exchange()
            assert counted(b)[0] == 1
            b.count("test", "one")
            with pytest.raises(ProblemError, match="as many requests as it may"):
                b.count("test", "one")
            await b.exchange()
            a.count("test", "two")
            ends = [counted(each)[1] for each in (a, b)]
            assert abs(ends[0] - ends[1]) < 2
            with pytest.raises(ProblemError, match="as many requests as it may"):
                for _ in range(4):
                    a.count("test", "one")
            await asyncio.sleep(max(ends) + 1.1)
            for each in (a, b):
                each.count("test", "one")
            await asyncio.gather(a.exchange(), b.exchange())
            hits = await pool.fetchval("select hits from longshore.rate_counts where key = $1", "test one")
            assert hits == 2

    asyncio.run(run())


def test_without_its_database_a_process_goes_on_counting_for_itself(idle_service: Longshore) -> None:
    async def run() -> None:
        pool = await asyncpg.create_pool(idle_service.url, min_size=1, max_size=1)
        rates = RateLimiter(pool, {"test": Rate(2, 60)})
        await pool.close()
        rates.count("test", "alone")
        with pytest.raises(asyncpg.InterfaceError):
            await rates.exchange()
        rates.count("test", "alone")
        with pytest.raises(ProblemError, match="as many requests as it may"):
            rates.count("test", "alone")

    asyncio.run(run())
