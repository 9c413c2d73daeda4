"""Each run takes the rows that became visible since the last one: no gap, no row twice, whatever the commit order."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import httpx2
import pytest

from tests.exports.incremental import Series, Session
from tests.service import CHAIN, Longshore

Sessions = Callable[[], Session]


def test_first_incremental_run_takes_all_rows_and_each_later_one_the_new_ones(
    client: httpx2.Client, session: Sessions
) -> None:
    writer, series = session(), Series(client)
    writer.insert(1, 2)
    writer.insert(99, chain=CHAIN + 1)
    assert series.ids() == [1, 2]
    assert series.ids() == []
    writer.insert(3)
    writer.insert(98, chain=CHAIN + 1)
    assert series.ids() == [3]


def test_runs_show_the_watermarks_where_each_increment_begins_and_ends(
    client: httpx2.Client, session: Sessions
) -> None:
    writer, series = session(), Series(client)
    for id in (1, 2, 3):
        writer.insert(id)
        series.run()
    first, second, third = (run["increment"] for run in series.runs())
    assert first["from"] is None
    assert (first["to"], second["to"]) == (second["from"], third["from"])
    assert len({first["to"], second["to"], third["to"]}) == 3
    assert first["acknowledged"] is None


def test_a_task_that_is_not_incremental_has_no_increments(client: httpx2.Client, session: Sessions) -> None:
    session().insert(1)
    series = Series(client, incremental=False)
    assert [series.ids(), series.ids()] == [[1], [1]]
    assert [run["increment"] for run in series.runs()] == [None, None]


def test_a_row_that_commits_late_is_in_a_later_increment(client: httpx2.Client, session: Sessions) -> None:
    late, writer, series = session(), session(), Series(client)
    late("begin")
    late.insert(1)  # older than the row of the other transaction, but not committed yet
    writer.insert(2)
    before = series.ids()
    late("commit")
    after = series.ids()
    assert (before, after) == ([], [1, 2])
    assert series.ids() == []


def test_transactions_that_commit_in_reverse_order_lose_nothing(client: httpx2.Client, session: Sessions) -> None:
    series, late = Series(client), [session() for _ in range(4)]
    given = []
    for number, writer in enumerate(late):
        writer("begin")
        writer.insert(number)
    for writer in reversed(late):
        writer("commit")
        given += series.ids()
    assert sorted(given + series.ids()) == [0, 1, 2, 3]


def test_rows_of_a_savepoint_wait_for_their_transaction(client: httpx2.Client, session: Sessions) -> None:
    late, writer, series = session(), session(), Series(client)
    late("begin")
    late.insert(1)
    late("savepoint a")
    late.insert(2)
    late("savepoint b")
    late.insert(3)
    late("rollback to b")
    late.insert(4)
    late("release a")
    writer.insert(5)  # its number is higher than those of the savepoints
    before = series.ids()
    late("commit")
    assert (before, series.ids(), series.ids()) == ([], [1, 2, 4, 5], [])


def test_a_changed_row_is_exported_once_in_its_new_state(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client)
    writer.insert(1, 2)
    series.run()
    for version in (7, 8):
        writer("update shop.entries set version = $1 where id = 2", version)
    assert [(row["id"], row["version"]) for row in series.run()] == [("2", "8")]
    assert series.ids() == []


def test_a_rolled_back_change_and_a_deletion_add_no_rows(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client)
    writer.insert(1, 2)
    series.run()
    writer("begin")
    writer("update shop.entries set version = 7")
    writer.insert(3)
    writer("rollback")
    writer("delete from shop.entries where id = 1")
    assert series.ids() == []


def test_a_row_that_was_only_locked_is_not_exported_again(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client)
    writer.insert(1)
    series.run()
    writer("select from shop.entries for update")
    assert series.ids() == []


def test_a_transaction_that_only_reads_keeps_no_rows_out(client: httpx2.Client, session: Sessions) -> None:
    reader, writer, series = session(), session(), Series(client)
    reader("begin isolation level repeatable read")
    reader("select from shop.entries")
    writer.insert(1)
    assert series.ids() == [1]


def test_frozen_rows_are_not_exported_again(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client)
    writer.insert(1)
    assert series.ids() == [1]
    writer.insert(2)
    writer("vacuum freeze shop.entries")
    assert series.ids() == [2]
    writer("vacuum full shop.entries")
    writer.insert(3)
    assert series.ids() == [3]


def test_increment_has_only_rows_of_the_segment(client: httpx2.Client, session: Sessions) -> None:
    rule = {"field_name": "kind", "field_type": "keyword", "operator": "is", "value": "gift"}
    segment = {"entity": "people", "index": "entries", "join": "any", "chain_id": CHAIN, "rules": [rule]}
    writer, series = session(), Series(client, segment=segment)
    writer.insert(1, kind="gift")
    writer.insert(2)
    assert series.ids() == [1]
    writer.insert(3)
    writer.insert(4, kind="gift")
    writer("update shop.entries set kind = 'gift' where id = 2")
    assert series.ids() == [2, 4]


@pytest.mark.parametrize("target", [{"export_format": "json"}, {"export_format": "csv", "compression": "gzip"}])
def test_increments_work_in_every_format(client: httpx2.Client, session: Sessions, target: dict[str, str]) -> None:
    writer, series = session(), Series(client, target=target)
    writer.insert(1, 2)
    for rows in (2, 0):
        assert series.execute() == "DONE"
        assert series.runs()[-1]["rows"] == rows


def test_a_failed_run_does_not_move_the_watermark(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client)
    writer.insert(1)
    assert series.ids() == [1]
    writer.insert(2)
    writer("insert into shop.entries (id, divisor) values (3, 0)")
    assert series.execute() == "ERROR"
    assert "division by zero" in series.messages()[-2]
    assert series.runs()[-1]["increment"] is None
    writer("update shop.entries set divisor = 1 where id = 3")
    writer.insert(4)
    assert series.ids() == [2, 3, 4]
    assert series.runs()[0]["increment"]["to"] == series.runs()[-1]["increment"]["from"]


def test_run_after_a_failed_first_run_takes_all_rows(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client)
    writer("insert into shop.entries (id, divisor) values (1, 0), (2, 1)")
    assert series.execute() == "ERROR"
    writer("update shop.entries set divisor = 1")
    assert series.ids() == [1, 2]


def test_a_large_table_is_read_by_several_connections_within_one_increment(
    client: httpx2.Client, session: Sessions
) -> None:
    late, writer, series = session(), session(), Series(client)
    writer("insert into shop.entries (id) select generate_series(1, 150000)")
    writer("analyze shop.entries")
    late("begin")
    late.insert(-1)
    writer("insert into shop.entries (id) select generate_series(150001, 150010)")
    assert series.ids() == list(range(1, 150_001))
    writer("update shop.entries set version = 1 where id % 1000 = 0")
    late("commit")
    changed = [id for id in range(1, 150_001) if id % 1000 == 0]
    assert series.ids() == [-1, *changed, *range(150_001, 150_011)]


def test_a_partitioned_table_has_increments(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client, index="parted")
    writer("insert into shop.parted (id) values (1), (2)")
    assert series.ids() == [1, 2]
    writer("insert into shop.parted (id) values (3)")
    writer("update shop.parted set id = 5 where id = 1")  # moves to another partition
    assert series.ids() == [3, 5]


@pytest.mark.parametrize(("index", "kind"), [("entries_view", "a view"), ("entries_kept", "a materialized view")])
def test_incremental_export_of_a_view_ends_in_an_error(client: httpx2.Client, index: str, kind: str) -> None:
    series = Series(client, index=index)
    assert series.execute() == "ERROR"
    message = f"failed: shop.{index} is {kind}; incremental exports need a table"
    assert message in series.messages()


def test_incremental_is_true_false_or_on_ack(client: httpx2.Client) -> None:
    target = {"action": "export", "export_index": "entries", "export_format": "csv", "incremental": "sometimes"}
    body = {"chain": CHAIN, "desc": "", "target": target, "trigger": {"once": "2026-01-01T00:00:00Z"}}
    answer = client.post("/tasks", json=body)
    assert answer.status_code == 400
    assert [violation["pointer"] for violation in answer.json()["errors"]] == ["/target/incremental"]


SEED = int(time.time())


def test_rows_of_random_writers_are_exported_once_each(shop: Longshore, client: httpx2.Client) -> None:
    """Writers insert, change and delete, in transactions and savepoints, short and long, some rolled back."""
    print(f"seed {SEED}")
    series, stop = Series(client), threading.Event()
    committed: set[tuple[int, int]] = set()
    writers = [
        threading.Thread(target=write_at_random, args=(shop.url, number, stop, committed)) for number in range(5)
    ]
    for writer in writers:
        writer.start()
    given: list[tuple[int, int]] = []
    try:
        for _ in range(8):
            given += [(int(row["id"]), int(row["version"])) for row in series.run()]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    given += [(int(row["id"]), int(row["version"])) for row in series.run()]

    twice = [version for version, times in Counter(given).items() if times > 1]
    assert twice == []
    assert set(given) <= committed
    left = {(row["id"], row["version"]) for row in shop.sql("select id, version from shop.entries")}
    newest = dict(given)  # a later increment's state of a row replaces the earlier one's
    assert {(id, newest.get(id)) for id, _ in left} == left
    assert len(given) > 100


def write_at_random(url: str, number: int, stop: threading.Event, committed: set[tuple[int, int]]) -> None:
    chance = random.Random(SEED + number)
    session, mine, counter = Session(url), set[int](), 0
    while not stop.is_set():
        session("begin")
        rows, written = set(mine), set[tuple[int, int]]()
        for _ in range(chance.randrange(1, 6)):
            kept = set(rows), set(written)
            session("savepoint here")
            counter += 1
            version = counter * 10 + number
            if chance.random() < 0.6 or not rows:
                session("insert into shop.entries (id, version) values ($1, $1)", version)
                rows.add(version)
                written.add((version, version))
            else:
                id = chance.choice(sorted(rows))
                if chance.random() < 0.8:
                    session("update shop.entries set version = $2 where id = $1", id, version)
                    written.add((id, version))
                else:
                    session("delete from shop.entries where id = $1", id)
                    rows.remove(id)
            if chance.random() < 0.2:
                session("rollback to here")
                rows, written = kept
            elif chance.random() < 0.5:
                session("release here")
            time.sleep(chance.choice([0, 0, 0.002, 0.01]))
        time.sleep(chance.choice([0] * 30 + [0.1, 1.5]))
        if chance.random() < 0.15:
            session("rollback")
        else:
            committed |= written  # before the commit: a run may see it at once
            session("commit")
            mine = rows
    session.close()
