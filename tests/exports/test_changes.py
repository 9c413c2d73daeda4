"""With `deletes`, a result is a list of changes that keeps a copy right: the rules of the API, seen over HTTP."""

import csv
import io
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from longshore.access.tokens import Level, Scope
from longshore.database.connect import open_pool
from longshore.exports.manifest import SUFFIX, Manifest
from longshore.exports.verify import verify
from longshore.results.local import LocalStore
from longshore.worker.cleanup import Cleanup
from tests.exports.changing_table import CATALOG, SEGMENT, TABLES, ChangingDatabase, ChangingTask
from tests.exports.incremental import Series, Session
from tests.service import CHAIN, Longshore, database_in, in_own_loop

OTHERS = """
create table shop.unique_not (id bigint, chain_id bigint default 1764);
create view shop.things_view as select id, chain_id from shop.things;
grant select on shop.unique_not, shop.things_view to longshore_export;
"""

TYPED = """
drop table if exists shop.typed;
drop type if exists shop.size, shop.mood;
create type shop.mood as enum ('good', 'bad');
create type shop.size as (width int, moods shop.mood[]);
create table shop.typed (
    id bigint default 1,
    chain_id bigint default 1764,
    price int default 2,
    qty int default 3,
    mood shop.mood default 'good',
    size shop.size default row(1, array['bad']::shop.mood[])
);
grant select on shop.typed to longshore_export;
insert into shop.typed default values;
"""

OTHER_INDEXES = """
[unique-not]
description = "Rows whose key is not unique."
relation = "shop.unique_not"
chain = "chain_id"
key = "id"
prefix = "Thing"
[unique-not.fields]
id = { type = "number", description = "Number." }

[by-id-too]
description = "The rows of by-id."
relation = "shop.things"
chain = "chain_id"
key = "id"
prefix = "Thing"
[by-id-too.fields]
id = { type = "number", description = "Number." }

[view]
description = "A view."
relation = "shop.things_view"
chain = "chain_id"
key = "id"
prefix = "Thing"
[view.fields]
id = { type = "number", description = "Number." }

[typed]
description = "Rows with types of their own, and expressions."
relation = "shop.typed"
chain = "chain_id"
key = "id"
prefix = "Thing"
[typed.fields]
id = { type = "number", description = "Number." }
price = { type = "number", description = "Price." }
mood = { type = "keyword", description = "An enum." }
size = { type = "keyword", description = "A composite with an enum inside." }
total = { type = "number", sql = "price * qty", description = "Of two columns." }
everything = { type = "keyword", sql = "row_to_json(typed)::text", description = "Of all columns." }

[keyless]
description = "Things without a key."
relation = "shop.things"
chain = "chain_id"
prefix = "Thing"
[keyless.fields]
id = { type = "number", description = "Number." }
_change = { type = "keyword", column = "kind", description = "Kind." }

[outside]
description = "Things with a field that looks at another table."
relation = "shop.things"
chain = "chain_id"
key = "id"
prefix = "Thing"
[outside.fields]
id = { type = "number", description = "Number." }
kind = { type = "keyword", description = "Kind." }
hidden = { type = "number", sql = "(select count(*) from shop.hidden)", description = "Of another table." }
today = { type = "keyword", sql = "current_date::text", description = "Of the clock." }
"""


