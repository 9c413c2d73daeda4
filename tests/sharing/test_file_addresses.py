"""Addresses of a table's files: they end in the middle of a read, with the token, and are in the audit log."""

import io
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pyarrow.parquet as pq

from longshore.access.tokens import Level
from tests.service import CHAIN
from tests.sharing.worlds import Tables

QUERY = f"/delta-sharing/shares/{CHAIN}/schemas/exports/tables/pairs/query"


def queried(client: httpx2.Client) -> list[dict[str, Any]]:
    answer = client.post(QUERY, json={})
    assert answer.status_code == 200, answer.text
    return [line["file"] for line in map(json.loads, answer.text.splitlines()) if "file" in line]


def test_address_that_expires_in_the_middle_of_a_read_is_refused_and_a_new_query_goes_on(on_disk: Tables) -> None:
    with on_disk.service.client(Level.READ) as reader:
        file = queried(reader)[0]
        begun = httpx2.get(file["url"], headers={"Range": "bytes=0-99"})
        assert (begun.status_code, len(begun.content)) == (206, 100)
        link = parse_qs(urlsplit(file["url"]).query)["link"][0]
        on_disk.service.sql("update longshore.links set expires_at = now() where id = $1::text::uuid", link)
        assert httpx2.get(file["url"], headers={"Range": "bytes=100-199"}).status_code == 403
        again = next(each for each in queried(reader) if each["id"] == file["id"])
        rest = httpx2.get(again["url"], headers={"Range": "bytes=100-"})
        assert len(begun.content + rest.content) == file["size"]
        assert pq.read_table(io.BytesIO(begun.content + rest.content)).num_rows > 0


def test_address_ends_with_the_token_that_asked_for_it(on_disk: Tables) -> None:
    with on_disk.service.client(Level.READ) as reader, on_disk.service.client(Level.ADMIN) as admin:
        file = queried(reader)[0]
        id = reader.headers["Authorization"].removeprefix("Bearer ").partition(":")[0]
        assert httpx2.get(file["url"]).status_code == 200
        assert admin.delete(f"/access_tokens/{id}").status_code == 200
        assert httpx2.get(file["url"]).status_code == 403


def test_query_and_download_are_in_the_audit_log(on_disk: Tables) -> None:
    task = on_disk.tasks["pairs"]
    with on_disk.service.client(Level.READ) as reader, on_disk.service.client(Level.ADMIN) as admin:
        file = queried(reader)[0]
        assert httpx2.get(file["url"]).status_code == 200
        actor = f"token {reader.headers['Authorization'].removeprefix('Bearer ').partition(':')[0]}"
        asked = admin.get("/audit", params={"action": "result.address", "actor": actor}).json()
        assert str(task) in asked[0]["object"]
        fetched = admin.get("/audit", params={"action": "result.download", "limit": 5}).json()
        assert fetched[0]["object"] == f"task {task}"


def test_statistics_of_files_are_those_of_their_rows(world: Tables) -> None:
    with world.service.client(Level.READ) as reader:
        files = queried(reader)
        assert files
        for file in files:
            rows = pq.read_table(io.BytesIO(httpx2.get(file["url"]).content)).to_pylist()
            stats = json.loads(file["stats"])
            assert stats["numRecords"] == len(rows)
            assert stats["nullCount"]["at"] == sum(row["at"] is None for row in rows)
            assert stats["minValues"]["id"] == min(row["id"] for row in rows)
            assert stats["maxValues"]["id"] == max(row["id"] for row in rows)
