"""Loads that are cut: whatever ends one, the table has all of its rows once or none, and the next try completes it."""

import asyncio
import io
import random
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

import asyncpg
import msgspec
import pytest

from longshore.destinations.kind import DestinationError, DestinationUnavailableError, TableLoad
from longshore.destinations.postgresql import place
from tests.debian_postgres import DebianPostgres
from tests.destinations.relay import Relay, relay
from tests.destinations.warehouse import ALLOW, KIND, Warehouse, a_load, as_tables
from tests.service import in_own_loop

COLUMNS = {"id": "int8", "name": "text"}
ROWS = [(str(number), f"name {number}") for number in range(2000)]
COUNT = "select count(*), count(distinct id), sum(id) from orders"
WHOLE = [(2000, 2000, 1_999_000)]
COMMIT = b"Q\x00\x00\x00\x0bcommit\x00"  # the message, as synchronous_commit has the word too
SESSIONS = "select count(*) from pg_stat_activity where usename = 'loader'"


@pytest.fixture
def through(warehouse: Warehouse, warehouse_server: DebianPostgres) -> Iterator[tuple[Warehouse, Relay]]:
    """The warehouse behind a relay, without TLS, so that the relay sees the messages."""
    with relay(warehouse_server.port) as passing:
        settings = msgspec.structs.replace(warehouse.settings, host="127.0.0.1", port=passing.port, sslmode="disable")
        yield Warehouse(warehouse.admin, settings, warehouse.secret), passing


def wait_for(warehouse: Warehouse, query: str, expected: Any) -> None:
    deadline = time.monotonic() + 20
    while (found := warehouse.sql(query)) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@pytest.mark.parametrize("mode", ["append", "replace", "merge"])
def test_connection_lost_before_the_commit_leaves_nothing(through: tuple[Warehouse, Relay], mode: str) -> None:
    warehouse, passing = through
    passing.lose_before = COMMIT
    load = a_load(COLUMNS, ROWS, mode)
    with pytest.raises(DestinationUnavailableError):
        warehouse.load(load)
    wait_for(warehouse, SESSIONS, [(0,)])
    assert warehouse.types() == {}
    passing.lose_before = None
    assert not warehouse.load(load).already_loaded
    assert warehouse.sql(COUNT) == WHOLE


@pytest.mark.parametrize("mode", ["append", "replace", "merge"])
def test_lost_answer_to_the_commit_is_resolved_by_the_line(through: tuple[Warehouse, Relay], mode: str) -> None:
    warehouse, passing = through
    passing.lose_answer_to = COMMIT
    load = a_load(COLUMNS, ROWS, mode)
    with pytest.raises(DestinationUnavailableError):
        warehouse.load(load)
    passing.lose_answer_to = None
    evidence = warehouse.load(load)
    assert (evidence.rows, evidence.already_loaded) == (2000, True)
    assert warehouse.sql(COUNT) == WHOLE


def test_open_place_connects_again_after_a_lost_connection(through: tuple[Warehouse, Relay]) -> None:
    warehouse, passing = through

    async def run() -> None:
        async with KIND.open(warehouse.settings, warehouse.secret, ALLOW) as opened:
            passing.lose_after_bytes = 20_000
            with pytest.raises(DestinationUnavailableError):
                await as_tables(opened).load(a_load(COLUMNS, ROWS))
            passing.lose_after_bytes = None
            await as_tables(opened).load(a_load(COLUMNS, ROWS))

    in_own_loop(run())
    assert warehouse.sql(COUNT) == WHOLE


@pytest.mark.parametrize("form", ["append", "replace", "merge"])
def test_backend_that_is_terminated_at_random_points_leaves_all_or_nothing(warehouse: Warehouse, form: Any) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    done = threading.Event()

    async def kill() -> None:
        connection = await asyncpg.connect(warehouse.admin)
        try:
            while not done.is_set():
                await asyncio.sleep(chance.uniform(0, 0.05))
                await connection.fetch(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'loader'"
                )
                await asyncio.sleep(0.12)
        finally:
            await connection.close()

    killer = threading.Thread(target=lambda: asyncio.run(kill()))
    killer.start()
    expected = 0
    try:
        for run in range(1, 6):
            load = a_load(COLUMNS, ROWS, form, run=run)
            for _ in range(200):
                try:
                    warehouse.load(load)
                    break
                except DestinationUnavailableError:
                    continue
            else:
                pytest.fail("no load completed")
            expected += 2000 if form == "append" else 0
            assert warehouse.sql(COUNT)[0][0] == (expected or 2000)
    finally:
        done.set()
        killer.join()
    assert warehouse.sql("select run, rows from _longshore_deliveries order by run") == [(n, 2000) for n in range(1, 6)]
    wait_for(warehouse, SESSIONS, [(0,)])


class Endless(msgspec.Struct, frozen=True):
    """A file of rows that never end; `sending` is set once some of them were read."""

    sending: Any
    size: int = 0
    sha256: bytes = b""

    def open(self) -> IO[bytes]:
        return Rows(self.sending)  # type: ignore[return-value]


class Rows(io.RawIOBase):
    def __init__(self, sending: threading.Event) -> None:
        super().__init__()
        self._sending, self._reads = sending, 0

    def read(self, _size: int = -1, /) -> bytes:
        self._reads += 1
        if self._reads > 20:
            self._sending.set()
        return b"id,name\n" if self._reads == 1 else b"1,name\n" * 50_000