@pytest.fixture(scope="module")
def changes_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """Yield a service with the table of `tests.exports.changing_table`."""
    data = tmp_path_factory.mktemp("shelves")
    (data / "catalog.toml").write_text(CATALOG + OTHER_INDEXES)

    async def make(url: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(TABLES + OTHERS + TYPED)
        await connection.close()

    with database_in(data) as url:
        in_own_loop(make(url))
        longshore = Longshore(data, url, catalog=str(data / "catalog.toml"))
        try:
            longshore.start("worker")
            longshore.start_api()
            yield longshore
        finally:
            longshore.stop()


def make_typed(changes_service: Longshore) -> None:
    for statement in TYPED.strip().removesuffix(";").split(";"):
        changes_service.sql(statement)


@pytest.fixture
def things(changes_service: Longshore) -> Iterator[Session]:
    """Yield a session that writes to the table of things, which is empty."""
    session = Session(changes_service.url)
    session("truncate shop.things, shop.hidden, shop.unique_not")
    yield session
    session.close()


@pytest.fixture
def reader(changes_service: Longshore) -> Iterator[httpx2.Client]:
    """Yield a client of the service with the things."""
    with changes_service.client() as client:
        yield client


def changes(client: httpx2.Client, index: str = "by-id", *, segment: bool = False, **target: Any) -> Series:
    """Return a task with deletes."""
    trigger = {"segment": {**SEGMENT, "index": index}} if segment else {}
    return Series(client, target.pop("incremental", True), index, {"deletes": True, **target}, **trigger)


def insert(things: Session, *ids: int, kind: str = "sale") -> None:
    for id in ids:
        things("insert into shop.things (id, code, kind, amount) values ($1, $2, $3, 1)", id, f"c{id}", kind)


def run_changes(series: Series) -> list[tuple[str, str, str]]:
    """Run once more and return what became of each row: change, reason, id."""
    return sorted((row["_change"], row["_reason"], row["id"]) for row in series.run())


def manifest(series: Series, run: int) -> dict[str, Any]:
    found: dict[str, Any] = series.client.get(f"/tasks/{series.id}/runs/{run}/manifest").json()
    return found


def test_first_run_with_deletes_is_full_and_later_ones_have_the_rows_written_and_removed_since(
    reader: httpx2.Client, things: Session
) -> None:
    insert(things, 1, 2, 3, 4)
    insert(things, 5, kind="gift")
    series = changes(reader, segment=True)
    assert run_changes(series) == [("upsert", "", str(id)) for id in (1, 2, 3, 4)]
    things("update shop.things set version = 1 where id = 1")
    things("update shop.things set kind = 'gift' where id = 2")
    things("delete from shop.things where id = 3")
    things("insert into shop.hidden values (4)")
    things("update shop.things set kind = 'sale' where id = 5")
    wanted = [("delete", "deleted", "3"), ("delete", "deleted", "4"), ("delete", "left", "2")]
    assert run_changes(series) == [*wanted, ("upsert", "", "1"), ("upsert", "", "5")]
    assert run_changes(series) == []
    assert [run["full"] for run in series.runs()] == [True, False, False]
    second = manifest(series, 2)
    assert (second["full"], second["upserts"], second["deletes"], second["rows"]) == (False, 2, 3, 5)
    assert second["mirror"]["rows"] == 2
    assert second["mirror"]["totals"]["sums"] == [{"value": "sale", "rows": 2, "sum": "2"}]


def test_a_key_that_changes_is_a_delete_and_an_upsert(reader: httpx2.Client, things: Session) -> None:
    insert(things, 1)
    series = changes(reader)
    run_changes(series)
    things("update shop.things set id = 2")
    assert run_changes(series) == [("delete", "deleted", "1"), ("upsert", "", "2")]


def test_a_row_that_another_chain_gets_is_deleted_in_the_copy_of_the_first(
    reader: httpx2.Client, things: Session
) -> None:
    insert(things, 1)
    series = changes(reader)
    run_changes(series)
    things("update shop.things set chain_id = 9")
    assert run_changes(series) == [("delete", "deleted", "1")]


def test_a_row_that_comes_into_view_is_an_upsert_without_being_written(reader: httpx2.Client, things: Session) -> None:
    insert(things, 1, 2)
    things("insert into shop.hidden values (2)")
    series = changes(reader)
    assert run_changes(series) == [("upsert", "", "1")]
    things("delete from shop.hidden")
    assert run_changes(series) == [("upsert", "", "2")]
    assert run_changes(series) == []


def test_rows_of_a_transaction_that_commits_late_come_once_it_has(
    reader: httpx2.Client, things: Session, changes_service: Longshore
) -> None:
    insert(things, 1, 2)
    series, late = changes(reader), Session(changes_service.url)
    try:
        late("begin")
        insert(late, 3)
        late("delete from shop.things where id = 1")
        insert(things, 4)  # committed now, and told now, although an older transaction is open
        assert run_changes(series) == [("upsert", "", "1"), ("upsert", "", "2"), ("upsert", "", "4")]
        late("commit")
        assert {("delete", "deleted", "1"), ("upsert", "", "3")} <= set(run_changes(series))
    finally:
        late.close()


def test_a_truncated_table_deletes_all_of_the_copy(reader: httpx2.Client, things: Session) -> None:
    insert(things, 1, 2)
    series = changes(reader)
    run_changes(series)
    things("truncate shop.things")
    assert run_changes(series) == [("delete", "deleted", "1"), ("delete", "deleted", "2")]


def test_rows_of_a_partition_that_is_attached_or_detached_are_upserts_or_deletes(
    reader: httpx2.Client, things: Session
) -> None:
    insert(things, 1)
    things("create table shop.shelf_7 (like shop.things including defaults)")
    things("insert into shop.shelf_7 (id, shelf, code) values (7, 7, 'x')")
    series = changes(reader)
    assert run_changes(series) == [("upsert", "", "1")]
    things("alter table shop.things attach partition shop.shelf_7 for values in (7)")
    assert run_changes(series) == [("upsert", "", "7")]
    things("alter table shop.things detach partition shop.shelf_7")
    assert run_changes(series) == [("delete", "deleted", "7")]
    things("drop table shop.shelf_7")


def test_rows_of_a_partition_that_replaces_one_with_the_same_keys_are_upserts(
    reader: httpx2.Client, things: Session
) -> None:
    for table, version in (("shelf_7", 1), ("shelf_8", 2)):
        things(f"create table shop.{table} (like shop.things including defaults)")
        things(f"insert into shop.{table} (id, shelf, code, version) values (7, 7, 'x', {version})")
    attach, detach = ("alter table shop.things {} partition shop.{} " + rest for rest in ("for values in (7)", ""))
    things(attach.format("attach", "shelf_7"))
    series = changes(reader)
    run_changes(series)
    things(detach.format("detach", "shelf_7"))
    things(attach.format("attach", "shelf_8"))
    assert [(row["_change"], row["version"]) for row in series.run()] == [("upsert", "2")]
    things(detach.format("detach", "shelf_8"))
    things("drop table shop.shelf_7, shop.shelf_8")


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_a_lost_key_list_makes_the_next_run_full_and_the_log_says_so(
    reader: httpx2.Client, things: Session, changes_service: Longshore, damage: str
) -> None:
    insert(things, 1, 2)
    series = changes(reader)
    run_changes(series)
    [path] = (changes_service.data / "results" / str(CHAIN) / str(series.id)).glob("keys/*/*.parquet")
    path.unlink() if damage == "gone" else path.write_bytes(b"PAR1")
    things("delete from shop.things where id = 1")
    assert run_changes(series) == [("upsert", "", "2")]
    assert series.runs()[-1]["full"] is True
    assert "a full run: the list of the keys that the copy has is gone or damaged" in series.messages()
    things("delete from shop.things where id = 2")
    assert run_changes(series) == [("delete", "deleted", "2")]


def test_changed_fields_make_the_next_run_full(reader: httpx2.Client, things: Session) -> None:
    insert(things, 1)
    series = changes(reader, fields=["id", "kind"])
    run_changes(series)
    task = reader.get(f"/tasks/{series.id}").json()
    answer = reader.patch(f"/tasks/{series.id}", json={"target": {**task["target"], "fields": ["id", "version"]}})
    assert answer.status_code == 200
    assert run_changes(series) == [("upsert", "", "1")]
    assert "a full run: the index, its fields or its key have changed" in series.messages()
    assert run_changes(series) == []


def test_another_index_over_the_same_table_fields_and_key_makes_the_next_run_full(
    reader: httpx2.Client, things: Session
) -> None:
    insert(things, 1)
    series = changes(reader, fields=["id"])
    assert run_changes(series) == [("upsert", "", "1")]
    target = reader.get(f"/tasks/{series.id}").json()["target"] | {"export_index": "by-id-too"}
    assert reader.patch(f"/tasks/{series.id}", json={"target": target}).status_code == 200
    assert run_changes(series) == [("upsert", "", "1")]
    assert "a full run: the index, its fields or its key have changed" in series.messages()
    assert run_changes(series) == []


def test_another_index_with_the_same_fields_and_key_makes_the_next_run_full(
    reader: httpx2.Client, things: Session
) -> None:
    insert(things, 1)
    things("insert into shop.unique_not (id) values (1), (2)")
    series = changes(reader, fields=["id"])
    assert run_changes(series) == [("upsert", "", "1")]
    assert run_changes(series) == []
    target = reader.get(f"/tasks/{series.id}").json()["target"] | {"export_index": "unique-not"}
    assert reader.patch(f"/tasks/{series.id}", json={"target": target}).status_code == 200
    assert run_changes(series) == [("upsert", "", "1"), ("upsert", "", "2")]
    assert series.runs()[-1]["full"] is True
    assert [message for message in series.messages() if message.startswith("a full run: ")]


def test_another_key_of_the_index_in_the_catalog_makes_the_next_run_full(
    world: ChangingDatabase, tmp_path: Path
) -> None:
    def task_with(key: str, id: int = 0) -> ChangingTask:
        (tmp_path / "catalog.toml").write_text(CATALOG.replace('key = ["id"]', f"key = {key}"))
        return ChangingTask(world.pool, tmp_path, id)

    task = task_with('["id"]')
    world.runner.run(world.writer.execute("truncate shop.things, shop.hidden"))
    world.runner.run(world.writer.execute("insert into shop.things (id, code) values (1, 'a')"))

    async def runs() -> list[tuple[bool, int]]:
        await task.create()
        found = [await task.run(), await task.run()]
        changed = task_with('["code", "line"]', task.id)
        found += [await changed.run(), await changed.run()]
        return [(manifest["full"], len(rows)) for manifest, rows in found]

    assert world.runner.run(runs()) == [(True, 1), (False, 0), (True, 1), (False, 0)]
    reasons = "select msg from longshore.task_logs where task_id = $1 and msg like 'a full run: %'"
    [reason] = world.runner.run(world.pool.fetch(reasons, task.id))
    assert reason["msg"] == "a full run: the index, its fields or its key have changed"


def test_a_column_that_is_dropped_and_made_again_makes_the_next_run_full(
    reader: httpx2.Client, things: Session
) -> None:
    insert(things, 1)
    series = changes(reader, fields=["id", "version"])
    run_changes(series)
    things("alter table shop.things drop column version")
    things("alter table shop.things add column version bigint not null default 9")
    assert [row["version"] for row in series.run()] == ["9"]
    assert series.runs()[-1]["full"] is True


@pytest.mark.parametrize(
    ("field", "statements", "shown"),
    [
        ("mood", ["alter type shop.mood rename value 'good' to 'fine'"], "fine"),
        ("size", ["alter type shop.mood rename value 'bad' to 'poor'"], "(1,{poor})"),
        ("size", ["alter type shop.size add attribute depth int"], "(1,{bad},)"),
        ("total", ["alter table shop.typed drop qty", "alter table shop.typed add qty int default 5"], "10"),
        ("everything", ["alter table shop.typed add note text default 'new'"], '"note":"new"'),
        ("everything", ["alter table shop.typed rename price to cost"], '"cost":2'),
        ("everything", ["alter type shop.mood rename value 'good' to 'fine'"], '"mood":"fine"'),
    ],
)
def test_a_change_of_types_or_columns_that_writes_no_row_makes_the_next_run_full(
    reader: httpx2.Client, changes_service: Longshore, field: str, statements: list[str], shown: str
) -> None:
    make_typed(changes_service)
    series = changes(reader, "typed", fields=["id", field])
    [before] = series.run()
    assert shown not in before[field]
    assert series.run() == []
    for statement in statements:
        changes_service.sql(statement)
    [after] = series.run()
    assert shown in after[field]
    assert series.runs()[-1]["full"] is True


def test_a_table_and_its_types_that_are_made_anew_make_the_next_run_full(
    reader: httpx2.Client, changes_service: Longshore
) -> None:
    make_typed(changes_service)
    series = changes(reader, "typed", fields=["id", "everything"])
    for _ in range(3):  # on the same connection, whose statements are of the table before
        assert len(series.run()) == 1
        assert series.runs()[-1]["full"] is True
        make_typed(changes_service)


def test_a_column_that_no_field_reads_makes_no_run_full(reader: httpx2.Client, changes_service: Longshore) -> None:
    make_typed(changes_service)
    series = changes(reader, "typed", fields=["id", "price"])
    assert len(series.run()) == 1
    changes_service.sql("alter table shop.typed add unread int default 1")
    changes_service.sql("alter type shop.mood rename value 'good' to 'fine'")
    assert series.run() == []
    assert series.runs()[-1]["full"] is False


def test_a_restored_source_makes_the_next_run_full(
    reader: httpx2.Client, things: Session, changes_service: Longshore
) -> None:
    insert(things, 1)
    series = changes(reader)
    run_changes(series)
    mark = changes_service.sql("select watermark from longshore.tasks where id = $1", series.id)[0][0]
    older = json.dumps({**json.loads(mark), "timeline": 99})
    changes_service.sql("update longshore.tasks set watermark = $2 where id = $1", series.id, older)
    assert run_changes(series) == [("upsert", "", "1")]
    assert any(message.startswith("a full run: the source was restored") for message in series.messages())


def test_a_restored_service_makes_the_next_run_full_as_its_reader_has_come_further(
    reader: httpx2.Client, things: Session, changes_service: Longshore
) -> None:
    insert(things, 1)
    series = changes(reader)
    run_changes(series)
    kept = "select watermark, attempt, run from longshore.tasks where id = $1"
    mark, attempt, run = changes_service.sql(kept, series.id)[0]
    insert(things, 2)
    run_changes(series)  # the reader has applied this run, and the restored service does not know of it
    things("delete from shop.things where id = 2")
    changes_service.sql("delete from longshore.runs where task_id = $1 and run > $2", series.id, run)
    back = "update longshore.tasks set watermark = $2, attempt = $3, run = $4 where id = $1"
    changes_service.sql(back, series.id, mark, attempt, run)
    for path in (changes_service.data / "results" / str(CHAIN) / str(series.id)).glob(f"{attempt + 1}/*"):
        path.unlink()
    assert run_changes(series) == [("upsert", "", "1")]
    assert series.runs()[-1]["full"] is True
    insert(things, 3)
    assert run_changes(series) == [("upsert", "", "3")]


def test_an_increment_that_is_given_again_keeps_its_mirror_and_its_key_list(
    reader: httpx2.Client, things: Session
) -> None:
    insert(things, 1, 2)
    series = changes(reader, incremental="on_ack")
    first = run_changes(series)
    things("delete from shop.things where id = 1")
    assert run_changes(series) == first
    assert manifest(series, 2)["mirror"] == manifest(series, 1)["mirror"]
    assert manifest(series, 2)["mirror"]["rows"] == 2
    assert series.acknowledge(2).status_code == 200
    assert run_changes(series) == [("delete", "deleted", "1")]
    assert run_changes(series) == [("delete", "deleted", "1")]


def test_an_increment_whose_file_is_gone_is_followed_by_a_full_run(
    reader: httpx2.Client, things: Session, changes_service: Longshore
) -> None:
    insert(things, 1, 2)
    series = changes(reader, incremental="on_ack")
    run_changes(series)
    series.acknowledge(1)
    things("delete from shop.things where id = 1")
    run_changes(series)
    for path in (changes_service.data / "results" / str(CHAIN) / str(series.id)).rglob("*.csv"):
        path.unlink()
    assert run_changes(series) == [("upsert", "", "2")]
    assert series.runs()[-1]["full"] is True
    assert "a full run: the file of run 2, which is not acknowledged, is gone" in series.messages()
    series.acknowledge(3)
    assert run_changes(series) == []


@pytest.mark.parametrize("ids", [(1, 1), (None,)])
def test_a_key_that_is_null_or_not_unique_ends_the_run(
    reader: httpx2.Client, things: Session, ids: tuple[int | None, ...]
) -> None:
    for id in ids:
        things("insert into shop.unique_not (id) values ($1)", id)
    series = changes(reader, "unique-not")
    assert series.execute() == "ERROR"
    expected_message = "the key id is NULL in a row" if None in ids else "the key id has the value '1' twice"
    assert expected_message in series.messages()[-2]


def stored_bytes(service: Longshore) -> int:
    """Return the bytes that the chain's results and key lists count for."""
    return int(service.sql("select coalesce(sum(result_bytes), 0) from longshore.chain_usage")[0][0])


def test_key_lists_count_as_stored_bytes_and_go_with_their_task(
    reader: httpx2.Client, things: Session, changes_service: Longshore
) -> None:
    insert(things, 1, 2)
    before = stored_bytes(changes_service)
    series = changes(reader)
    run_changes(series)
    folder = changes_service.data / "results" / str(CHAIN) / str(series.id)
    [keys] = folder.glob("keys/*/*.parquet")
    assert stored_bytes(changes_service) - before == keys.stat().st_size + len(series.content())
    assert reader.delete(f"/tasks/{series.id}").status_code == 204
    assert stored_bytes(changes_service) == before
    assert not folder.exists()


def test_key_lists_of_runs_that_wait_for_their_acknowledgement_count_as_stored_bytes(
    reader: httpx2.Client, things: Session, changes_service: Longshore
) -> None:
    def lists() -> list[int]:
        return [path.stat().st_size for path in folder.glob("keys/*/*.parquet")]

    def assert_counted(number: int) -> None:
        assert len(lists()) == number
        assert stored_bytes(changes_service) - before == sum(lists()) + sum(run["bytes"] for run in series.runs())

    insert(things, 1, 2)
    before = stored_bytes(changes_service)
    series = changes(reader, incremental="on_ack")
    folder = changes_service.data / "results" / str(CHAIN) / str(series.id)
    run_changes(series)
    assert_counted(1)
    run_changes(series)  # the same again, with the same key list
    assert_counted(1)
    series.acknowledge(1)
    assert_counted(1)
    insert(things, *range(10, 500))
    run_changes(series)
    assert_counted(2)
    for path in folder.rglob("*.csv"):
        path.unlink()
    insert(things, *range(1000, 2000))
    run_changes(series)  # a full run, of which another key list is
    assert_counted(3)
    series.acknowledge(4)
    assert stored_bytes(changes_service) - before == max(lists()) + sum(run["bytes"] for run in series.runs()), (
        "the others are of no more use"
    )
    run_changes(series)
    assert_counted(2)
    merged = {"Content-Type": "application/merge-patch+json"}
    patch = reader.patch(f"/tasks/{series.id}", json={"target": {"incremental": True}}, headers=merged)
    assert patch.status_code == 200
    run_changes(series)  # the increment once more, which counts as acknowledged
    assert stored_bytes(changes_service) - before == lists()[0] + sum(run["bytes"] for run in series.runs()), (
        "one list, of the watermark"
    )
    assert reader.delete(f"/tasks/{series.id}").status_code == 204
    assert stored_bytes(changes_service) == before


def test_only_the_newest_key_lists_are_kept(reader: httpx2.Client, things: Session, changes_service: Longshore) -> None:
    series = changes(reader)
    for id in range(4):
        insert(things, id)
        run_changes(series)
    folder = changes_service.data / "results" / str(CHAIN) / str(series.id)
    assert len(list(folder.glob("keys/*/*.parquet"))) == 2  # of the mark, and the one before


def test_the_cleanup_leaves_the_key_lists_of_tasks_and_removes_those_of_none(
    reader: httpx2.Client, things: Session, changes_service: Longshore
) -> None:
    series, results = changes(reader), changes_service.data / "results"
    insert(things, 1)
    run_changes(series)
    orphan = results / str(CHAIN) / "987654" / "keys" / "20261126T120000000000-1" / "keys.parquet"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"")
    for folder in results.glob("*/*/*"):
        os.utime(folder, (0, 0))

    async def sweep() -> None:
        async with open_pool(changes_service.url, size=2, name="test") as pool:
            begun: Any = None  # it does not matter to the sweep who asks for it
            await Cleanup(pool, LocalStore(results), timedelta(days=365)).run(begun)

    in_own_loop(sweep())
    assert not orphan.exists()
    things("delete from shop.things")
    assert run_changes(series) == [("delete", "deleted", "1")]


