"""Retention: the newest version of a table is kept while it is shared, longer than other results."""

from datetime import timedelta
from typing import Any

import httpx2

from longshore.database.connect import open_pool
from longshore.results.local import LocalStore
from longshore.worker.cleanup import Cleanup
from tests.service import Longshore, ended, in_own_loop
from tests.sharing.conftest import Reader, new_name, shared, table_body

EXPIRED = "update longshore.runs set expires_at = now() - interval '30 days' where task_id = $1"
LONG_AGO = (
    "update longshore.runs set ended_at = now() - interval '1 day' where task_id = $1",
    "update longshore.tasks set modified_at = now() - interval '400 days' where id = $1",
)
MERGE = {"content-type": "application/merge-patch+json"}


def cleaned(service: Longshore) -> None:
    """Run the cleanup once."""

    async def run() -> None:
        async with open_pool(service.url, size=2, name="a test") as pool:
            await Cleanup(pool, LocalStore(service.data / "results"), timedelta(days=365)).run(None)  # type: ignore[arg-type]

    in_own_loop(run())


def versions(reader: Reader, name: str) -> dict[int, int]:
    """Return the statuses of the first two versions of a table."""
    return {number: reader.get(name, "metadata", params={"version": number}).status_code for number in (1, 2)}


def two_versions(client: httpx2.Client, **target: Any) -> tuple[int, str]:
    """Return a table of two versions."""
    id, name = shared(client, table_body(new_name(), fields=["id"], **target))
    client.post(f"/tasks/{id}/execute")
    assert ended(client, id)["state"]["code"] == "DONE"
    return id, name


def test_newest_version_outlives_its_time_while_the_table_is_shared(
    service: Longshore, client: httpx2.Client, reader: Reader
) -> None:
    id, name = two_versions(client)
    service.sql(EXPIRED, id)
    service.sql(LONG_AGO[0], id)
    cleaned(service)
    assert versions(reader, name) == {1: 404, 2: 200}
    (file,) = reader.query(name).files
    assert httpx2.get(file["url"]).status_code == 200
    assert client.patch(f"/tasks/{id}", json={"target": {"share_as": None}}, headers=MERGE).is_success
    cleaned(service)
    assert httpx2.get(file["url"]).status_code in (403, 410)
    assert client.patch(f"/tasks/{id}", json={"target": {"share_as": name}}, headers=MERGE).is_success
    assert reader.get(name, "metadata").status_code == 404
    assert name not in reader.names()


def test_version_that_was_replaced_a_moment_ago_is_kept_for_the_readers_that_have_its_addresses(
    service: Longshore, client: httpx2.Client, reader: Reader
) -> None:
    id, name = two_versions(client)
    service.sql(EXPIRED, id)
    service.sql("update longshore.runs set ended_at = now() - interval '2 hours' where task_id = $1 and run = 1", id)
    cleaned(service)
    assert versions(reader, name) == {1: 200, 2: 200}
    service.sql("update longshore.runs set ended_at = now() - interval '61 minutes' where task_id = $1 and run = 2", id)
    cleaned(service)
    assert versions(reader, name) == {1: 404, 2: 200}


def test_version_with_result_days_ends_with_them(service: Longshore, client: httpx2.Client, reader: Reader) -> None:
    id, name = two_versions(client, result_days=1)
    (file,) = reader.query(name).files
    service.sql(EXPIRED, id)
    cleaned(service)
    assert versions(reader, name) == {1: 404, 2: 404}
    assert name not in reader.names()
    assert httpx2.get(file["url"]).status_code == 410


def test_task_of_a_table_is_kept_however_old_it_is(service: Longshore, client: httpx2.Client, reader: Reader) -> None:
    id, name = two_versions(client)
    other, _ = two_versions(client, result_days=1)
    without, _ = two_versions(client)
    service.sql("update longshore.runs set table_schema = null where task_id = $1", without)
    for statement in LONG_AGO:
        for task in (id, other, without):
            service.sql(statement, task)
    cleaned(service)
    assert reader.query(name).files
    assert client.get(f"/tasks/{other}").status_code == 404
    assert client.get(f"/tasks/{without}").status_code == 404, "no version of it is there"
