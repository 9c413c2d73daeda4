"""With `on_ack` an increment is delivered again, byte for byte, until the client acknowledges it."""

import asyncio
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import httpx2
import pytest

from longshore.access.tokens import Level
from longshore.database.connect import Pool, open_pool
from longshore.exports import catalog
from longshore.exports.exporter import Exporter
from longshore.exports.manifest import SUFFIX
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections, SourceDatabases
from longshore.exports.verify import verify
from longshore.results.local import LocalStore
from longshore.tasks import attempts, requests, run_ends, watermarks
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queue import Message
from tests.exports.incremental import CATALOG, TABLES, Series, Session
from tests.service import CHAIN, Longshore

Sessions = Callable[[], Session]


def test_an_increment_is_delivered_again_until_it_is_acknowledged(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client, "on_ack")
    writer.insert(1, 2, 3)
    assert series.ids() == [1, 2, 3]
    first = series.content()
    writer("update shop.entries set version = 7 where id = 1")
    writer("delete from shop.entries where id = 2")
    writer.insert(4)
    for _ in range(2):
        assert series.ids() == [1, 2, 3]
        assert series.content() == first
    runs = series.runs()
    assert len({run["sha256"] for run in runs}) == 1
    assert len({run["snapshot"] for run in runs}) == 1
    assert {(run["increment"]["from"], run["increment"]["to"]) for run in runs} == {(None, runs[0]["increment"]["to"])}
    assert [run["increment"]["acknowledged"] for run in runs] == [False, False, False]
    assert series.messages().count("the increment of run 1 again, as it is not acknowledged") == 2

    answer = series.acknowledge(3)
    assert answer.status_code == 200
    assert answer.json() == series.runs()[-1]
    assert answer.json()["increment"]["acknowledged"] is True
    assert [(row["id"], row["version"]) for row in series.run()] == [("1", "7"), ("4", "0")]
    assert series.runs()[-1]["increment"]["from"] == runs[0]["increment"]["to"]


def test_acknowledging_a_run_twice_changes_nothing_more(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client, "on_ack")
    writer.insert(1)
    series.run()
    first = series.acknowledge(1)
    assert series.acknowledge(1).json() == first.json()
    writer.insert(2)
    assert series.ids() == [2]
    assert series.acknowledge(1).status_code == 200  # still; and it moves nothing
    assert series.ids() == [2]
    assert series.messages().count("run 1 is acknowledged") == 1


def test_an_increment_that_is_delivered_again_counts_its_odd_values_again(
    client: httpx2.Client, session: Sessions
) -> None:
    writer, series = session(), Series(client, "on_ack", "baskets")
    writer.insert(1, 2)
    series.run()
    series.run()
    logs = client.get(f"/tasks/{series.id}", params={"log_limit": 1000}).json()["logs"]
    assert [entry["skips"] for entry in logs if "skips" in entry] == [2, 2]


def test_any_run_that_delivered_the_increment_can_be_acknowledged(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client, "on_ack")
    writer.insert(1)
    series.run()
    series.run()
    assert series.acknowledge(1).status_code == 200
    assert [run["increment"]["acknowledged"] for run in series.runs()] == [True, True]
    assert series.ids() == []


def test_an_empty_increment_is_acknowledged_like_any_other(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client, "on_ack")
    assert series.ids() == []
    assert series.acknowledge(1).status_code == 200
    assert series.ids() == []
    writer.insert(1)
    assert series.ids() == []  # run 2 again
    assert series.acknowledge(3).status_code == 200
    assert series.ids() == [1]


def test_a_failed_run_cannot_be_acknowledged_and_keeps_the_pending_increment(
    client: httpx2.Client, session: Sessions
) -> None:
    writer, series = session(), Series(client, "on_ack")
    writer("insert into shop.entries (id, divisor) values (1, 0)")
    assert series.execute() == "ERROR"
    answer = series.acknowledge(1)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/nothing-to-acknowledge")
    writer("update shop.entries set divisor = 1")
    assert series.ids() == [1]


