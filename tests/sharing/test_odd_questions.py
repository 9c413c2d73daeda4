"""Requests that servers of the protocol have stumbled over: every answer is the protocol's, and none is a 5xx."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level, Scope
from tests.access.users import new_user
from tests.service import CHAIN, ended, export_body
from tests.sharing.worlds import Tables

SHARES = "/delta-sharing/shares"
TABLES = f"{SHARES}/{CHAIN}/schemas/exports/tables"
EDGES = f"{TABLES}/edges"
HUGE = 10**30


@pytest.fixture(scope="module")
def reader(on_disk: Tables) -> Iterator[httpx2.Client]:
    """A client with a read token for chain 1764."""
    with on_disk.service.client(Level.READ) as client:
        yield client


def error(answer: httpx2.Response, status: int) -> str:
    """The code of an error in the protocol's form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body["message"]
    return str(body["errorCode"])


def lines(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The lines of a successful answer about a table."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson; charset=utf-8"
    assert answer.headers["delta-table-version"].isdigit()
    return [json.loads(line) for line in answer.text.splitlines()]


def files(answer: httpx2.Response) -> list[dict[str, Any]]:
    return [line["file"] for line in lines(answer) if "file" in line]


def test_slash_that_a_client_adds_to_that_of_the_endpoint_is_taken(reader: httpx2.Client) -> None:
    endpoint = reader.get("/delta-sharing/profile").json()["endpoint"]
    for path in (f"/shares/{CHAIN}/all-tables", f"/shares/{CHAIN}/schemas/exports/tables/edges/metadata"):
        doubled, usual = (httpx2.get(endpoint + each, headers=reader.headers) for each in (path, path[1:]))
        assert (doubled.status_code, doubled.content) == (200, usual.content)
    for path in ("/delta-sharing///shares", "/delta-sharing//", "/delta-sharing//../tasks", "//delta-sharing/shares"):
        assert httpx2.get(str(reader.base_url).rstrip("/") + path, headers=reader.headers).status_code == 404


@pytest.mark.parametrize("path", [SHARES, f"{SHARES}/{CHAIN}/schemas", TABLES, f"{SHARES}/{CHAIN}/all-tables"])
@pytest.mark.parametrize("token", ["garbage", "", "MTA=", "-1", str(HUGE), "é", "\x00", "' or 1=1", "W10=", "x" * 4000])
def test_page_token_that_the_service_did_not_make_is_refused(reader: httpx2.Client, path: str, token: str) -> None:
    answer = reader.get(path, params={"pageToken": token})
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert error(answer, 400)
    else:
        assert "items" in answer.json()


@pytest.mark.parametrize("path", [SHARES, f"{SHARES}/{CHAIN}/schemas", TABLES, f"{SHARES}/{CHAIN}/all-tables"])
def test_max_results_is_a_number_of_at_least_zero(reader: httpx2.Client, path: str) -> None:
    none = reader.get(path, params={"maxResults": 0})
    assert (none.status_code, none.json().get("items", [])) == (200, [])
    everything = reader.get(path).json()["items"]
    for most in (1, 1000, 2**31 - 1):
        assert reader.get(path, params={"maxResults": most}).json()["items"] == everything[:most]
    for wrong in (-1, -(2**31), HUGE, "x", "1.5"):
        error(reader.get(path, params={"maxResults": wrong}), 400)


def test_pages_have_every_table_once_and_the_last_names_no_other(reader: httpx2.Client, on_disk: Tables) -> None:
    for path in (TABLES, f"{SHARES}/{CHAIN}/all-tables"):
        names, asked = [], {"maxResults": "2"}
        while True:
            page = reader.get(path, params=asked).json()
            names += [item["name"] for item in page["items"]]
            if "nextPageToken" not in page:  # an empty one makes some clients ask for ever
                break
            assert page["nextPageToken"]
            asked["pageToken"] = page["nextPageToken"]
        assert set(names) >= set(on_disk.tasks)
        assert len(names) == len(set(names))


@pytest.mark.parametrize("limit", [-1, -(2**31), 2**31, HUGE, "3", 1.5, True, [1]])
def test_limit_hint_that_is_no_number_of_rows_is_refused(reader: httpx2.Client, limit: Any) -> None:
    error(reader.post(f"{EDGES}/query", json={"limitHint": limit}), 400)


def test_limit_hint_leaves_out_files_that_are_not_needed(reader: httpx2.Client) -> None:
    counts = {
        hint: len(files(reader.post(f"{TABLES}/pairs/query", json={"limitHint": hint}))) for hint in (1, 2, 3, 1000)
    }
    assert counts == {1: 1, 2: 1, 3: 2, 1000: 3}
    assert len(files(reader.post(f"{TABLES}/pairs/query", json={"limitHint": None}))) == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"version": 99}, 404), ({"version": 2**63 - 1}, 404), ({"version": 0}, 404), ({"version": -1}, 400),
        ({"version": 2**63}, 400), ({"version": HUGE}, 400), ({"version": "1"}, 400), ({"version": 1.5}, 400),
        ({"version": 1, "timestamp": "2026-05-26T12:00:00Z"}, 400), ({"timestamp": "yesterday"}, 400),
        ({"timestamp": "1715988468.0"}, 400), ({"timestamp": 1715988468}, 400), ({"timestamp": ""}, 400),
        ({"timestamp": "2000-01-01T00:00:00Z"}, 404), ({"timestamp": "0001-01-01T00:00:00Z"}, 400),
        ({"startingVersion": 1}, 400), ([], 400), ("x", 400), (1, 400),
    ],
)  # fmt: skip
def test_version_and_body_that_no_table_has_are_refused(reader: httpx2.Client, body: Any, status: int) -> None:
    error(reader.post(f"{EDGES}/query", json=body), status)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"null", b"[" * 10_000, b'{"version": NaN}'])
