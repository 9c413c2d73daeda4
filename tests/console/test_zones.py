"""Time zones that a browser names: unknown ones are no fault of the service, and a given offset is kept."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level
from longshore.console.zones import with_offset
from tests.access.users import new_user
from tests.service import CHAIN, Longshore


@pytest.fixture(scope="module")
def admin(service: Longshore) -> Iterator[httpx2.Client]:
    """A client with the session of an admin."""
    with new_user(service, _1764=Level.ADMIN).client() as client:
        yield client


@pytest.mark.parametrize(
    ("local", "zone", "expected"),
    [
        ("2026-05-26T12:00", "Europe/Amsterdam", "2026-05-26T12:00:00+02:00"),
        ("2026-05-26 12:00", "Europe/Amsterdam", "2026-05-26T12:00:00+02:00"),
        ("2026-05-26T12:00Z", "Europe/Amsterdam", "2026-05-26T12:00:00+00:00"),
        ("2026-05-26T12:00-03:00", "Nowhere/City", "2026-05-26T12:00:00-03:00"),
        ("2026-05-26T12:00", "Nowhere/City", "2026-05-26T12:00"),
        ("2026-05-26T12:00", "../../etc/passwd", "2026-05-26T12:00"),
        ("2026-05-26T12:00", "\x00", "2026-05-26T12:00"),
        ("0001-01-01T00:00", "Asia/Tokyo", "0001-01-01T00:00:00+09:18:59"),
        ("tomorrow", "Europe/Amsterdam", "tomorrow"),
        ("", "UTC", ""),
    ],
)
def test_time_of_a_form_gets_the_offset_of_its_zone_unless_it_has_one(local: str, zone: str, expected: str) -> None:
    assert with_offset(local, zone) == expected


@pytest.mark.parametrize("page", ["system", "schedules"])
@pytest.mark.parametrize("name", ["Nowhere/City", "../../etc/passwd", "Europe", "\x00", "x" * 100])
def test_days_of_a_page_for_an_unknown_zone_are_those_of_utc(admin: httpx2.Client, page: str, name: str) -> None:
    answer = admin.get(f"/console/{CHAIN}/{page}", params={"zone": name})
    assert (answer.status_code, 'data-zone="UTC"' in answer.text) == (200, True)
    quoted = str(httpx2.QueryParams({"zone": name}))
    answer = admin.get(f"/console/{CHAIN}/{page}", headers={"Cookie": quoted})
    assert (answer.status_code, 'data-zone="UTC"' in answer.text) == (200, True)


def test_zone_of_the_address_comes_before_the_one_of_the_cookie(admin: httpx2.Client) -> None:
    cookie = {"Cookie": "zone=Europe%2FAmsterdam"}
    assert 'data-zone="Europe/Amsterdam"' in admin.get(f"/console/{CHAIN}/system", headers=cookie).text
    answer = admin.get(f"/console/{CHAIN}/system", params={"zone": "Asia/Tokyo"}, headers=cookie)
    assert 'data-zone="Asia/Tokyo"' in answer.text


@pytest.mark.parametrize(
    "time",
    [
        {"when": "at", "at": "2126-01-01T00:00"},
        {"when": "at", "at": "2126-01-01T00:00Z", "repeat": "daily"},
        {"when": "cron", "cron": "0 1 * * *"},
    ],
)
def test_new_export_by_the_clock_of_an_unknown_zone_is_refused(admin: httpx2.Client, time: dict[str, Any]) -> None:
    form = {"index": "users", "format": "csv", "zone": "Nowhere/City", **time}
    answer = admin.post(f"/console/{CHAIN}/new", data=form, follow_redirects=False)
    assert answer.status_code == 400, answer.text
    assert "/trigger/" in answer.text


def test_token_that_expires_by_the_clock_of_an_unknown_zone_expires_by_that_of_utc(admin: httpx2.Client) -> None:
    client = admin.post("/service_clients", json={"name": "by an unknown clock"}).json()["id"]
    form = {"client_id": str(client), "level": "read", "expires": "2126-01-05 23:30"}
    answer = admin.post(f"/console/{CHAIN}/access/tokens", data=form, headers={"Cookie": "zone=Nowhere%2FCity"})
    assert answer.status_code == 200, answer.text
    token = admin.get("/access_tokens", params={"client_id": client}).json()[0]
    assert token["expires"] == "2126-01-05T23:30:00Z"