def test_run_without_a_pending_increment_cannot_be_acknowledged(client: httpx2.Client, session: Sessions) -> None:
    session().insert(1)
    series = Series(client)
    series.run()
    assert series.acknowledge(1).status_code == 409
    answer = series.acknowledge(2)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/run-not-found")
    assert series.acknowledge(0).status_code == 400
    assert client.post("/tasks/987654321/runs/1/ack").json()["type"] == "/problems/task-not-found"


def test_acknowledging_needs_the_level_write_in_the_chain_of_the_task(shop: Longshore, client: httpx2.Client) -> None:
    series = Series(client, "on_ack")
    series.run()
    with shop.client(Level.READ) as reader, shop.client(chain=CHAIN + 1) as stranger:
        assert reader.post(f"/tasks/{series.id}/runs/1/ack").status_code == 403
        assert stranger.post(f"/tasks/{series.id}/runs/1/ack").status_code == 404
    assert series.runs()[0]["increment"]["acknowledged"] is False


FILES = {"partition_by": [{"field": "kind"}], "split": {"rows": 2}}


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, {"export_format": "parquet"}), ({}, FILES), (FILES, {}), (FILES, {"export_format": "parquet"})],
    ids=["another format", "one file to many", "many files to one", "many files to one of another format"],
)
def test_a_pending_increment_keeps_its_name_and_its_files_when_the_target_is_changed(
    client: httpx2.Client, session: Sessions, before: dict[str, Any], after: dict[str, Any]
) -> None:
    writer, series = session(), Series(client, "on_ack", target=before)
    writer.insert(1, 2, 3)
    assert series.execute() == "DONE"
    first = _given(series, 1)
    target = {"action": "export", "export_index": "entries", "export_format": "csv", "incremental": "on_ack", **after}
    changed = client.patch(f"/tasks/{series.id}", json={"target": target})
    assert changed.status_code == 200, changed.text
    writer.insert(4)
    for run in (2, 3):  # 3: what is given again can be given again
        assert series.execute() == "DONE", series.messages()
        assert _given(series, run) == first
    assert series.acknowledge(3).status_code == 200
    assert series.execute() == "DONE", series.messages()
    last = client.get(f"/tasks/{series.id}/runs/4/manifest").json()
    assert (last["rows"], last["format"], "files" in last) == (1, target["export_format"], after is FILES)


def _given(series: Series, run: int) -> tuple[str, dict[str, Any], list[bytes]]:
    """Return name, manifest (without what is of the run itself) and files of a run, as a client gets them."""
    at = f"/tasks/{series.id}/runs/{run}"
    files = series.client.get(f"{at}/files").json()
    manifest = series.client.get(f"{at}/manifest").json()
    for key in ("run", "due", "interval", "previous"):
        del manifest[key]
    result = series.runs()[run - 1]["result"]
    return result, manifest, [httpx2.get(file["url"]).raise_for_status().content for file in files]


def test_an_increment_that_waits_when_on_ack_is_taken_out_of_the_target_is_given_once_more(
    client: httpx2.Client, session: Sessions
) -> None:
    writer, series = session(), Series(client, "on_ack")
    writer.insert(1, 2)
    series.run()
    series.run()
    first = series.content()
    target = {"action": "export", "export_index": "entries", "export_format": "csv", "incremental": True}
    assert client.patch(f"/tasks/{series.id}", json={"target": target}).status_code == 200
    writer.insert(3)
    assert series.ids() == [1, 2]
    assert series.content() == first
    assert [run["increment"]["acknowledged"] for run in series.runs()] == [True, True, None]
    assert series.acknowledge(1).status_code == 200  # still; and it moves nothing
    assert series.ids() == [3]
    assert series.ids() == []


