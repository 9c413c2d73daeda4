"""Lists of shares, schemas and tables, page by page, and the answers to wrong requests."""

import base64
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level, Scope
from tests.service import CHAIN, Longshore
from tests.sharing.conftest import TABLES, Reader, new_name, shared, table_body

SHARE = f"/delta-sharing/shares/{CHAIN}"


def error_of(answer: httpx2.Response) -> tuple[int, str]:
    """Return status and code of an error, whose form is checked."""
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    found = answer.json()
    assert found.keys() == {"errorCode", "message"} and found["message"]
    return answer.status_code, found["errorCode"]


def test_token_has_a_share_for_each_chain_of_its_scope(service: Longshore, reader: Reader) -> None:
    assert reader.client.get("/delta-sharing/shares").json() == {"items": [{"name": "1764"}]}
    with service.client(Level.READ, scope=Scope(more_chains=[1765, 9])) as several:
        pages = []
        token = ""
        while True:
            page = several.get("/delta-sharing/shares", params={"maxResults": 1, "pageToken": token}).json()
            pages.append([item["name"] for item in page["items"]])
            if not (token := page.get("nextPageToken", "")):
                break
        assert pages == [["1764"], ["1765"], ["9"]]
        assert several.get("/delta-sharing/shares/1765").json() == {"share": {"name": "1765"}}
        assert several.get("/delta-sharing/shares/1765/schemas").json()["items"] == [
            {"name": "exports", "share": "1765"}
        ]
        assert several.get("/delta-sharing/shares/1766").status_code == 404


def test_tables_come_by_name_page_by_page_in_both_lists(client: httpx2.Client, reader: Reader) -> None:
    made = [shared(client, table_body(new_name(), fields=["id"]))[1] for _ in range(3)]
    found = reader.names()
    assert set(made) <= set(found)
    assert found == sorted(found, key=str.lower) and len(set(found)) == len(found)
    whole = reader.client.get(f"{SHARE}/all-tables").json()
    assert whole == reader.client.get(TABLES).json()
    assert [item["name"] for item in whole["items"]] == found
    item = whole["items"][0]
    assert (item["schema"], item["share"], item["accessModes"]) == ("exports", "1764", ["url"])
    assert len({item["id"] for item in whole["items"]}) == len(found)


def test_page_tokens_name_no_table_that_the_token_may_not_see(client: httpx2.Client, limited_reader: Reader) -> None:
    stem = new_name()
    for end, fields in (("a", ["id"]), ("b", ["id", "amount"]), ("c", ["id"])):
        shared(client, table_body(f"{stem}_{end}", fields=fields))
    visible = [name.lower() for name in limited_reader.names()]
    assert {f"{stem}_a".lower(), f"{stem}_c".lower()} <= set(visible) and f"{stem}_b".lower() not in visible
    token, named = "", []
    while True:
        page = limited_reader.client.get(TABLES, params={"maxResults": 1, "pageToken": token}).json()
        assert len(page["items"]) == 1
        if not (token := page.get("nextPageToken", "")):
            break
        named.append(base64.urlsafe_b64decode(token).decode().removeprefix("after:"))
    assert named == visible[:-1]


@pytest.mark.usefixtures("ledger")
def test_page_of_no_entries_says_where_the_first_one_begins(reader: Reader) -> None:
    for path in ("/delta-sharing/shares", f"{SHARE}/schemas", f"{SHARE}/all-tables", TABLES):
        empty = reader.client.get(path, params={"maxResults": 0}).json()
        assert empty["items"] == []
        following = reader.client.get(path, params={"pageToken": empty["nextPageToken"]}).json()
        assert following["items"]
        assert following == reader.client.get(path).json()


def test_names_ignore_case(reader: Reader, ledger: tuple[int, str]) -> None:
    path = f"{SHARE}/schemas/EXPORTS/tables/{ledger[1].upper()}/metadata"
    assert reader.client.get(path).status_code == 200


def test_parameters_and_keys_of_later_versions_of_the_protocol_are_ignored(
    reader: Reader, ledger: tuple[int, str]
) -> None:
    assert reader.client.get(TABLES, params={"later": "x"}).status_code == 200
    assert reader.get(ledger[1], "version", params={"later": "x"}).status_code == 200
    assert reader.query(ledger[1], includeRefreshToken=True, maxFiles=1, idempotencyKey="x", later={"x": 1}).files
    hints: dict[str, Any] = {
        "predicateHints": ["amount > 1"],
        "jsonPredicateHints": '{"op": "equal"}',
        "endingVersion": 2,
    }
    assert reader.query(ledger[1], **hints).files