@pytest.mark.parametrize(
    ("index", "target", "at", "expected_message"),
    [
        ("by-id", {"incremental": None}, "/target/deletes", "needs `incremental`"),
        ("by-id", {"export_format": "xlsx"}, "/target/deletes", "a workbook cannot hold changes"),
        ("by-code", {"fields": ["code", "kind"]}, "/target/fields", "missing: line"),
        ("by-id", {"fields": ["id", {"name": "kind", "as": "_reason"}]}, "/target/fields/1", '"_reason" is a column'),
        ("keyless", {}, "/target/deletes", "this index has no key"),
        ("view", {}, "/target/deletes", "is a view"),
        ("outside", {"fields": ["id", "hidden"]}, "/target/deletes", '"hidden" reads more than its row'),
        ("outside", {"fields": ["id", "today"]}, "/target/deletes", '"today" reads more than its row'),
    ],
)
def test_deletes_are_refused_where_they_cannot_be_determined(
    reader: httpx2.Client, things: Session, index: str, target: dict[str, Any], at: str, expected_message: str
) -> None:
    del things
    asked = {"action": "export", "export_index": index, "export_format": "csv", "incremental": True, "deletes": True}
    given = {key: value for key, value in (asked | target).items() if value is not None}
    body = {"chain": CHAIN, "desc": "", "target": given, "trigger": {"once": "2199-01-01T00:00:00Z"}}
    answer = reader.post("/tasks", json=body)
    assert answer.status_code == 400, answer.text
    [violation] = answer.json()["errors"]
    assert violation["pointer"] == at
    assert expected_message in violation["detail"]


