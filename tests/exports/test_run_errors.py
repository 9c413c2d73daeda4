"""The sentences in a task's log for the errors that end an attempt."""

import asyncio

import asyncpg
import pytest

from longshore.exports.run_errors import describe_error, is_retryable
from tests.service import Longshore

RAISE = """
do $$
begin
    raise sqlstate '%s' using message = '%s', detail = '%s';
end
$$
"""


async def raised(shop: Longshore, sqlstate: str, message: str, detail: str) -> asyncpg.PostgresError:
    """Return an error as PostgreSQL sends it."""
    connection = await asyncpg.connect(shop.url)
    try:
        await connection.execute(RAISE % (sqlstate, message, detail))
    except asyncpg.PostgresError as error:
        return error
    finally:
        await connection.close()
    raise AssertionError("no error")


@pytest.mark.parametrize("sqlstate", ["40001", "57P04"])
def test_recovery_conflict_of_a_standby_is_named_in_any_language_of_its_messages(
    shop: Longshore, sqlstate: str
) -> None:
    message = "storniere Anfrage wegen Konflikt mit der Wiederherstellung"
    error = asyncio.run(raised(shop, sqlstate, message, "Eine Zeile wird nicht mehr gebraucht."))
    assert describe_error(error) == (
        "the source is a standby and cancelled the export for a recovery conflict"
        " (Eine Zeile wird nicht mehr gebraucht.)"
    )
    assert is_retryable(error)


def test_buffer_deadlock_with_the_recovery_of_a_standby_is_a_recovery_conflict(shop: Longshore) -> None:
    detail = "User transaction caused buffer deadlock with recovery."
    error = asyncio.run(raised(shop, "40P01", "canceling statement due to conflict with recovery", detail))
    assert describe_error(error) == (
        f"the source is a standby and cancelled the export for a recovery conflict ({detail})"
    )
    assert is_retryable(error)
