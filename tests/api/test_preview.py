"""Previews of segments, over HTTP."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest

from longshore.access.tokens import Level
from tests.api.test_segments import MANUAL, problem, rule, segment_of
from tests.locks import locked
from tests.service import Longshore, export_body, exported


@pytest.fixture(scope="module")
def client(service: Longshore) -> httpx2.Client:
    return service.client()


def previewed(client: httpx2.Client, *rules: dict[str, Any], index: str = "wallet-ledger", **more: Any) -> Any:
    answer = client.post("/segments/preview", json={"segment": segment_of(*rules, index=index), **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def codes(found: Any) -> list[str]:
    return [warning["code"] for warning in found["warnings"]]


def near(forecast: int, size: int) -> bool:
    return abs(forecast - size) <= size / 10


def test_preview_counts_and_estimates_the_export(client: httpx2.Client) -> None:
    found = previewed(client, *MANUAL["rules"])
    assert list(found) == ["rows", "rows_are", "sample", "bytes", "seconds", "warnings"]
    task, content = exported(client, export_body(segment=MANUAL))
    rows = task["logs"][1]["total"]
    assert (found["rows"], found["rows_are"]) == (rows, "exact")
    assert 0 <= found["seconds"] < 3
    assert near(found["bytes"], len(content)) or near(previewed(client, *MANUAL["rules"])["bytes"], len(content))
    _, jsonl = exported(client, export_body("jsonl", segment=MANUAL))
    assert len(found["sample"]) == 10
    assert "\n".join(map(str, found["sample"])) in jsonl_as_text(jsonl)


def jsonl_as_text(content: bytes) -> str:
    import json

    return "\n".join(str(json.loads(line)) for line in content.splitlines())


def test_the_forecast_of_a_large_export_comes_near(client: httpx2.Client) -> None:
    _, content = exported(client, export_body())
    tries = [previewed(client) for _ in range(3)]
    assert {found["rows"] for found in tries} == {20_000}
    assert any(near(found["bytes"], len(content)) for found in tries), "not all of them were cut short"


def test_sample_of_a_preview_has_the_requested_fields(client: httpx2.Client) -> None:
    found = previewed(client, fields=["kind", {"name": "amount", "as": 'Worth "$1"'}])
    assert all(list(row) == ["kind", 'Worth "$1"'] for row in found["sample"])


def test_preview_refuses_deletes_without_incremental_as_a_task_does(client: httpx2.Client) -> None:
    answer = client.post("/segments/preview", json={"segment": segment_of(), "deletes": True})
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"] == [{"detail": "needs `incremental`", "pointer": "/deletes"}]
    previewed(client, incremental=True, deletes=True)


def test_preview_warns_of_a_segment_that_matches_nothing(client: httpx2.Client) -> None:
    found = previewed(client, rule(value="nothing"))
    assert (found["rows"], found["rows_are"], found["sample"]) == (0, "exact", [])
    assert codes(found) == ["nothing-matches", "no-index"]


def test_preview_warns_of_rules_without_a_database_index(client: httpx2.Client) -> None:
    assert codes(previewed(client, *MANUAL["rules"])) == ["no-index"]
    # The demo has an index on chain and time; and for most rows of a chain, reading all of them is right.
    in_time = rule("timestamp", "is_after_date", "date", start_date="2026-05-15")
    assert codes(previewed(client, in_time)) == []
    assert codes(previewed(client, in_time, *MANUAL["rules"])) == []
    assert codes(previewed(client, rule("kind", "is_not", value="manual"))) == []
    born = rule("birthday", "is_date", "date", value="1990-01-01")
    assert "no-index" in codes(previewed(client, born, index="users"))
    assert codes(previewed(client)) == []


def test_preview_warns_of_a_window_that_crosses_a_change_of_summer_time(client: httpx2.Client) -> None:
    # The clocks of Amsterdam change in the first and in the last quarter of a year, whatever the year.
    zone = "Europe/Amsterdam"
    today = datetime.now(ZoneInfo(zone))
    crossing = "this_quarter" if today.month in (1, 2, 3, 10, 11, 12) else "last_quarter"
    crosses = today.month not in (7, 8, 9)
    found = previewed(client, rule("timestamp", "is_in_window", "date", window=crossing, timezone=zone))
    assert ("summer-time" in codes(found)) is crosses
    same = previewed(client, rule("timestamp", "is_in_window", "date", window=crossing))
    assert "summer-time" not in codes(same)


def test_preview_counts_no_rows_of_another_chain(service: Longshore) -> None:
    with service.client(chain=9) as client:
        answer = client.post("/segments/preview", json={"segment": segment_of(chain=9)}).json()
        assert answer["rows"] == 2000
        by_user = segment_of(rule("id", "is_less_than", "number", value=20_000), chain=9)
        assert client.post("/segments/preview", json={"segment": by_user}).json()["rows"] == 0


SLOW_USERS = (
    """
    create function loyalty.slowly(n bigint) returns bigint language plpgsql cost 0.0001 as $$
    begin
        perform pg_catalog.pg_sleep(0.1);
        return n;
    end
    $$
    """,
    "alter table loyalty.users rename to quick_users",
    "create view loyalty.users as select * from loyalty.quick_users where loyalty.slowly(id) > 0",
)


def test_a_slow_source_gives_an_estimate_and_a_missing_one_a_503(
    new_service: Callable[..., Longshore],
) -> None:
    longshore = new_service(rows=1000)
    longshore.start_api()
    for statement in SLOW_USERS:
        longshore.sql(statement)
    with longshore.client() as client:
        found = previewed(client, index="users")
        assert found["rows_are"] == "estimate"
        assert found["rows"] > 0
        assert codes(found) == []
        assert len(found["sample"]) == 10
        assert found["bytes"] > 1000
        assert found["seconds"] > 1
        nothing = previewed(client, rule("first_name", "contains", "text", value="xx"), index="users")
        assert (nothing["rows_are"], nothing["bytes"], nothing["seconds"]) == ("estimate", None, None)
        assert "slow" in codes(nothing)
    longshore.stop()
    longshore.start_api(source_url="postgresql://nobody@127.0.0.1:1/none")
    with longshore.client() as client:
        answer = client.post("/segments/preview", json={"segment": segment_of()})
        assert problem(answer, 503, "unavailable")["detail"] == "The source cannot be reached."
        assert int(answer.headers["retry-after"]) > 0
        assert client.get("/tasks").status_code == 200


@contextlib.contextmanager
def server_with_broken_tls() -> Iterator[int]:
    """Listen on a port, accept TLS as PostgreSQL does, and send bytes that are no TLS."""

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(8)
                    connection.sendall(b"S")
                    connection.recv(1000)
                    connection.sendall(b"no TLS" * 100)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]


@pytest.mark.parametrize("failure", ["role", "tls", "certificate"])
def test_source_that_refuses_the_connection_is_unavailable_and_the_log_alone_has_the_reason(
    idle_service: Longshore, tmp_path: Path, failure: str
) -> None:
    with server_with_broken_tls() as port:
        urls = {
            "role": re.sub("//[^@/]*@?", "//dismissed@", idle_service.url),
            "tls": f"postgresql://dismissed@127.0.0.1:{port}/none?sslmode=require",
            "certificate": f"postgresql://x@127.0.0.1:{port}/none?sslmode=verify-ca&sslrootcert=/dismissed.pem",
        }
        longshore = Longshore(idle_service.data, idle_service.url, source_url=urls[failure])
        longshore.log_file = tmp_path / "service.log"
        try:
            longshore.start_api()
            with longshore.client() as client:
                answer = client.post("/segments/preview", json={"segment": segment_of()})
                body = export_body()
                body["target"] |= {"incremental": True, "deletes": True}
                assert client.post("/tasks", json=body).status_code == 201, "its runs say whether it can have deletes"
        finally:
            longshore.stop()
    found = problem(answer, 503, "unavailable")
    assert found["detail"] == "The source cannot be reached."
    assert "dismissed" not in answer.text
    reasons = [line["error"] for line in longshore.logged() if line["event"] == "the source is out of reach"]
    assert re.search("SSL" if failure == "tls" else "dismissed", reasons[0])


def test_preview_of_a_source_that_plans_too_slowly_says_when_to_try_again(service: Longshore) -> None:
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1765, "rules": []}
    with service.client(Level.READ, 1765) as small, locked(service.url, "loyalty.wallet_ledger"):
        answer = small.post("/segments/preview", json={"segment": segment})
    problem(answer, 503, "source-busy")
    assert int(answer.headers["retry-after"]) > 0


def test_the_previews_of_a_chain_leave_the_source_as_it_was(service: Longshore) -> None:
    held = service.sql(
        "select state from pg_stat_activity where application_name = 'longshore preview' and state <> 'idle'"
    )
    assert held == []


SMALL_AND_BROKEN = """
[small]
description = "-"
relation = "odd.small"
chain = "chain_id"
prefix = "Small"
[small.fields]
id = { type = "number", description = "-" }
number = { type = "number", sql = "note::integer", description = "-" }
[gone]
description = "-"
relation = "odd.gone"
chain = "chain_id"
prefix = "Gone"
[gone.fields]
id = { type = "number", description = "-" }
"""


def test_preview_refused_by_the_source_says_why_without_values_of_a_row(
    new_service: Callable[..., Longshore], tmp_path: Path
) -> None:
    (tmp_path / "catalog.toml").write_text(SMALL_AND_BROKEN)
    longshore = new_service(catalog=str(tmp_path / "catalog.toml"))
    for statement in (
        "create schema odd",
        "create table odd.small (id bigint, chain_id smallint, note text)",
        "insert into odd.small values (1, 7, '12'), (2, 8, 'a secret of chain 8')",
    ):
        longshore.sql(statement)
    longshore.start_api()
    with longshore.client(chain=40_000) as client:
        nothing = {"segment": segment_of(index="small", chain=40_000)}
        assert client.post("/segments/preview", json=nothing).json()["rows"] == 0
    with longshore.client(chain=8) as client:
        asked = {"segment": segment_of(rule("number", "is", "number", value=1), index="small", chain=8)}
        found = problem(client.post("/segments/preview", json=asked), 409, "source-refused")
        assert found["detail"] == "The source refused the query: invalid text representation (SQLSTATE 22P02)."
        missing = client.post("/segments/preview", json={"segment": segment_of(index="gone", chain=8)})
        assert 'relation "odd.gone" does not exist' in problem(missing, 409, "source-refused")["detail"]
        index = client.get("/indexes/small").json()
        assert index["time"] is None


def test_previews_of_a_chain_are_made_one_at_a_time_and_too_many_are_refused(service: Longshore) -> None:
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1765, "rules": []}
    with (
        service.client(Level.READ, 1765) as small,
        locked(service.url, "loyalty.wallet_ledger"),
        ThreadPoolExecutor(12) as pool,
    ):
        asked = [pool.submit(small.post, "/segments/preview", json={"segment": segment}) for _ in range(12)]
        answers = [each.result() for each in asked]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 6
    for answer in refused:
        assert answer.json()["type"] == "/problems/too-many-requests"
        assert int(answer.headers["retry-after"]) > 0