@pytest.mark.parametrize("broken", [False, True])
def test_an_increment_whose_file_is_gone_is_read_again_between_the_same_watermarks(
    shop: Longshore, client: httpx2.Client, session: Sessions, broken: bool
) -> None:
    writer, series = session(), Series(client, "on_ack")
    writer.insert(1, 2)
    series.run()
    for path in (shop.data / "results" / str(CHAIN) / str(series.id)).rglob("*.csv"):
        if broken:
            path.write_bytes(path.read_bytes().replace(b"sale", b"gift"))
        else:
            path.unlink()
    writer("update shop.entries set version = 7 where id = 1")
    writer.insert(3)
    assert series.ids() == [2]
    assert series.messages()[-2].startswith("the increment of run 1 read again, as its file is gone")
    first, again = series.runs()
    assert first["increment"] == again["increment"]
    assert series.acknowledge(1).status_code == 200
    assert series.ids() == [1, 3]


def test_an_increment_is_given_again_from_the_copy_of_an_older_run_where_the_newest_is_gone(
    shop: Longshore, client: httpx2.Client, session: Sessions
) -> None:
    writer, series = session(), Series(client, "on_ack")
    writer.insert(1, 2)
    series.run()
    first = series.content()
    series.run()
    (shop.data / "results" / str(CHAIN) / str(series.id) / "2" / f"Entry_Export-{series.id}.csv").unlink()
    writer.insert(3)
    assert series.ids() == [1, 2]
    assert series.content() == first
    assert series.messages().count("the increment of run 1 again, as it is not acknowledged") == 2


@pytest.mark.parametrize("gone", [False, True])
def test_an_increment_that_is_read_again_uses_the_stored_segment_of_its_first_run(
    shop: Longshore, client: httpx2.Client, session: Sessions, gone: bool
) -> None:
    def stored(kind: str) -> dict[str, Any]:
        rule = {"field_name": "kind", "field_type": "keyword", "operator": "is", "value": kind}
        segment = {"entity": "people", "index": "entries", "join": "all", "chain_id": CHAIN, "rules": [rule]}
        return {"chain": CHAIN, "name": "By kind", "segment": segment}

    id = client.post("/segments", json=stored("sale")).json()["id"]
    writer, series = session(), Series(client, "on_ack", segment_id=id)
    writer.insert(1, 2)
    writer.insert(3, kind="gift")
    assert series.ids() == [1, 2]
    if gone:
        assert client.delete(f"/segments/{id}").status_code == 204
    else:
        assert client.put(f"/segments/{id}", json=stored("gift")).status_code == 200
    assert series.ids() == [1, 2]  # the file
    for path in (shop.data / "results" / str(CHAIN) / str(series.id)).rglob("*.csv"):
        path.unlink()
    assert series.ids() == [1, 2]  # the rows
    assert {run["segment"]["rules"][0]["value"] for run in series.runs()} == {"sale"}
    assert series.acknowledge(3).status_code == 200
    writer.insert(4)
    writer.insert(5, kind="gift")
    if gone:
        assert series.execute() == "ERROR"
    else:
        assert series.ids() == [5]


def test_manifests_of_a_series_with_redeliveries_follow_each_other(
    client: httpx2.Client, session: Sessions, tmp_path: Path
) -> None:
    writer, series, paths = session(), Series(client, "on_ack"), []
    for run in (1, 2, 3):
        writer.insert(run)
        series.run()
        paths.append(tmp_path / str(run) / f"Entry_Export-{series.id}.csv")
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(series.content())
        manifest = client.get(f"/tasks/{series.id}/runs/{run}/manifest").content
        paths[-1].with_name(paths[-1].name + SUFFIX).write_bytes(manifest)
        if run == 2:
            series.acknowledge(2)
    assert [(found.run, found.rows) for found in verify(paths)] == [(1, 1), (2, 1), (3, 2)]


