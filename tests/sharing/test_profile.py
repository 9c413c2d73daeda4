"""Profile files: of a token, and made for a user; their tokens, how these end, and the address in them."""

import asyncio
import ipaddress
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from longshore.access.clients import PROFILES as CLIENT
from longshore.access.profile_tokens import MAX_LIVE
from longshore.access.tokens import Level, Scope
from longshore.api.proxies import behind_proxies
from tests.access.users import User, new_user
from tests.answers import problem
from tests.event_loop import AppRequest, application, ask
from tests.service import CHAIN, Longshore, export_body

PROFILE = "/delta-sharing/profile"
PROFILES = "/delta-sharing/profiles"
WITHIN_SECONDS = 3.0  # the check of a token is cached for one second


@pytest.fixture
def reader(idle_service: Longshore) -> User:
    """A user who may read chain 1764."""
    return new_user(idle_service, _1764=Level.READ)


def create_profile(user: User, **body: Any) -> dict[str, Any]:
    """The profile that a user is given."""
    with user.client() as client:
        answer = client.post(PROFILE, json=body) if body else client.post(PROFILE)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/delta-sharing/profiles/{found['bearerToken'].partition(':')[0]}"
    return found


def status(service: Longshore, profile: dict[str, Any]) -> int:
    return httpx2.get(f"{service.address}/tasks", headers=bearer(profile)).status_code


