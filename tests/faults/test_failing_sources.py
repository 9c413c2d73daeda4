"""A source that fails for good is an error at once, one that may come back gets three attempts (promise 7)."""

import itertools
import re

import asyncpg
import httpx2

from longshore.database.connect import Pool
from longshore.exports.run_errors import describe_error, is_retryable
from longshore.exports.snapshot import SourceConnections
from tests.faults.attempts import with_pool
from tests.faults.conftest import Create
from tests.faults.held import CATALOG, ROWS, Hold, assert_whole, cut_off, files_of, messages, write_catalog
from tests.service import Longshore, ended


def test_a_column_that_does_not_exist_is_an_error_at_once(
    service: Longshore, client: httpx2.Client, create: Create
) -> None:
    write_catalog(service, CATALOG.replace("note = {", "remark = {"))
    worker = service.start("worker")
    try:
        found = ended(client, create())
    finally:
        write_catalog(service, CATALOG)
        worker.terminate()
        worker.wait(20)
    assert found["state"]["code"] == "ERROR"
    first, failed, last = messages(found)
    assert (first, last) == ("READY -> INPROGRESS", "INPROGRESS -> ERROR")
    assert failed == 'failed: the source refused the query: column "remark" does not exist'


def test_a_source_that_cuts_each_connection_gets_three_attempts(
    service: Longshore, client: httpx2.Client, create: Create
) -> None:
    worker = service.start("worker")
    with Hold.row(service, ROWS // 2) as hold:
        task = create()
        for _ in range(3):
            cut_off(service, hold.reached())
        found = ended(client, task)
    assert found["state"]["code"] == "ERROR"
    lost = r"failed: the connection to the source was lost \(.*terminating connection due to administrator command\)"
    expected = [
        "READY -> INPROGRESS",
        rf"attempt 1 {lost}; the next one begins in 1 s",
        "attempt 2 begins",
        rf"attempt 2 {lost}; the next one begins in 5 s",
        "attempt 3 begins",
        lost,
        "INPROGRESS -> ERROR",
    ]
    assert len(found["logs"]) == len(expected)
    for message, pattern in zip(messages(found), expected, strict=True):
        assert re.fullmatch(pattern, message), message
    began = "select at from longshore.task_logs where task_id = $1 and msg ~ 'INPROGRESS$|begins$' order by seq"
    moments = [row["at"] for row in service.sql(began, task)]
    pauses = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(moments)]
    assert pauses[0] >= 1
    assert pauses[1] >= 5
    assert files_of(service, task) == []

    assert client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
    found = ended(client, task)
    assert messages(found)[-3:] == ["ERROR -> INPROGRESS", "success", "INPROGRESS -> DONE"]
    assert_whole(service, client, found)
    worker.terminate()
    assert worker.wait(20) == 0


def test_value_that_the_driver_refuses_is_a_permanent_error(service: Longshore) -> None:
    async def refused(pool: Pool) -> Exception:
        try:
            await pool.fetchval("select $1::int", 2**40)
        except asyncpg.DataError as error:
            return error
        raise AssertionError("2**40 was taken for an int")

    error = with_pool(service, refused)
    assert not is_retryable(error)
    assert describe_error(error).startswith("the source refused the query: ")


def test_a_source_that_goes_away_after_the_last_row_costs_nothing(service: Longshore) -> None:
    async def steps(pool: Pool) -> None:
        database = SourceConnections(pool, 0)
        async with database.snapshot() as (connection, _):
            pid = await connection.fetchval("select pg_backend_pid()")
            await pool.execute("select pg_terminate_backend($1, 5000)", pid)
        async with database.snapshot() as (connection, _):
            assert await connection.fetchval("select pg_backend_pid()") != pid

    with_pool(service, steps)