def test_connection_that_is_lost_while_rows_are_sent_does_not_hang(warehouse: Warehouse) -> None:
    sending = threading.Event()

    def kill() -> None:
        sending.wait(60)
        warehouse.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'loader'")

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DestinationUnavailableError):
        warehouse.load(a_load(COLUMNS, ROWS, file=Endless(sending)))
    killer.join()


def test_cancelled_load_ends_its_session(warehouse: Warehouse) -> None:
    async def run() -> None:
        sending = threading.Event()
        loading = asyncio.ensure_future(warehouse.loaded(a_load(COLUMNS, ROWS, file=Endless(sending))))
        await asyncio.to_thread(sending.wait, 60)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading

    in_own_loop(run())
    wait_for(warehouse, SESSIONS, [(0,)])
    assert warehouse.types() == {}


class Broken(msgspec.Struct, frozen=True):
    """A file of the store that fails."""

    size: int = 0
    sha256: bytes = b""

    def open(self) -> IO[bytes]:
        raise FileNotFoundError("the store has lost it")


def test_error_of_the_file_is_not_taken_for_one_of_the_server(warehouse: Warehouse) -> None:
    with pytest.raises(FileNotFoundError, match="the store has lost it"):
        warehouse.load(a_load(COLUMNS, ROWS, file=Broken()))
    wait_for(warehouse, SESSIONS, [(0,)])


async def loads(warehouse: Warehouse, *some: TableLoad) -> list[Any]:
    return list(await asyncio.gather(*(warehouse.loaded(load) for load in some), return_exceptions=True))


@pytest.mark.parametrize("mode", ["append", "replace", "merge"])
def test_loads_at_once_into_one_table_wait_for_each_other(warehouse: Warehouse, mode: str) -> None:
    orders = [ROWS, ROWS[::-1], ROWS[1000:] + ROWS[:1000], ROWS[::2] + ROWS[1::2]]
    found = in_own_loop(loads(warehouse, *(a_load(COLUMNS, rows, mode, run=run) for run, rows in enumerate(orders, 1))))
    assert [evidence.rows for evidence in found] == [2000] * 4
    assert warehouse.sql(COUNT)[0][0] == (8000 if mode == "append" else 2000)
    assert warehouse.sql("select count(*) from _longshore_deliveries") == [(4,)]


def test_one_run_that_is_loaded_twice_at_once_is_there_once(warehouse: Warehouse) -> None:
    found = in_own_loop(loads(warehouse, *[a_load(COLUMNS, ROWS)] * 4))
    assert sorted(evidence.already_loaded for evidence in found) == [False, True, True, True]
    assert warehouse.sql(COUNT) == WHOLE


def test_loads_of_many_new_tables_at_once_share_the_table_of_deliveries(warehouse: Warehouse) -> None:
    found = in_own_loop(loads(warehouse, *(a_load(COLUMNS, ROWS[:5], table=f"t{number}") for number in range(6))))
    assert [evidence.rows for evidence in found] == [5] * 6


def test_lock_of_the_customer_is_waited_for_and_then_given_up(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "LOCK_TIMEOUT", "200ms")
    warehouse.load(a_load(COLUMNS, ROWS))

    async def run() -> None:
        connection = await asyncpg.connect(warehouse.admin)
        async with connection.transaction():
            await connection.execute(f'lock table "{warehouse.settings.schema}".orders in access exclusive mode')
            with pytest.raises(DestinationUnavailableError, match="55P03"):
                await warehouse.loaded(a_load(COLUMNS, ROWS, run=2))
        await connection.close()
        await warehouse.loaded(a_load(COLUMNS, ROWS, run=2))

    in_own_loop(run())
    assert warehouse.sql(COUNT)[0][0] == 4000


def test_table_that_changes_during_the_load_is_tried_again(warehouse: Warehouse) -> None:
    warehouse.sql("create table orders (id integer, name text); alter table orders owner to loader")

    async def run() -> None:
        connection = await asyncpg.connect(warehouse.admin)
        # The load waits for this lock after its rows are staged.
        lock = "select pg_advisory_lock(hashtextextended('longshore ' || $1 || '.orders', 0))"
        await connection.execute(lock.replace("$1", f"'{warehouse.settings.schema}'"))
        loading = asyncio.ensure_future(warehouse.loaded(a_load(COLUMNS, ROWS)))
        waits = "select count(*) from pg_stat_activity where usename = 'loader' and wait_event = 'advisory'"
        while not await connection.fetchval(waits):  # noqa: ASYNC110  # only the server knows
            await asyncio.sleep(0.01)
        await connection.execute(f'alter table "{warehouse.settings.schema}".orders alter id type numeric')
        await connection.close()
        with pytest.raises(DestinationUnavailableError, match="was changed during the load"):
            await loading

    in_own_loop(run())
    warehouse.load(a_load(COLUMNS, ROWS))
    assert warehouse.sql(COUNT) == WHOLE


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("1", "a"), ("x", "b")], 'type bigint: "x", .* line 3, column id.*22P02'),
        ([("1", "a"), ("9223372036854775808", "b")], "22003"),
    ],
)
def test_value_that_cannot_be_read_is_named_and_leaves_nothing(
    warehouse: Warehouse, rows: list[Any], message: str
) -> None:
    with pytest.raises(DestinationError, match=message):
        warehouse.load(a_load(COLUMNS, rows))
    assert warehouse.types() == {}
