"""Versions of thousands of files: read page by page, and never a part that passes for the whole."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest

from longshore.access.token_auth import TokenAuth
from longshore.access.tokens import Level
from longshore.api.download_urls import UrlSigner
from longshore.database.connect import open_pool
from longshore.sharing import listing
from longshore.sharing.protocol import Capabilities, VersionAnswer
from longshore.sharing.query import TableQuery
from longshore.tasks import shared_tables
from longshore.tasks.model import ChainId
from tests.service import CHAIN, Longshore, in_own_loop
from tests.sharing.conftest import Reader, new_name, shared, table_body
from tests.sharing.test_tables import again

MORE = """
insert into longshore.run_files (task_id, run, number, path, index, partition, rows, bytes, sha256, table_stats)
select task_id, run, n, path || n, index, partition, 1, bytes, sha256, table_stats
from longshore.run_files, generate_series(2, $2) n
where task_id = $1 and number = 1
"""


def test_version_of_many_files_is_listed_whole_and_up_to_a_limit(
    service: Longshore, client: httpx2.Client, reader: Reader
) -> None:
    id, name = shared(client, table_body(new_name(), fields=["id"], split={"rows": 10**9}))
    service.sql(MORE, id, 2500)
    summary = "update longshore.runs set summary = (summary::jsonb || '{\"files\": 2500}')::json where task_id = $1"
    service.sql(summary, id)
    (rows,) = service.sql("select rows from longshore.run_files where task_id = $1 and number = 1", id)[0]
    answer = reader.query(name, {"delta-sharing-capabilities": "includeendstreamaction=true"})
    assert len(answer.files) == len({file["id"] for file in answer.files}) == 2500
    assert "endStreamAction" in answer.lines[-1]
    assert len({file["url"].partition("link=")[2].partition("&")[0] for file in answer.files}) == 1
    assert len(reader.query(name, limitHint=rows + 1500).files) == 1501
    delta = reader.query(name, {"delta-sharing-capabilities": "responseformat=delta"}, version=1)
    assert len(delta.files) == 2500


@pytest.mark.parametrize(("files", "lines_before"), [(1, 2), (1200, 2), (1200, 1002), (2500, 1002)])
def test_list_of_a_version_that_is_removed_midway_does_not_pass_for_the_whole(
    service: Longshore, client: httpx2.Client, files: int, lines_before: int
) -> None:
    id, name = shared(client, table_body(new_name(), fields=["id"], split={"rows": 10**9}))
    service.sql(MORE, id, files)

    async def listed() -> list[Any]:
        async with open_pool(service.url, size=1, name="a test") as pool:
            version = await shared_tables.version(pool, ChainId(CHAIN), name)
            assert version is not None
            version = msgspec.structs.replace(version, files=files)
            answer = VersionAnswer(version, Capabilities("parquet", end_action=True), names_version=False)
            signer = UrlSigner(0, list, presigned=True)
            found = []
            lines = listing.with_error_line(listing.all_lines(pool, answer, TableQuery(), signer))
            async for part in lines:
                found += [json.loads(line) for line in part.splitlines()]
                if len(found) == lines_before:
                    await pool.execute("delete from longshore.run_files where task_id = $1", id)
            return found

    found = in_own_loop(listed())
    assert "was removed" in found[-1]["endStreamAction"]["errorMessage"]
    assert len(found) == lines_before + 1


def test_refresh_token_gives_new_addresses_of_the_same_files_after_a_newer_version(
    client: httpx2.Client, reader: Reader
) -> None:
    """A query of Spark asks so when its addresses are about to expire, and fails where a file of it is missing."""
    id, name = shared(client, table_body(new_name(), fields=["id"], split={"rows": 10**9}))
    before = reader.query(name, includeRefreshToken=True, limitHint=5)
    end = before.lines[-1]["endStreamAction"]
    assert end["minUrlExpirationTimestamp"] == before.files[0]["expirationTimestamp"]
    assert "refreshToken" not in reader.query(name).lines[-1].get("endStreamAction", {})
    again(client, id)
    newest = reader.query(name)
    after = reader.query(name, refreshToken=end["refreshToken"], includeRefreshToken=True, limitHint=5)
    assert (newest.headers["delta-table-version"], after.headers["delta-table-version"]) == ("2", "1")
    assert [file["id"] for file in after.files] == [file["id"] for file in before.files]
    assert [file["id"] for file in newest.files] != [file["id"] for file in before.files]
    assert after.files[0]["url"] != before.files[0]["url"]
    assert "version" not in after.files[0]  # as in the first answer
    assert httpx2.get(after.files[0]["url"]).status_code == 200
    assert after.lines[-1]["endStreamAction"]["refreshToken"] == end["refreshToken"]


def test_list_that_breaks_off_ends_with_a_line_that_makes_the_client_fail() -> None:
    async def lines() -> AsyncIterator[bytes]:
        yield b'{"protocol":{}}\n'
        raise OSError("the database is away")

    async def whole() -> list[Any]:
        return [json.loads(part) async for part in listing.with_error_line(lines())]

    found = asyncio.run(whole())
    assert found[0] == {"protocol": {}}
    assert found[1]["endStreamAction"]["errorMessage"]


def test_list_breaks_off_once_its_token_is_revoked(idle_service: Longshore) -> None:
    token = idle_service.token(Level.READ)
    bearer = f"Bearer {token}"
    deadline = time.monotonic() + 5  # the check of a token is cached for one second

    async def lines() -> AsyncIterator[bytes]:
        while time.monotonic() < deadline:
            yield b'{"file":{}}\n'
            await asyncio.sleep(0.02)

    async def whole() -> list[Any]:
        found = []
        async with open_pool(idle_service.url, size=2, name="a test") as pool:
            auth = TokenAuth(pool)
            caller = (await auth.callers(bearer))[""]
            async for part in listing.with_error_line(listing.while_valid(auth, bearer, caller, lines())):
                found.append(json.loads(part))
                if len(found) == 1:
                    id = token.partition(":")[0]
                    revoke = "update longshore.access_tokens set revoked_at = now() where id = $1::text::uuid"
                    await pool.execute(revoke, id)
        return found

    found = in_own_loop(whole())
    assert "file" in found[0]
    assert "not revoked" in found[-1]["endStreamAction"]["errorMessage"]
