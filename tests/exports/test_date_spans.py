"""A day in a rule is the whole day, in the zone of the rule, the task or the preview, else UTC."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.test_segments import rule, segment_of
from tests.service import Longshore, export_body, exported

AMSTERDAM, AUCKLAND = "Europe/Amsterdam", "Pacific/Auckland"


@pytest.fixture(scope="module")
def client(service: Longshore) -> Iterator[httpx2.Client]:
    with service.client() as opened:
        yield opened


def rows(service: Longshore, condition: str, table: str = "wallet_ledger") -> int:
    count: int = service.sql(f"select count(*) from loyalty.{table} where chain_id = 1764 and {condition}")[0][0]
    return count


def previewed(client: httpx2.Client, *rules: dict[str, Any], index: str = "wallet-ledger", **more: Any) -> int:
    answer = client.post("/segments/preview", json={"segment": segment_of(*rules, index=index), **more})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["rows"])


def between(start: str, end: str, **more: Any) -> dict[str, Any]:
    return rule("timestamp", "is_between_date", "date", start_date=start, end_date=end, **more)


def test_between_a_day_and_the_same_day_takes_the_whole_day(service: Longshore, client: httpx2.Client) -> None:
    expected = rows(service, "timestamp >= '2024-05-01 00:00Z' and timestamp < '2024-05-02 00:00Z'")
    assert previewed(client, between("2024-05-01", "2024-05-01")) == expected > 0


def test_after_a_day_begins_when_it_is_over_and_before_it_ends_when_it_begins(
    service: Longshore, client: httpx2.Client
) -> None:
    after = rule("timestamp", "is_after_date", "date", start_date="2024-05-10")
    before = rule("timestamp", "is_before_date", "date", end_date="2024-05-10")
    assert previewed(client, after) == rows(service, "timestamp >= '2024-05-11 00:00Z'")
    assert previewed(client, before) == rows(service, "timestamp < '2024-05-10 00:00Z'") > 0
    assert previewed(client, after) + previewed(client, before) + previewed(
        client, rule("timestamp", "is_date", "date", value="2024-05-10")
    ) == rows(service, "true")


def test_a_preview_reads_days_in_the_zone_of_the_rule_else_in_its_own(
    service: Longshore, client: httpx2.Client
) -> None:
    auckland = rows(service, "(timestamp at time zone 'Pacific/Auckland')::date = '2024-05-01'")
    amsterdam = rows(service, "(timestamp at time zone 'Europe/Amsterdam')::date = '2024-05-01'")
    utc = previewed(client, between("2024-05-01", "2024-05-01"))
    assert len({auckland, amsterdam, utc}) > 1
    assert previewed(client, between("2024-05-01", "2024-05-01"), timezone=AUCKLAND) == auckland
    own = between("2024-05-01", "2024-05-01", timezone=AMSTERDAM)
    assert previewed(client, own, timezone=AUCKLAND) == amsterdam
    answer = client.post("/segments/preview", json={"segment": segment_of(), "timezone": "Mars/Olympus"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/timezone"


def test_a_column_without_a_time_of_day_counts_from_the_first_moment_of_its_day_in_the_zone(
    service: Longshore, client: httpx2.Client
) -> None:
    birthday: str = service.sql("select birthday::text from loyalty.users where birthday is not null")[0][0]
    on = rows(service, f"birthday = '{birthday}'", "users")
    from_noon = rule("birthday", "is_after_date", "date", start_date=f"{birthday}T12:00:00Z")
    later = rows(service, f"birthday > '{birthday}'", "users")
    for zone in ("UTC", AUCKLAND, "Pacific/Honolulu"):
        value = rule("birthday", "is_date", "date", value=birthday, timezone=zone)
        assert previewed(client, value, index="users") == on > 0, zone
        assert previewed(client, from_noon, index="users", timezone="UTC") == later


def test_a_task_that_runs_once_reads_days_in_its_zone_and_its_manifest_names_the_zone(
    service: Longshore, client: httpx2.Client
) -> None:
    day = rule("timestamp", "is_date", "date", value="2024-05-01")
    task, content = exported(client, export_body(segment=segment_of(day), timezone=AUCKLAND))
    expected = rows(service, "(timestamp at time zone 'Pacific/Auckland')::date = '2024-05-01'")
    assert content.count(b"\r\n") - 1 == expected
    assert task["trigger"]["timezone"] == AUCKLAND
    run = client.get(f"/tasks/{task['id']}/runs").json()[0]
    assert run["segment"]["rules"][0]["timezone"] == AUCKLAND
    task, _ = exported(client, export_body(segment=segment_of(day)))
    assert client.get(f"/tasks/{task['id']}/runs").json()[0]["segment"]["rules"][0]["timezone"] == "UTC"


def test_a_stored_segment_reads_days_in_the_zone_of_the_task_that_names_it(
    service: Longshore, client: httpx2.Client
) -> None:
    body = {"chain": 1764, "name": "a day", "segment": segment_of(between("2024-05-01", "2024-05-01"))}
    stored = client.post("/segments", json=body).json()["id"]
    _, content = exported(client, export_body(segment_id=stored, timezone=AUCKLAND))
    expected = rows(service, "(timestamp at time zone 'Pacific/Auckland')::date = '2024-05-01'")
    assert content.count(b"\r\n") - 1 == expected


@pytest.mark.parametrize("when", [{}, {"repeat": "daily"}], ids=["once", "daily"])
def test_window_without_a_zone_uses_the_zone_of_the_task(client: httpx2.Client, when: dict[str, Any]) -> None:
    window = rule("timestamp", "is_in_window", "date", window="yesterday")
    task, _ = exported(client, export_body(segment=segment_of(window), timezone="Pacific/Kiritimati", **when))
    assert client.post(f"/tasks/{task['id']}/cancel").status_code == (200 if when else 409)
    resolved = client.get(f"/tasks/{task['id']}/runs").json()[0]["segment"]["rules"][0]
    assert (resolved["from"][11:], resolved["to"][11:]) == ("10:00:00Z", "10:00:00Z")


def test_days_and_times_in_one_rule_are_refused_only_if_they_are_backwards_in_every_zone(client: httpx2.Client) -> None:
    assert previewed(client, between("2024-05-01T15:00:00Z", "2024-05-01"), timezone=AMSTERDAM) > 0
    late = segment_of(between("2024-05-09T15:00:00Z", "2024-05-01"))
    assert client.post("/segments/preview", json={"segment": late}).status_code == 400


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_first_and_the_last_day_of_the_calendar_can_be_in_a_rule(
    service: Longshore, client: httpx2.Client, zone: str
) -> None:
    everything = rows(service, "true")
    assert previewed(client, between("0001-01-01", "9999-12-31"), timezone=zone) == everything
    for extreme in ("0001-01-01", "9999-12-31", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"):
        assert previewed(client, rule("timestamp", "is_date", "date", value=extreme), timezone=zone) == 0


def test_the_ends_of_the_calendar_in_a_rule_are_not_read_as_infinity(
    odd_values_service: Longshore, odd_values_client: httpx2.Client
) -> None:
    def matching(operator: str, **more: str) -> int:
        found = segment_of(rule("at", operator, "date", **more), index="odd")
        answer = odd_values_client.post("/segments/preview", json={"segment": found, "fields": ["id"]})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["rows"])

    def stored(condition: str) -> int:
        return int(odd_values_service.sql(f"select count(*) from odd.values where {condition}")[0][0])

    first, last = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
    assert matching("is_before_date", end_date=first) == stored(f"at < '{first}'") > 0
    assert matching("is_after_date", start_date=last) == stored(f"at > '{last}'") > 0
    assert matching("is_between_date", start_date=first, end_date=last) == stored(f"at between '{first}' and '{last}'")