def test_a_field_that_only_reads_its_row_can_have_deletes(reader: httpx2.Client, things: Session) -> None:
    insert(things, 1)
    series = changes(reader, "outside", fields=["id", "kind"])
    assert run_changes(series) == [("upsert", "", "1")]


def test_a_credential_that_may_not_see_the_key_gets_no_deletes(changes_service: Longshore, things: Session) -> None:
    del things
    with changes_service.client(Level.WRITE, scope=Scope(hidden_columns=["by-id.id"])) as limited:
        target = {
            "action": "export", "export_index": "by-id", "export_format": "csv", "incremental": True, "deletes": True,
            "fields": ["kind"],
        }  # fmt: skip
        body = {"chain": CHAIN, "desc": "", "target": target, "trigger": {"once": "2199-01-01T00:00:00Z"}}
        answer = limited.post("/tasks", json=body)
        assert answer.status_code == 403
        assert [violation["pointer"] for violation in answer.json()["errors"]] == ["/target/deletes"]
        assert limited.get("/indexes/by-id").json()["key"] == []


def test_indexes_and_manifests_name_the_key(reader: httpx2.Client, things: Session) -> None:
    insert(things, 1)
    assert reader.get("/indexes/by-code").json()["key"] == ["code", "line"]
    assert reader.get("/indexes/keyless").json()["key"] == []
    fields = ["kind", {"name": "line", "as": "number"}, "code"]
    series = changes(reader, "by-code", fields=fields)
    series.run()
    assert manifest(series, 1)["key"] == ["code", "number"]
    plain = Series(reader, False, "by-code", {"fields": ["code"]})
    plain.run()
    assert (manifest(plain, 1)["key"], manifest(plain, 1)["full"]) == ([], None)