def test_an_acknowledgement_during_a_redelivery_counts_for_it_too(
    new_service: Callable[..., Longshore], tmp_path: Path
) -> None:
    """No worker takes part, so that the test decides when each step happens."""
    service = new_service()
    (tmp_path / "catalog.toml").write_text(CATALOG)
    chain = ChainId(CHAIN)

    async def steps() -> None:
        async with open_pool(service.url, size=5, name="test", **EXPORT_SESSION) as pool:
            await pool.execute(TABLES)
            await pool.execute("insert into shop.entries (id) values (1)")
            store = LocalStore(tmp_path / "results")
            exporter = Exporter(
                pool, SourceDatabases(SourceConnections(pool, 0)), catalog.load(str(tmp_path / "catalog.toml")), store
            )
            task = TaskId(await pool.fetchval(INSERT_TASK))

            first = await begin(pool, task)
            await run_ends.finish(pool, first.message, await exporter.run(first), timedelta(days=7))
            second = await begin(pool, task)
            outcome = await exporter.run(second)
            await watermarks.acknowledge(pool, chain, task, 1)
            await pool.execute("insert into shop.entries (id) values (2)")
            await run_ends.finish(pool, second.message, outcome, timedelta(days=7))
            acknowledged = await pool.fetch("select acknowledged from longshore.runs order by run")
            assert [row["acknowledged"] for row in acknowledged] == [True, True]
            third = await begin(pool, task)
            assert (await exporter.run(third)).success == 1

    asyncio.run(steps())


INSERT_TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug)
values (1764, '', 'export', '{}',
        '{"action": "export", "export_index": "entries", "export_format": "csv", "incremental": "on_ack"}', '')
returning id
"""


async def begin(pool: Pool, task: TaskId) -> attempts.Attempt:
    """Begin the next attempt of a task as a worker does."""
    async with pool.acquire() as connection, connection.transaction():
        await requests.execute(connection, ChainId(CHAIN), task)
    attempt = await pool.fetchval("select attempt from longshore.tasks where id = $1", task)
    begun = await attempts.begin(pool, Message(task, attempt))
    assert begun is not None
    return begun


class SlowStore(LocalStore):
    """A folder that is as slow as a store on the other side of the world."""

    chunks = 0

    def open(self, location: str) -> IO[bytes]:
        store = self

        class SlowFile(io.FileIO):
            def read(self, _size: int | None = -1) -> bytes:
                store.chunks += 1
                time.sleep(0.02)
                return super().read(1)

        slow: Any = SlowFile(self.path(location))
        return slow  # type: ignore[no-any-return]


@pytest.mark.parametrize("files", [{}, FILES], ids=["one file", "many files"])
def test_a_cancelled_redelivery_copies_nothing_more_and_holds_no_thread_that_others_need(
    new_service: Callable[..., Longshore], tmp_path: Path, files: dict[str, Any]
) -> None:
    service = new_service()
    (tmp_path / "catalog.toml").write_text(CATALOG)
    store = SlowStore(tmp_path / "results")

    async def steps() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        async with open_pool(service.url, size=5, name="test", **EXPORT_SESSION) as pool:
            await pool.execute(TABLES)
            await pool.execute("insert into shop.entries (id) select generate_series(1, 60)")
            exporter = Exporter(
                pool, SourceDatabases(SourceConnections(pool, 0)), catalog.load(str(tmp_path / "catalog.toml")), store
            )
            task = TaskId(await pool.fetchval(INSERT_TASK))
            await pool.execute(
                "update longshore.tasks set target = target::jsonb || $1::text::jsonb", json.dumps(files)
            )
            first = await begin(pool, task)
            await run_ends.finish(pool, first.message, await exporter.run(first), timedelta(days=7))
            second = await begin(pool, task)
            running = asyncio.create_task(exporter.run(second))
            while store.chunks < 3 and not running.done():  # noqa: ASYNC110  # a thread counts them
                await asyncio.sleep(0.01)
            await asyncio.wait_for(asyncio.to_thread(int), 2)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            copied = store.chunks
            await asyncio.sleep(0.3)
            assert store.chunks == copied
            assert not list(store.path(f"{CHAIN}/{task}/{second.message.attempt}").rglob("*.csv*"))
            assert list(store.path(f"{CHAIN}/{task}/{first.message.attempt}").rglob("*.csv*"))

    asyncio.run(steps())