def test_body_that_is_no_json_object_is_refused(reader: httpx2.Client, content: bytes) -> None:
    answer = reader.post(f"{EDGES}/query", content=content, headers={"Content-Type": "application/json"})
    if content == b"":
        assert len(files(answer)) == 1
    else:
        error(answer, 400)


def test_content_type_of_a_query_is_optional_and_hints_are_taken(reader: httpx2.Client) -> None:
    for more in ({}, {"Content-Type": "application/json; charset=utf-8"}, {"Content-Type": "application/json"}):
        assert len(files(reader.post(f"{EDGES}/query", content=b"{}", headers=more))) == 1
    hints = {
        "predicateHints": ["id = 1", "not sql at all ("], "jsonPredicateHints": "{broken", "limitHint": 1,
        "maxFiles": 10, "includeRefreshToken": True, "idempotencyKey": "x", "somethingNew": {"a": [1]},
    }  # fmt: skip
    assert len(files(reader.post(f"{EDGES}/query", json=hints))) == 1
    for odd in ({"jsonPredicateHints": {"op": "equal"}}, {"predicateHints": "id = 1"}, {"predicateHints": [1, {}]}):
        assert len(files(reader.post(f"{EDGES}/query", json=odd))) == 1


def test_hints_of_a_megabyte_are_taken_and_longer_ones_refused(reader: httpx2.Client) -> None:
    long = {"predicateHints": [f"id in ({', '.join(map(str, range(10**6, 10**6 + 110_000)))})"]}
    assert 900_000 < len(json.dumps(long)) < 2**20
    assert len(files(reader.post(f"{EDGES}/query", json=long))) == 1
    answer = reader.post(f"{EDGES}/query", json={"jsonPredicateHints": "x" * 2**20})
    error(answer, 413)
    assert "1 MiB" in answer.json()["message"]


@pytest.mark.parametrize("token", ["", "x", "-1", "1.5", "1\n", "9" * 19, 1, ["1"]])
def test_refresh_token_that_the_service_did_not_make_is_refused(reader: httpx2.Client, token: Any) -> None:
    error(reader.post(f"{EDGES}/query", json={"refreshToken": token}), 400)


def test_refresh_token_of_no_version_or_beside_a_version_is_refused(reader: httpx2.Client) -> None:
    error(reader.post(f"{EDGES}/query", json={"refreshToken": "99"}), 404)
    error(reader.post(f"{EDGES}/query", json={"refreshToken": "1", "version": 1}), 400)


def test_error_names_a_parameter_as_the_protocol_does(reader: httpx2.Client) -> None:
    answer = reader.get(SHARES, params={"maxResults": -1})
    assert answer.json()["message"].startswith("maxResults:")


@pytest.mark.parametrize(
    "capabilities",
    [
        "responseformat=delta,parquet;readerfeatures=deletionvectors,columnmapping,timestampntz",
        "RESPONSEFORMAT=Parquet", "something=new;;==;", "asyncquery=true;responseformat=avro", "\xe9", "x" * 4000,
    ],
)  # fmt: skip
def test_capabilities_that_leave_a_choice_or_are_unknown_are_answered_in_parquet(
    reader: httpx2.Client, capabilities: str
) -> None:
    headers = {b"delta-sharing-capabilities": capabilities.encode("latin-1")}
    about = reader.get(f"{EDGES}/metadata", headers=headers)
    assert "delta" not in about.headers.get("delta-sharing-capabilities", "").lower()
    assert [next(iter(line)) for line in lines(about)] == ["protocol", "metaData"]
    assert len(files(reader.post(f"{EDGES}/query", json={}, headers=headers))) == 1


