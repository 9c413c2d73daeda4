"""The files of a run page by page, and the lists of runs: from rows that were written with the run, not a manifest."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from longshore.database.connect import open_pool
from longshore.results.local import LocalStore
from longshore.worker.cleanup import Cleanup
from tests.answers import problem
from tests.exports.test_files import done, files_body
from tests.service import Longshore, in_own_loop

SMALL = 1765


def body(format: str = "csv", **target: Any) -> dict[str, Any]:
    return files_body(format, **target) | {"chain": SMALL}


@pytest.fixture
def parts(small_client: httpx2.Client) -> dict[str, Any]:
    """Return a task whose result has 20 files."""
    return done(small_client, body(split={"rows": 100}))


def test_pages_of_files_lists_of_runs_and_downloads_read_no_manifest(
    service: Longshore, small_client: httpx2.Client, parts: dict[str, Any]
) -> None:
    path = f"/tasks/{parts['id']}/runs"
    manifest = small_client.get(f"{path}/1/manifest").json()
    assert len(manifest["files"]) == 20
    before = small_client.get(path).json()
    service.sql("update longshore.runs set manifest = 'unread' where task_id = $1", parts["id"])
    assert small_client.get(path).json() == before
    assert small_client.get(f"{path}/1").json() == before[0]
    assert before[0]["fields"] == manifest["indexes"][0]["fields"]
    found: list[dict[str, Any]] = []
    for offset in range(0, 25, 6):
        page = small_client.get(f"{path}/1/files", params={"limit": 6, "offset": offset})
        assert ('rel="next"' in page.headers.get("Link", "")) == (offset + 6 < 20)
        found += page.json()
    for file in found:
        assert httpx2.get(file.pop("url")).headers["x-row-count"] == str(file["rows"])
    assert found == manifest["files"]
    assert small_client.get(f"{path}/1/files", params={"offset": 20}).json() == []


def test_file_of_a_run_is_not_found_under_another_attempt_or_beyond_its_folder(
    service: Longshore, small_client: httpx2.Client, parts: dict[str, Any]
) -> None:
    url = small_client.get(f"/tasks/{parts['id']}/runs/1/files").json()[0]["url"]
    assert httpx2.get(url).status_code == 200
    service.sql("update longshore.runs set location = replace(location, '/1/', '/10/') where task_id = $1", parts["id"])
    problem(httpx2.get(url), "result-gone")


@pytest.mark.parametrize(
    ("target", "files"), [({}, None), ({"index": ["users", "products"]}, 2), ({"partition_by": [{"field": "kind"}]}, 5)]
)
def test_run_shows_of_its_manifest_what_it_is_about(
    service: Longshore, small_client: httpx2.Client, target: dict[str, Any], files: int | None
) -> None:
    task = done(small_client, body(**target))["id"]
    manifest = small_client.get(f"/tasks/{task}/runs/1/manifest").json()
    (run,) = small_client.get(f"/tasks/{task}/runs").json()
    indexes = manifest.get("indexes", [manifest])
    one = indexes[0] if len(indexes) == 1 else {"fields": None, "segment": None}
    assert (run["fields"], run["segment"], run["full"]) == (one["fields"], one["segment"], None)
    listed = small_client.get(f"/tasks/{task}/runs/1/files").json()
    assert len(listed) == (files or 1)
    assert {file["index"] for file in listed} == {index["index"] for index in indexes}
    rows = service.sql("select count(*) from longshore.run_files where task_id = $1", task)
    assert rows[0][0] == (files or 0)


def test_records_of_files_are_deleted_when_the_result_expires_and_with_the_task(
    service: Longshore, small_client: httpx2.Client, parts: dict[str, Any]
) -> None:
    count = "select count(*) from longshore.run_files where task_id = $1"
    other = done(small_client, body(split={"rows": 1000}))["id"]
    service.sql("update longshore.runs set expires_at = now() - interval '1 hour' where task_id = $1", parts["id"])

    async def cleaned() -> None:
        async with open_pool(service.url, size=2, name="a test") as pool:
            store = LocalStore(service.data / "results")
            await Cleanup(pool, store, timedelta(days=365)).run(None)  # type: ignore[arg-type]

    in_own_loop(cleaned())
    assert service.sql(count, parts["id"])[0][0] == 0
    for offset in (0, 6):
        problem(small_client.get(f"/tasks/{parts['id']}/runs/1/files", params={"offset": offset}), "result-gone")
    assert small_client.get(f"/tasks/{parts['id']}/runs").json()[0]["fields"]
    assert small_client.get(f"/tasks/{parts['id']}/runs/1/manifest.jws").status_code == 200
    assert service.sql(count, other)[0][0] == 2
    assert small_client.delete(f"/tasks/{other}").status_code == 204
    assert service.sql(count, other)[0][0] == 0
