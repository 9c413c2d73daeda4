"""Increments as tables: one is loaded only where the rows before it are, else its table would lack them unnoticed."""

from typing import Any

import msgspec
import pytest

from longshore.destinations.kind import DestinationError
from longshore.exports.manifest import Mirror
from longshore.exports.totals import Sum, Totals
from tests.destinations.warehouse import Warehouse, a_load

COLUMNS = {"id": "int8", "name": "text"}
FIRST, SECOND = [("1", "one"), ("2", None)], [("2", "two"), ("3", "three")]
SHOWN = "select * from orders order by 1, 2"
FULL_RUN = r'have the task run in full: POST /tasks/12/execute with \{"full": true\}'


def first(mode: str, **more: Any) -> Any:
    return a_load(COLUMNS, FIRST, mode, run=1, watermarks=(None, "a"), **more)


def second(mode: str, **more: Any) -> Any:
    return a_load(COLUMNS, SECOND, mode, run=2, watermarks=("a", "b"), **more)


def changes(run: int, since: str | None, until: str, *rows: tuple[str | None, ...], **more: Any) -> Any:
    """A load of changes, or of the whole copy."""
    return a_load(COLUMNS, rows, "merge", run=run, watermarks=(since, until), has_changes=True, **more)


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_increment_is_refused_where_its_table_is_new_to_the_task(warehouse: Warehouse, mode: str) -> None:
    with pytest.raises(DestinationError, match=rf'"orders" does not exist; .*{FULL_RUN}'):
        warehouse.load(second(mode))
    assert warehouse.types() == {}
    warehouse.sql("create table orders (id bigint primary key, name text); alter table orders owner to loader")
    with pytest.raises(DestinationError, match=rf'has no line for .*"orders" that ends there; .*{FULL_RUN}'):
        warehouse.load(second(mode))
    assert warehouse.sql(SHOWN) == []


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_increment_is_refused_where_its_table_was_dropped_or_renamed(warehouse: Warehouse, mode: str) -> None:
    warehouse.load(first(mode))
    warehouse.sql("alter table orders rename to kept")
    with pytest.raises(DestinationError, match=FULL_RUN):
        warehouse.load(second(mode))
    # Another task makes the table anew: the lines of the old one do not count for it.
    other = first("append")
    warehouse.load(msgspec.structs.replace(other, line=msgspec.structs.replace(other.line, task=13)))
    with pytest.raises(DestinationError, match=FULL_RUN):
        warehouse.load(second("append"))
    assert len(warehouse.sql(SHOWN)) == 2


def test_increment_follows_the_one_before_and_no_other(warehouse: Warehouse) -> None:
    warehouse.load(first("append"))
    warehouse.load(second("append"))
    with pytest.raises(DestinationError, match=FULL_RUN):
        warehouse.load(a_load(COLUMNS, SECOND, run=3, watermarks=("a", "c")))  # rows from a to b would come twice
    with pytest.raises(DestinationError, match=FULL_RUN):
        warehouse.load(a_load(COLUMNS, SECOND, run=3, watermarks=("c", "d")))
    warehouse.load(a_load(COLUMNS, [("4", "four")], run=3, watermarks=("b", "c")))
    assert len(warehouse.sql(SHOWN)) == 5


def test_merge_takes_an_increment_that_begins_earlier_again(warehouse: Warehouse) -> None:
    # With `"incremental": true` the rows of a run whose other delivery failed come again, and newer ones with them.
    warehouse.load(first("merge"))
    warehouse.load(second("merge"))
    warehouse.load(a_load(COLUMNS, [*SECOND, ("4", "four")], "merge", run=3, watermarks=("a", "c")))
    assert warehouse.sql(SHOWN) == [(1, "one"), (2, "two"), (3, "three"), (4, "four")]


def test_merge_is_refused_where_its_table_was_emptied_and_a_full_run_fills_it(warehouse: Warehouse) -> None:
    warehouse.load(first("merge"))
    warehouse.sql("truncate orders")
    with pytest.raises(DestinationError, match=rf'"orders" was emptied; {FULL_RUN}'):
        warehouse.load(second("merge"))
    # Nothing was written in the source meanwhile, so the full run has the watermarks of the first one.
    warehouse.load(a_load(COLUMNS, FIRST, "merge", run=3, watermarks=(None, "a")))
    assert warehouse.sql(SHOWN) == [(1, "one"), (2, None)]