def test_change_and_reason_are_the_first_columns_and_no_part_of_the_schema(
    reader: httpx2.Client, things: Session
) -> None:
    insert(things, 1)
    fingerprint = reader.get("/indexes/by-id").json()["schema"]
    series = changes(reader, schema=fingerprint)
    series.run()
    found = manifest(series, 1)
    assert [field["name"] for field in found["fields"]][:3] == ["_change", "_reason", "id"]
    assert found["schema"] == fingerprint
    assert next(csv.reader(io.StringIO(series.content().decode())))[:2] == ["_change", "_reason"]


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "parquet"])
def test_results_with_deletes_are_verified_by_their_manifests(
    reader: httpx2.Client, things: Session, tmp_path: Path, format: str
) -> None:
    insert(things, 1, 2, 3)
    series, paths = changes(reader, export_format=format), []
    for run in (1, 2):
        assert series.execute() == "DONE"
        paths.append(tmp_path / str(run) / f"Thing_Export-{series.id}.{format}")
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(series.content())
        text = reader.get(f"/tasks/{series.id}/runs/{run}/manifest").content
        paths[-1].with_name(paths[-1].name + SUFFIX).write_bytes(text)
        things("delete from shop.things where id = 1")
        things("update shop.things set version = 1 where id = 2")
    manifests = [found for found in verify(paths) if isinstance(found, Manifest)]
    assert [(found.run, found.upserts, found.deletes) for found in manifests] == [(1, 3, 0), (2, 1, 1)]


def test_a_preview_warns_of_increments_with_rules_that_have_no_deletes(reader: httpx2.Client, things: Session) -> None:
    insert(things, 1)
    segment = {**SEGMENT, "index": "by-id"}

    def codes(**target: Any) -> list[str]:
        found = reader.post("/segments/preview", json={"segment": segment, **target}).json()
        return [warning["code"] for warning in found["warnings"]]

    assert "no-deletes" in codes(incremental=True)
    assert "no-deletes" in codes(incremental="on_ack")
    assert "no-deletes" not in codes(incremental=True, deletes=True)
    assert "no-deletes" not in codes()