def test_capabilities_of_more_than_8_kib_are_refused(reader: httpx2.Client) -> None:
    for separator in (";", ","):
        headers = {"delta-sharing-capabilities": f"responseformat=delta{separator * 9000}"}
        assert reader.get(f"{EDGES}/metadata", headers=headers).status_code == 431
        assert reader.post(f"{EDGES}/query", json={}, headers=headers).status_code == 431


def test_version_is_in_a_header_of_get_and_head(reader: httpx2.Client) -> None:
    for answer in (reader.get(f"{EDGES}/version"), reader.head(f"{EDGES}/version"), reader.head(EDGES)):
        assert (answer.status_code, answer.headers["delta-table-version"], answer.content) == (200, "1", b"")


def test_changes_are_refused_as_the_table_has_none(reader: httpx2.Client) -> None:
    error(reader.get(f"{EDGES}/changes", params={"startingVersion": 1}), 400)
    error(reader.get(f"{EDGES}/changes"), 400)


@pytest.mark.parametrize("table", ["missing", "x y", "a%2Fb", "%00", "edges'--", "é", "..", "x" * 4000])
def test_name_that_no_table_has_is_404(reader: httpx2.Client, table: str) -> None:
    for suffix in ("/version", "/metadata"):
        error(reader.get(f"{TABLES}/{table}{suffix}"), 404)
    error(reader.post(f"{TABLES}/{table}/query", json={}), 404)


@pytest.mark.parametrize("share", ["1765", "0", "-1", "01764", "1764.0", "x", str(HUGE), "+1764", "1_764", "١٧٦٤"])
def test_share_that_the_token_is_not_for_is_404(reader: httpx2.Client, share: str) -> None:
    paths = ("", "/schemas", "/all-tables", "/schemas/exports/tables", "/schemas/exports/tables/edges/metadata")
    for path in paths:
        error(reader.get(f"{SHARES}/{share}{path}"), 404)
    error(reader.get(f"{SHARES}/{CHAIN}/schemas/other/tables"), 404)


def test_token_of_several_chains_has_a_share_for_each(on_disk: Tables) -> None:
    with on_disk.service.client(Level.READ, scope=Scope(more_chains=[1765])) as both:
        assert [item["name"] for item in both.get(SHARES).json()["items"]] == [str(CHAIN), "1765"]
        assert both.get(f"{SHARES}/1765/all-tables").json().get("items", []) == []
        assert both.get(f"{SHARES}/{CHAIN}").json()["share"]["name"] == str(CHAIN)


def test_only_bearer_tokens_read_tables(on_disk: Tables) -> None:
    address = on_disk.service.address
    session = new_user(on_disk.service, _1764=Level.ADMIN).session()
    for headers in ({}, session, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}):
        answer = httpx2.get(address + SHARES, headers=headers)
        assert error(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_path_and_method_that_the_protocol_lacks_are_errors_of_its_form(reader: httpx2.Client) -> None:
    error(reader.get("/delta-sharing/nothing"), 404)
    error(reader.delete(SHARES), 405)
    error(reader.post(f"{EDGES}/metadata", json={}), 405)


@pytest.mark.parametrize("name", ["", "a.b", "x y", "a-b", "é", "a/b", "x" * 300, 1, None])
def test_name_of_a_table_is_of_letters_digits_and_underscores(on_disk: Tables, name: Any) -> None:
    body = export_body("parquet")
    body["target"]["share_as"] = name
    with on_disk.service.client() as client:
        answer = client.post("/tasks", json=body)
    if name is None:
        assert answer.status_code in (201, 400)
        return
    assert answer.status_code == 400
    assert [each["pointer"] for each in answer.json()["errors"]] == ["/target/share_as"]


def test_two_tables_of_a_chain_have_no_name_in_common(on_disk: Tables) -> None:
    body = export_body("parquet")
    body["target"]["share_as"] = "LEDGER"
    with on_disk.service.client() as client:
        assert client.post("/tasks", json=body).status_code == 409


def test_number_of_more_digits_than_the_protocol_knows_ends_the_run_and_is_named(on_disk: Tables) -> None:
    body = export_body("parquet")
    body["target"] |= {"export_index": "wide", "share_as": "wide"}
    with on_disk.service.client() as client:
        task = ended(client, client.post("/tasks", json=body).json()["id"])
    assert task["state"]["code"] == "ERROR"
    assert "figure" in str(task["logs"]) and "38 digits" in str(task["logs"])


def test_columns_that_differ_in_case_alone_are_refused(on_disk: Tables) -> None:
    body = export_body("parquet")
    body["target"] |= {"share_as": "cases", "fields": [{"name": "id", "as": "A"}, {"name": "amount", "as": "a"}]}
    with on_disk.service.client() as client:
        assert client.post("/tasks", json=body).status_code == 400
