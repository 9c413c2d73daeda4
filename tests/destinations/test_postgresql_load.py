"""Results as tables of a PostgreSQL 15: appended, replaced, merged; once, whole, and in step with what is there."""

import pytest

from longshore.destinations.kind import DestinationError
from tests.destinations.warehouse import Warehouse, a_load

COLUMNS = {"id": "int8", "name": "text", "amount": "numeric(12,2)"}
ROWS = [("1", 'é, "x"\r\n\\.\n', "10.50"), ("2", "", None), ("3", None, "-0.01")]
STORED = [(1, 'é, "x"\r\n\\.\n', "10.50"), (2, "", None), (3, None, "-0.01")]
SHOWN = "select id, name, amount::text from orders order by id, name"


def test_load_makes_the_table_with_the_types_of_the_source(warehouse: Warehouse) -> None:
    evidence = warehouse.load(a_load(COLUMNS, ROWS))
    assert (evidence.rows, evidence.already_loaded) == (3, False)
    assert warehouse.types() == {"id": "bigint", "name": "text", "amount": "numeric(12,2)"}
    assert warehouse.sql(SHOWN) == STORED
    (line,) = warehouse.sql("select table_name, task, run, rows, interval_end::text from _longshore_deliveries")
    assert line == ("orders", 12, 1, 3, "2026-05-27 00:00:00+00")


def test_run_that_is_there_is_skipped(warehouse: Warehouse) -> None:
    warehouse.load(a_load(COLUMNS, ROWS))
    evidence = warehouse.load(a_load(COLUMNS, ROWS))
    assert (evidence.rows, evidence.already_loaded) == (3, True)
    assert warehouse.sql(SHOWN) == STORED
    warehouse.load(a_load(COLUMNS, ROWS, run=2))
    assert len(warehouse.sql(SHOWN)) == 6


def test_increment_of_marks_that_are_there_is_skipped(warehouse: Warehouse) -> None:
    first = a_load(COLUMNS, ROWS, run=1, watermarks=(None, "500"))
    warehouse.load(first, a_load(COLUMNS, ROWS, run=2, watermarks=("500", "600")))
    for run, watermarks in ((3, (None, "500")), (4, ("500", "600"))):
        assert warehouse.load(a_load(COLUMNS, ROWS, run=run, watermarks=watermarks)).already_loaded
    assert not warehouse.load(a_load(COLUMNS, ROWS, run=5, watermarks=("600", "700"))).already_loaded
    assert len(warehouse.sql(SHOWN)) == 9


def test_replace_leaves_the_rows_of_the_load_alone(warehouse: Warehouse) -> None:
    warehouse.load(a_load(COLUMNS, ROWS, "replace"))
    warehouse.load(a_load(COLUMNS, [("9", "new", "1.00")], "replace", run=2))
    assert warehouse.sql(SHOWN) == [(9, "new", "1.00")]


def test_merge_updates_inserts_and_deletes_by_the_key(warehouse: Warehouse) -> None:
    warehouse.load(a_load(COLUMNS, ROWS, "merge"))
    changes = [("upsert", None, "1", "changed", "1.00"), ("delete", "left", "2", None, None),
               ("upsert", None, "4", "new", None), ("delete", "deleted", "77", None, None)]  # fmt: skip
    warehouse.load(a_load(COLUMNS, changes, "merge", run=2, has_changes=True))
    assert warehouse.sql(SHOWN) == [(1, "changed", "1.00"), (3, None, "-0.01"), (4, "new", None)]


def test_full_merge_replaces_and_keeps_columns_of_the_customer(warehouse: Warehouse) -> None:
    warehouse.load(a_load(COLUMNS, ROWS, "merge"))
    warehouse.sql("alter table orders add note text default 'none'; update orders set note = 'ours' where id = 1")
    full = [("upsert", None, "1", "changed", "1.00"), ("upsert", None, "8", "new", None)]
    warehouse.load(a_load(COLUMNS, full, "merge", run=2, has_changes=True, is_full=True))
    assert warehouse.sql("select id, name, note from orders order by id") == [
        (1, "changed", "ours"),
        (8, "new", "none"),
    ]


def test_merge_refuses_a_key_that_comes_twice_or_is_null(warehouse: Warehouse) -> None:
    for rows, message in (([ROWS[0], ROWS[0]], "23505"), ([(None, "x", "1.00")], "23502")):
        with pytest.raises(DestinationError, match=message):
            warehouse.load(a_load(COLUMNS, rows, "merge"))
    assert warehouse.types() == {}
