"""Pages of other origins (`LONGSHORE_CORS_ORIGINS`): every answer is theirs to read, and preflight requests alone are
answered before the application.
"""

import httpx2
import pytest

from longshore.api.cors import ALLOWED_HEADERS, EXPOSED_HEADERS
from longshore.sharing.protocol import CAPABILITIES, FILE_ID_HASH, VERSION_HEADER
from tests.conftest import ALLOWED
from tests.raw_http import request, sent
from tests.service import Longshore

PREFLIGHT = {"Origin": ALLOWED, "Access-Control-Request-Method": "GET"}


@pytest.mark.parametrize(
    ("status", "path", "method", "host", "field"),
    [
        (400, "/tasks", "GET", "[", "Accept: */*"), (404, "//tasks", "GET", "x", "Accept: */*"),
        (415, "/tasks", "POST", "x", "Content-Encoding: gzip"),
        (431, "/tasks", "GET", "x", f"X-Large: {270_000 * 'x'}"),
        (204, "*", "OPTIONS", "x", "Accept: */*"), (404, "/nothing", "GET", "x", "Accept: */*"),
        (204, "/tasks", "OPTIONS", "x", "Accept: */*"), (401, "/tasks", "GET", "x", "Accept: */*"),
    ],
)  # fmt: skip
def test_answer_from_before_the_routing_is_readable_for_pages_and_counts_for_the_address(
    proxied_service: Longshore, status: int, path: str, method: str, host: str, field: str
) -> None:
    fields = (f"Origin: {ALLOWED}", "X-Forwarded-For: 2001:db8:70::1", field)
    answer = sent(proxied_service.port, request(path, *fields, method=method, host=host))
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert {"Allow", "RateLimit"} <= set(answer.headers["access-control-expose-headers"].split(", "))
    assert "ratelimit" in answer.headers


def test_pages_of_other_origins_may_send_and_read_every_field_of_the_openapi_document(
    proxied_service: Longshore,
) -> None:
    document = httpx2.get(f"{proxied_service.address}/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    sent = {each["name"] for one in operations for each in one.get("parameters", ()) if each["in"] == "header"}
    read = {name for one in operations for answer in one["responses"].values() for name in answer.get("headers", ())}
    assert {FILE_ID_HASH, CAPABILITIES, VERSION_HEADER} <= read
    assert {name.lower() for name in sent} <= {name.lower() for name in ALLOWED_HEADERS}
    assert {name.lower() for name in read} <= {name.lower() for name in EXPOSED_HEADERS}


@pytest.mark.parametrize(("path", "method", "number"), [("//nothing", "GET", 71), ("*", "OPTIONS", 72)])
def test_requests_that_are_answered_before_the_routing_have_the_rate_limit_of_their_address(
    proxied_service: Longshore, path: str, method: str, number: int
) -> None:
    data = request(path, f"X-Forwarded-For: 2001:db8:{number}::1", method=method)
    statuses = {sent(proxied_service.port, data).status for _ in range(100)}
    assert statuses == {429, 204 if path == "*" else 404}


def test_options_of_a_page_that_is_no_preflight_names_the_methods_of_its_path(proxied_service: Longshore) -> None:
    headers = {"Origin": ALLOWED, "X-Forwarded-For": "2001:db8:73::1"}
    answer = httpx2.options(f"{proxied_service.address}/tasks/1", headers=headers)
    assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH")
    assert answer.headers["accept-patch"] == "application/merge-patch+json, application/json"
    assert answer.headers["access-control-allow-origin"] == ALLOWED
    assert "access-control-allow-methods" not in answer.headers


@pytest.mark.parametrize("path", ["/tasks", "/nothing", "//tasks"])
def test_preflight_of_every_path_is_granted_and_does_not_count(proxied_service: Longshore, path: str) -> None:
    headers = {**PREFLIGHT, "X-Forwarded-For": "2001:db8:74::1"}
    answer = httpx2.options(f"{proxied_service.address}{path}", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, PATCH, DELETE"
    assert answer.headers["access-control-max-age"] == "600"
    assert not {"ratelimit", "allow"} & set(answer.headers)


@pytest.mark.parametrize("origin", [None, "https://evil.example", f"{ALLOWED}.evil.example", ALLOWED.upper(), "null"])
def test_answer_to_another_origin_or_to_none_grants_nothing_and_is_cached_apart(
    proxied_service: Longshore, origin: str | None
) -> None:
    headers = {"Access-Control-Request-Method": "GET", "X-Forwarded-For": "2001:db8:75::1"}
    headers |= {} if origin is None else {"Origin": origin}
    for method in ("GET", "OPTIONS"):
        answer = httpx2.request(method, f"{proxied_service.address}/tasks", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "origin" in answer.headers["vary"].lower().split(", ")