@pytest.mark.parametrize(
    "content", [b"", b"{}", b" {} "], ids=["no body", "an empty object", "an empty object between blanks"]
)
@pytest.mark.parametrize("media_type", [None, "application/json; charset=utf-8", "text/plain"])
def test_query_needs_neither_body_nor_media_type(
    reader: Reader, ledger: tuple[int, str], content: bytes, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    answer = reader.client.post(f"{TABLES}/{ledger[1]}/query", content=content, headers=headers)
    assert answer.status_code == 200


MALFORMED = (400, "MALFORMED_REQUEST")
INVALID = (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", MALFORMED),
        (b"[]", MALFORMED),
        (b"\xff", MALFORMED),
        (b"[" * 5000, MALFORMED),
        (b'{"limitHint": -1}', MALFORMED),
        (b'{"limitHint": 2147483648}', MALFORMED),
        (b'{"limitHint": "x"}', MALFORMED),
        (b'{"version": -1}', MALFORMED),
        (b'{"version": 9223372036854775808}', MALFORMED),
        (b'{"version": 1, "timestamp": "2026-05-26T12:00:00Z"}', INVALID),
        (b'{"timestamp": "yesterday"}', INVALID),
        (b'{"timestamp": "2026-05-26T12:00:00"}', INVALID),
        (b'{"timestamp": "9999-12-31T23:59:59-23:00"}', INVALID),
        (b'{"startingVersion": 0}', INVALID),
        (b'{"version": 9223372036854775807}', (404, "RESOURCE_DOES_NOT_EXIST")),
        (b'{"version": 0}', (404, "RESOURCE_DOES_NOT_EXIST")),
        (b'{"timestamp": "1999-01-01T00:00:00Z"}', (404, "RESOURCE_DOES_NOT_EXIST")),
    ],
    ids=repr,
)
def test_wrong_query_is_answered_with_the_protocols_error(
    reader: Reader, ledger: tuple[int, str], body: bytes, expected: tuple[int, str]
) -> None:
    assert error_of(reader.client.post(f"{TABLES}/{ledger[1]}/query", content=body)) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/delta-sharing/shares?maxResults=-1", INVALID),
        ("/delta-sharing/shares?maxResults=x", INVALID),
        ("/delta-sharing/shares?maxResults=1e1", INVALID),
        ("/delta-sharing/shares?maxResults=1_0", INVALID),
        ("/delta-sharing/shares?maxResults=2147483648", INVALID),
        ("/delta-sharing/shares?maxResults=1&maxResults=2", INVALID),
        ("/delta-sharing/shares?pageToken=x", INVALID),
        ("/delta-sharing/shares?pageToken=YWZ0ZXI6J08nJw==", INVALID),
        ("{share}/schemas?pageToken=%00", INVALID),
        ("{share}/all-tables?pageToken=x", INVALID),
        ("{tables}?maxResults=-1", INVALID),
        ("{table}/metadata?version=x", INVALID),
        ("{table}/metadata?version=-1", INVALID),
        ("{table}/metadata?version=9223372036854775808", INVALID),
        ("{table}/metadata?version=1&timestamp=2026-05-26T12:00:00Z", INVALID),
        ("{table}/metadata?timestamp=x", INVALID),
        ("{table}/version?startingTimestamp=x", INVALID),
        ("{table}/changes?startingVersion=0", INVALID),
        ("/delta-sharing", (404, "")),
        ("/delta-sharing/nothing", (404, "RESOURCE_DOES_NOT_EXIST")),
        ("/delta-sharing/shares/01764", (404, "RESOURCE_DOES_NOT_EXIST")),
        ("/delta-sharing/shares/1764.0/schemas", (404, "RESOURCE_DOES_NOT_EXIST")),
        ("{share}/schemas/default/tables", (404, "RESOURCE_DOES_NOT_EXIST")),
        ("{share}/schemas/default/tables/x/metadata", (404, "RESOURCE_DOES_NOT_EXIST")),
        ("{tables}/%00/metadata", (404, "RESOURCE_DOES_NOT_EXIST")),
        ("{tables}/%27/version", (404, "RESOURCE_DOES_NOT_EXIST")),
        ("{tables}/a%20b", (404, "RESOURCE_DOES_NOT_EXIST")),
        ("{table}/query", (405, "MALFORMED_REQUEST")),
        ("{table}/queries/x", (404, "RESOURCE_DOES_NOT_EXIST")),
    ],
)
def test_wrong_address_is_answered_with_the_protocols_error(
    reader: Reader, ledger: tuple[int, str], path: str, expected: tuple[int, str]
) -> None:
    answer = reader.client.get(path.format(share=SHARE, tables=TABLES, table=f"{TABLES}/{ledger[1]}"))
    if expected[1]:
        assert error_of(answer) == expected
    else:
        assert answer.status_code == expected[0]


def test_requests_without_a_good_token_are_unauthenticated(service: Longshore, ledger: tuple[int, str]) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {service.token(Level.READ)}"}):
        for path in ("/delta-sharing/shares", f"{TABLES}/{ledger[1]}/metadata", f"{TABLES}/none/metadata"):
            answer = httpx2.get(service.address + path, headers=headers)
            assert error_of(answer) == (401, "UNAUTHENTICATED")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_request_beyond_the_rate_is_refused_with_the_protocols_error(proxied_service: Longshore) -> None:
    with proxied_service.client(Level.READ) as client:
        client.headers["x-forwarded-for"] = "192.0.2.77"
        answers = [client.get("/delta-sharing/shares") for _ in range(11)]
    assert error_of(answers[-1]) == (429, "REQUEST_LIMIT_EXCEEDED")
    assert int(answers[-1].headers["retry-after"]) > 0


def test_head_that_cannot_be_used_is_refused_with_the_protocols_error(reader: Reader) -> None:
    answer = reader.client.get("/delta-sharing/shares", headers={"Content-Encoding": "gzip"})
    assert error_of(answer) == (415, "MALFORMED_REQUEST")
