"""The sentences in a task's log for the errors that end an attempt."""

import asyncio

import asyncpg
import pytest

from longshore.exports.run_errors import describe_error, is_retryable
from tests.service import Longshore

RAISE = """
do $$
begin
    raise sqlstate '%s' using message = 'storniere Anfrage wegen Konflikt mit der Wiederherstellung', detail = '%s';
end
$$
"""


@pytest.mark.parametrize("sqlstate", ["40001", "57P04"])
def test_recovery_conflict_of_a_standby_is_named_in_any_language_of_its_messages(
    shop: Longshore, sqlstate: str
) -> None:
    async def refused() -> asyncpg.PostgresError:
        connection = await asyncpg.connect(shop.url)
        try:
            await connection.execute(RAISE % (sqlstate, "Eine Zeile wird nicht mehr gebraucht."))
        except asyncpg.PostgresError as error:
            return error
        finally:
            await connection.close()
        raise AssertionError("no error")

    error = asyncio.run(refused())
    assert describe_error(error) == (
        "the source is a standby and cancelled the export for a recovery conflict"
        " (Eine Zeile wird nicht mehr gebraucht.)"
    )
    assert is_retryable(error)