def test_append_goes_on_after_its_table_was_emptied_by_its_reader(warehouse: Warehouse) -> None:
    warehouse.load(first("append"))
    warehouse.sql("truncate orders")
    warehouse.load(second("append"))
    assert warehouse.sql(SHOWN) == [(2, "two"), (3, "three")]


def test_append_of_all_rows_does_not_repeat_those_of_earlier_runs(warehouse: Warehouse) -> None:
    warehouse.load(first("append"))
    again = a_load(COLUMNS, [*FIRST, *SECOND], run=2, watermarks=(None, "c"))
    with pytest.raises(DestinationError, match=r"has 2 rows of earlier runs of task 12.*drop the table"):
        warehouse.load(again)
    warehouse.sql("drop table orders")
    warehouse.load(again)
    assert len(warehouse.sql(SHOWN)) == 4
    assert warehouse.sql("select run from _longshore_deliveries") == [(2,)]


def test_increment_without_the_run_before_is_loaded_where_it_is_full(warehouse: Warehouse) -> None:
    whole = changes(5, "a", "e", ("upsert", None, "1", "one"), is_full=True, mirror=Mirror(1, None))
    assert warehouse.load(whole).mirror == Mirror(1, None)
    warehouse.load(changes(6, "e", "f", ("delete", "left", "1", None), mirror=Mirror(0, None)))
    assert warehouse.sql(SHOWN) == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("truncate orders", r"would have 1 rows, and the copy must have 3"),
        ("delete from orders where id = 1", r"would have 2 rows, and the copy must have 3"),
        ("insert into orders values (9, 'own')", r"would have 4 rows, and the copy must have 3"),
    ],
)
def test_copy_that_was_changed_by_hand_takes_no_changes(warehouse: Warehouse, script: str, message: str) -> None:
    rows = [("upsert", None, *row) for row in FIRST]
    warehouse.load(changes(1, None, "a", *rows, is_full=True, mirror=Mirror(2, None)))
    warehouse.sql(script)
    before = warehouse.sql(SHOWN)
    with pytest.raises(DestinationError, match=f"{message}; .*{FULL_RUN}"):
        warehouse.load(changes(2, "a", "b", ("upsert", None, "3", "three"), mirror=Mirror(3, None)))
    assert warehouse.sql(SHOWN) == before


def test_copy_is_compared_with_its_control_totals(warehouse: Warehouse) -> None:
    columns = {"id": "int8", "amount": "numeric(12,2)", "currency": "text"}
    rows = [("upsert", None, "1", "1.50", "EUR"), ("upsert", None, "2", None, None)]

    def totals(*sums: Sum) -> Totals:
        return Totals("amount", "currency", list(sums))

    whole = totals(Sum("EUR", 1, "1.50"), Sum(None, 1, "0"))
    full = a_load(columns, rows, "merge", watermarks=(None, "a"), has_changes=True, is_full=True, totals=whole,
                  mirror=Mirror(2, whole))  # fmt: skip
    assert warehouse.load(full).mirror == Mirror(2, whole)
    change = [("upsert", None, "3", "2.00", "EUR"), ("delete", "left", "2", None, None)]
    of_file = totals(Sum("EUR", 1, "2.00"), Sum(None, 1, "0"))
    after = Mirror(2, totals(Sum("EUR", 2, "3.50")))
    load = a_load(
        columns, change, "merge", run=2, watermarks=("a", "b"), has_changes=True, totals=of_file, mirror=after
    )
    warehouse.sql("update orders set amount = 1.49 where id = 1")
    with pytest.raises(DestinationError, match=rf"3\.50, and the table has 2 rows with 3\.49; .*{FULL_RUN}"):
        warehouse.load(load)
    warehouse.sql("update orders set amount = 1.50 where id = 1")
    evidence = warehouse.load(load)
    assert (evidence.rows, evidence.totals, evidence.mirror) == (2, of_file, after)