def bearer(profile: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {profile['bearerToken']}"}


def becomes(service: Longshore, profile: dict[str, Any], expected: int) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while (answered := status(service, profile)) != expected:
        assert time.monotonic() < deadline, f"{answered} for {WITHIN_SECONDS} seconds"
        time.sleep(0.05)


def test_profile_of_a_token_has_the_token_itself_and_the_time_of_its_end(idle_service: Longshore) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    token = idle_service.token(Level.WRITE, scope=Scope(expires=expires))
    answer = httpx2.get(idle_service.address + PROFILE, headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == {
        "shareCredentialsVersion": 1,
        "endpoint": f"{idle_service.address}/delta-sharing/",
        "bearerToken": token,
        "expirationTime": expires.isoformat().replace("+00:00", "Z"),
    }
    assert answer.headers["content-disposition"] == f'attachment; filename="longshore-{CHAIN}.share"'
    assert answer.headers["cache-control"] == "no-store"


def test_profile_of_a_token_without_an_end_names_none(idle_service: Longshore) -> None:
    answer = httpx2.get(
        idle_service.address + PROFILE, headers={"Authorization": f"Bearer {idle_service.token(Level.READ)}"}
    )
    assert "expirationTime" not in answer.json()


def test_user_is_given_a_read_token_that_expires_and_is_in_the_audit_log(
    idle_service: Longshore, idle_client: httpx2.Client, reader: User
) -> None:
    profile = create_profile(reader)
    left = datetime.fromisoformat(profile["expirationTime"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)
    assert status(idle_service, profile) == 200
    refused = httpx2.post(f"{idle_service.address}/tasks", headers=bearer(profile), json=export_body())
    assert refused.status_code == 403
    id = profile["bearerToken"].partition(":")[0]
    token = idle_client.get(f"/access_tokens/{id}").json()
    assert (token["user"], token["client"], token["level"]) == (reader.name, CLIENT, "read")
    assert (token["chains"], token["active"], token["expires"]) == ([CHAIN], True, profile["expirationTime"])
    entry = idle_client.get("/audit", params={"object": f"token {id}"}).json()[0]
    assert (entry["action"], entry["actor"]) == ("profile.create", f"user {reader.id}")
    assert profile["bearerToken"].partition(":")[2] not in json.dumps(entry)
    again = httpx2.get(idle_service.address + PROFILE, headers=bearer(profile))
    assert again.json() == profile


@pytest.mark.parametrize("seconds", [60, 90 * 24 * 3600])
def test_user_says_how_long_the_token_is_good_for(reader: User, seconds: int) -> None:
    left = datetime.fromisoformat(create_profile(reader, expires_in=seconds)["expirationTime"]) - datetime.now(UTC)
    assert abs(left - timedelta(seconds=seconds)) < timedelta(seconds=20)


@pytest.mark.parametrize(
    "body", [{"expires_in": 59}, {"expires_in": 90 * 24 * 3600 + 1}, {"expires_in": "30"}, {"days": 1}]
)
def test_body_that_names_no_valid_time_is_refused(reader: User, body: dict[str, Any]) -> None:
    with reader.client() as client:
        answer = client.post(PROFILE, json=body)
    assert answer.status_code == 400
    assert [each["pointer"] for each in answer.json()["errors"]] == [f"/{name}" for name in body]


def test_token_of_a_user_ends_with_the_level_for_the_chain_and_with_the_user(
    idle_service: Longshore, idle_client: httpx2.Client, reader: User
) -> None:
    profile = create_profile(reader)
    path = f"/users/{reader.id}"
    assert idle_client.patch(path, json={"enabled": False}).status_code == 200
    becomes(idle_service, profile, 401)
    assert not idle_client.get(f"/access_tokens/{profile['bearerToken'][:36]}").json()["active"]
    assert idle_client.patch(path, json={"enabled": True}).status_code == 200
    becomes(idle_service, profile, 200)
    idle_service.sql("update longshore.users set disabled_at = now() where id = $1", reader.id)
    becomes(idle_service, profile, 401)
    idle_service.sql("update longshore.users set disabled_at = null where id = $1", reader.id)
    becomes(idle_service, profile, 200)
    assert idle_client.delete(path).status_code == 200
    becomes(idle_service, profile, 401)


def test_token_of_a_user_has_no_level_once_the_user_has_none(idle_service: Longshore, reader: User) -> None:
    id = create_profile(reader)["bearerToken"].partition(":")[0]
    level = f"select longshore.level_of('token', $1, null, {CHAIN}, 0, 0)"
    assert idle_service.sql(level, id)[0][0] == "read"
    idle_service.sql("update longshore.user_levels set enabled = false where user_id = $1", reader.id)
    assert idle_service.sql(level, id)[0][0] is None


def test_admin_revokes_a_profile_file_and_forbids_new_ones(
    idle_service: Longshore, idle_client: httpx2.Client, reader: User
) -> None:
    profile = create_profile(reader)
    id = profile["bearerToken"].partition(":")[0]
    assert idle_client.delete(f"/access_tokens/{id}").status_code == 200
    becomes(idle_service, profile, 401)
    client = idle_client.get(f"/access_tokens/{id}").json()["client_id"]
    assert idle_client.patch(f"/service_clients/{client}", json={"enabled": False}).status_code == 200
    try:
        with reader.client() as session:
            refused = session.post(PROFILE)
        assert refused.status_code == 403
        assert CLIENT in refused.json()["detail"]
    finally:
        assert idle_client.patch(f"/service_clients/{client}", json={"enabled": True}).status_code == 200


def test_profile_files_stay_forbidden_where_their_turned_off_client_was_renamed(idle_service: Longshore) -> None:
    chain = 8801
    reader = new_user(idle_service, _8801=Level.READ)
    with idle_service.client(Level.ADMIN, chain) as admin, reader.client(chain) as session:
        alike = admin.post("/service_clients", json={"name": CLIENT}).json()["id"]
        id = session.post(PROFILE).json()["bearerToken"].partition(":")[0]
        client = admin.get(f"/access_tokens/{id}").json()["client_id"]
        assert client != alike, "the client of an admin is not taken for that of profile files"
        renamed = {"name": "no longer wanted", "enabled": False}
        assert admin.patch(f"/service_clients/{client}", json=renamed).status_code == 200
        refused = session.post(PROFILE)
        assert (refused.status_code, "no longer wanted" in refused.json()["detail"]) == (403, True)
        assert admin.post("/service_clients", json={"name": CLIENT.upper()}).status_code == 409
        assert admin.patch(f"/service_clients/{client}", json={"enabled": True}).status_code == 200
        id = session.post(PROFILE).json()["bearerToken"].partition(":")[0]
        assert admin.get(f"/access_tokens/{id}").json()["client_id"] == client


def test_user_revokes_an_own_profile_file_and_sees_it_as_revoked(
    idle_service: Longshore, idle_client: httpx2.Client, reader: User
) -> None:
    profile, kept = create_profile(reader), create_profile(reader)
    id = profile["bearerToken"].partition(":")[0]
    with reader.client() as session:
        assert [session.delete(f"{PROFILES}/{id}").status_code for _ in range(2)] == [204, 204]
        becomes(idle_service, profile, 401)
        listed = session.get(PROFILES).json()
        assert session.get(PROFILES, params={"limit": 1}).json() == listed[:1]
    states = [(token["id"], token["state"], token["active"]) for token in listed]
    assert states == [(kept["bearerToken"].partition(":")[0], "active", True), (id, "revoked", False)]
    assert profile["bearerToken"].partition(":")[2] not in json.dumps(listed)
    assert status(idle_service, kept) == 200
    entries = idle_client.get("/audit", params={"object": f"token {id}"}).json()
    assert [(entry["action"], entry["actor"]) for entry in entries] == [
        ("token.revoke", f"user {reader.id}"), ("profile.create", f"user {reader.id}"),
    ]  # fmt: skip


def test_profile_file_revokes_itself_and_nothing_else(idle_service: Longshore, reader: User) -> None:
    profile, other, service_token = create_profile(reader), create_profile(reader), idle_service.token(Level.READ)
    bearers = {"own": profile["bearerToken"], "other": other["bearerToken"], "service": service_token}
    ids = {name: text.partition(":")[0] for name, text in bearers.items()}
    for name in ("other", "service"):
        refused = httpx2.delete(f"{idle_service.address}{PROFILES}/{ids[name]}", headers=bearer(profile))
        problem(refused, "token-not-found")
    own_of_a_service = httpx2.delete(
        f"{idle_service.address}{PROFILES}/{ids['service']}", headers={"Authorization": f"Bearer {service_token}"}
    )
    assert "service clients" in problem(own_of_a_service, "token-not-found")["detail"]
    assert httpx2.get(f"{idle_service.address}{PROFILES}", headers=bearer(profile)).status_code == 403
    assert (
        httpx2.delete(f"{idle_service.address}{PROFILES}/{ids['own'].upper()}", headers=bearer(profile)).status_code
        == 204
    )
    becomes(idle_service, profile, 401)
    assert status(idle_service, other) == 200


def test_users_neither_see_nor_revoke_the_profile_files_of_others(idle_service: Longshore, reader: User) -> None:
    profile = create_profile(reader)
    id = profile["bearerToken"].partition(":")[0]
    stranger = new_user(idle_service, _1764=Level.ADMIN, _1765=Level.READ)
    with stranger.client() as session, stranger.client(chain=1765) as elsewhere:
        for client in (session, elsewhere):
            assert client.get(PROFILES).json() == []
            for wrong in (id, "x", "0" * 36):
                problem(client.delete(f"{PROFILES}/{wrong}"), "token-not-found")
    assert status(idle_service, profile) == 200


def test_state_of_a_token_says_why_it_is_not_accepted(
    idle_service: Longshore, idle_client: httpx2.Client, reader: User
) -> None:
    id = create_profile(reader)["bearerToken"].partition(":")[0]

    def state() -> tuple[str, bool]:
        found = idle_client.get(f"/access_tokens/{id}").json()
        return found["state"], found["active"]

    assert state() == ("active", True)
    idle_service.sql("update longshore.user_levels set enabled = false where user_id = $1", reader.id)
    assert state() == ("user_off", False)
    owner = "(select client_id from longshore.access_tokens where id = $1::uuid)"
    idle_service.sql(f"update longshore.service_clients set enabled = false where id = {owner}", id)
    assert state() == ("client_off", False)
    idle_service.sql(f"update longshore.service_clients set enabled = true where id = {owner}", id)
    idle_service.sql("update longshore.access_tokens set expires_at = now() where id = $1::uuid", id)
    assert state() == ("expired", False)
    idle_service.sql("update longshore.access_tokens set revoked_at = now() where id = $1::uuid", id)
    assert state() == ("revoked", False)


def test_user_has_twenty_valid_profile_files_and_old_ones_are_deleted(idle_service: Longshore, reader: User) -> None:
    tokens = "select count(*) from longshore.access_tokens where user_id = $1"
    with reader.client() as session:
        for _ in range(MAX_LIVE):
            assert session.post(PROFILE).status_code == 201
        problem(session.post(PROFILE), "too-many-profile-files")
        assert idle_service.sql(tokens, reader.id)[0][0] == MAX_LIVE
        ends = "update longshore.access_tokens set expires_at = now() - $2 * interval '1 day' where user_id = $1"
        idle_service.sql(ends, reader.id, 6)
        assert session.post(PROFILE).status_code == 201
        assert idle_service.sql(tokens, reader.id)[0][0] == MAX_LIVE + 1
        idle_service.sql(ends, reader.id, 8)
        assert session.post(PROFILE).status_code == 201
        assert idle_service.sql(tokens, reader.id)[0][0] == 1


def test_token_asks_with_get_and_a_user_with_post(idle_service: Longshore, reader: User) -> None:
    with idle_service.client(Level.ADMIN) as token:
        refused = token.post(PROFILE)
    assert (refused.status_code, "GET" in refused.json()["detail"]) == (403, True)
    with reader.client() as session:
        refused = session.get(PROFILE)
    assert (refused.status_code, "POST" in refused.json()["detail"]) == (403, True)


def test_user_without_a_level_for_the_chain_is_given_no_token(reader: User) -> None:
    with reader.client(chain=1765) as elsewhere:
        assert elsewhere.post(PROFILE).status_code == 403


@pytest.mark.parametrize(
    ("public_url", "endpoint"),
    [
        ("", "https://exports.example.com/delta-sharing/"),
        ("https://data.example.com", "https://data.example.com/delta-sharing/"),
        ("https://data.example.com/loyalty/", "https://data.example.com/loyalty/delta-sharing/"),
    ],
)
def test_endpoint_is_the_address_that_clients_know_behind_proxies_and_below_a_path(
    idle_service: Longshore, public_url: str, endpoint: str
) -> None:
    token = idle_service.token(Level.READ)

    async def profile_behind_proxy() -> dict[str, Any]:
        async with application(idle_service.url, str(idle_service.data), public_url=public_url) as app:
            behind = behind_proxies(app, [ipaddress.ip_network("127.0.0.1/32")])
            forwarded = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9", "host": "exports.example.com"}
            request = AppRequest("GET", PROFILE, headers={"authorization": f"Bearer {token}", **forwarded})
            found: dict[str, Any] = json.loads((await ask(behind, request)).body)
            return found

    assert asyncio.run(profile_behind_proxy())["endpoint"] == endpoint
