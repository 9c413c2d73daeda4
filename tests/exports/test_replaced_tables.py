"""A table that is emptied, rewritten or replaced while an export begins: the export has the rows afterwards."""

import time
from collections.abc import Callable

import httpx2
import pytest

from tests.exports.incremental import Series, Session
from tests.service import Longshore

NEW = "insert into shop.replaced (id) select n from generate_series(101, 103) n"
CHANGES = {
    "emptied and filled again": ("truncate shop.replaced", NEW),
    "rewritten": ("delete from shop.replaced", NEW, "alter table shop.replaced alter column version type numeric"),
    "replaced by another of its name": (
        "alter table shop.replaced rename to replaced_old",
        "create table shop.replaced (like shop.replaced_old including all)",
        NEW,
    ),
}


TABLE = """
create table shop.replaced (
    id bigint, chain_id bigint default 1764, at timestamptz default now(), kind text default 'sale', version int
)
"""


@pytest.fixture(autouse=True)
def _new_table(shop: Longshore) -> None:
    for statement in ("drop table if exists shop.replaced, shop.replaced_old", TABLE):
        shop.sql(statement)
    shop.sql("insert into shop.replaced (id) values (1), (2)")


def waits_for_a_lock(session: Session) -> bool:
    return bool(session("select 1 from pg_locks where not granted and locktype = 'relation'"))


@pytest.mark.parametrize("change", CHANGES)
def test_an_export_that_waited_for_the_change_has_the_new_rows(
    client: httpx2.Client, session: Callable[[], Session], change: str
) -> None:
    writer, watcher = session(), session()
    series = Series(client, incremental=False, index="replaced")
    writer("begin")
    for statement in CHANGES[change]:
        writer(statement)
    assert client.patch(f"/tasks/{series.id}", json={"trigger": {"once": "2026-01-01T00:00:00Z"}}).status_code == 200
    deadline = time.monotonic() + 20
    while not waits_for_a_lock(watcher) and time.monotonic() < deadline:
        time.sleep(0.02)
    writer("commit")
    while (code := client.get(f"/tasks/{series.id}").json()["state"]["code"]) not in ("DONE", "ERROR"):
        assert time.monotonic() < deadline, code
        time.sleep(0.02)
    assert code == "DONE", series.messages()
    ids = sorted(line.split(b",")[0] for line in series.content().splitlines()[1:])
    assert ids == [b"101", b"102", b"103"], series.messages()


def test_an_export_goes_on_after_the_type_of_a_column_changed(shop: Longshore, client: httpx2.Client) -> None:
    series = Series(client, incremental=False, index="replaced")
    assert len(series.run()) == 2
    shop.sql("alter table shop.replaced alter column kind type varchar(20)")
    shop.sql("alter table shop.replaced alter column at type timestamp")
    assert len(series.run()) == 2
    shop.sql("alter table shop.replaced alter column kind type text")
    shop.sql("alter table shop.replaced alter column at type timestamptz")
    assert len(series.run()) == 2
