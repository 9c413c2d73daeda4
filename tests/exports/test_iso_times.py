"""Times in ISO 8601: PostgreSQL's own spelling with the zeros that it leaves out, compared with Python's."""

from datetime import datetime, timedelta

import asyncpg
import pytest

from longshore.database.pinned_settings import PINNED_SETTINGS
from longshore.exports.catalog import Field, FieldType
from longshore.exports.columns import Column
from tests.service import Longshore, in_own_loop

TIMES = [
    datetime(1, 1, 1),
    datetime(1, 1, 1, 0, 0, 0, 1),
    datetime(44, 3, 15, 12),
    datetime(1969, 12, 31, 23, 59, 59, 999_999),
    datetime(2024, 2, 29, 1, 2, 3),
    datetime(9999, 12, 31, 23, 59, 59, 999_999),
]
BEYOND = ["infinity", "-infinity", "10000-01-01 00:00:00", "0044-03-15 00:00:00 BC"]
FRACTIONS = [0, 1, 5, 9, 10, 15, 50, 95, 99, 100, 250, 500_000, 999_990, 999_995, 999_999, 123_456, 120_000, 90_909]


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
@pytest.mark.parametrize("sql", ["", "moment"])
def test_times_have_six_decimals_and_a_z_whatever_their_decimals_are(
    idle_service: Longshore, kind: str, sql: str
) -> None:
    times = [*TIMES, *(datetime(2024, 5, 6, 7, 8, 59) + timedelta(microseconds=fraction) for fraction in FRACTIONS)]
    column = Column("moment", Field(FieldType.DATE, "When.", sql=sql), "moment", kind)
    statement = f"select {column.copy_sql} from unnest($1::text[]::{kind}[]) as given (moment)"
    expected = [f"{time.isoformat(timespec='microseconds')}Z" for time in times]

    async def spelled() -> list[str]:
        connection = await asyncpg.connect(idle_service.url, server_settings=PINNED_SETTINGS)
        try:
            return [row[0] for row in await connection.fetch(statement, [*expected, *BEYOND])]
        finally:
            await connection.close()

    found = in_own_loop(spelled())
    assert found[: len(times)] == expected
    assert [text.replace("+00", "") for text in found[len(times) :]] == BEYOND
