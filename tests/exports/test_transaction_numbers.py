"""A watermark is valid for one history of one table; and 32 bits of a transaction's number suffice."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx2
import pytest

from longshore.exports.increments.transactions import XID_MODULUS, Watermark, condition
from tests.exports.incremental import Series, Session
from tests.service import Longshore

Sessions = Callable[[], Session]


def mark(xid: int) -> Watermark:
    return Watermark(system=1, timeline=1, database=1, relation=1, xid=xid)


def taken(url: str, began: int | None, ended: int, next_xid: int, xids: list[int]) -> list[int]:
    """Return the transactions whose rows PostgreSQL takes, by the 32 bits of `xmin`."""
    found = condition(began if began is None else mark(began), mark(ended), next_xid, first=2)

    async def ask() -> list[int]:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(
                "select number from unnest($1::bigint[]) number, lateral (select (number % 4294967296)::text::xid) "
                f"as row(xmin) where {found.sql}",
                xids,
                *found.values,
            )
            return [row["number"] for row in rows]
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "base", [1000, 2**31, XID_MODULUS - 5, XID_MODULUS, XID_MODULUS + 3, 7 * XID_MODULUS - 4, 7 * XID_MODULUS + 2**31]
)
def test_an_increment_takes_the_transactions_from_one_watermark_to_the_other(shop: Longshore, base: int) -> None:
    xids = list(range(base, base + 20))
    assert taken(shop.url, base + 4, base + 12, base + 20, xids) == list(range(base + 4, base + 12))
    assert taken(shop.url, None, base + 12, base + 20, xids) == list(range(base, base + 12))
    assert taken(shop.url, None, base + 20, base + 20, xids) == xids
    assert taken(shop.url, base + 20, base + 20, base + 20, xids) == []


def test_rows_almost_2_to_the_32_transactions_old_are_compared_exactly(shop: Longshore) -> None:
    began, ended = 9 * XID_MODULUS + 500, 9 * XID_MODULUS + 700
    old = [began - 1, began - 2**31, began - 2**31 - 1, began - 3 * 2**30, ended - XID_MODULUS, ended - XID_MODULUS + 1]
    assert taken(shop.url, began, ended, ended + 9, old) == []


def test_a_long_time_between_two_runs_leaves_no_gap(shop: Longshore) -> None:
    began = 3 * XID_MODULUS + 17
    ended = began + XID_MODULUS - 10
    xids = [began - 3, began, began + 2**31, ended - 1, ended, ended + 3]
    assert taken(shop.url, began, ended, ended + 5, xids) == xids[1:4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system": 12}, "another database"),
        ({"database": 12}, "another database"),
        ({"timeline": 2}, "restored or promoted since the watermark"),
        ({"relation": 12}, "another table"),
        ({"xid": 2**40}, "is older than the watermark"),
        ({"xid": -(2**40)}, "transactions old"),
    ],
)
def test_a_watermark_of_another_history_is_refused(
    shop: Longshore, client: httpx2.Client, session: Sessions, change: dict[str, Any], message: str
) -> None:
    session().insert(1)
    series = Series(client)
    series.run()
    kept = shop.sql("select watermark from longshore.tasks where id = $1", series.id)[0]["watermark"]
    changed = json.dumps(json.loads(kept) | change)
    shop.sql("update longshore.tasks set watermark = $2 where id = $1", series.id, changed)
    assert series.execute() == "ERROR"
    assert message in series.messages()[-2]
    assert "have the task run in full" in series.messages()[-2]
    shop.sql("update longshore.tasks set watermark = $2 where id = $1", series.id, kept)
    assert series.ids() == []


def test_a_table_that_replaced_another_one_is_refused(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client)
    writer.insert(1)
    writer("create table shop.other (like shop.entries including all)")
    writer("insert into shop.other (id) values (2)")
    series.run()
    writer("alter table shop.entries rename to retired")
    writer("alter table shop.other rename to entries")
    try:
        assert series.execute() == "ERROR"
        assert "shop.entries is another table" in series.messages()[-2]
    finally:
        writer("alter table shop.entries rename to other")
        writer("alter table shop.retired rename to entries")
        writer("drop table shop.other")
    assert series.ids() == []


def test_a_rewritten_table_is_exported_whole_again(client: httpx2.Client, session: Sessions) -> None:
    writer, series = session(), Series(client)
    writer.insert(1, 2)
    series.run()
    writer("alter table shop.entries add drawn float default random()")
    writer("alter table shop.entries drop drawn")
    assert series.ids() == [1, 2]
