"""Time zones of the source, whose PostgreSQL has names and rules of its own, older or newer than Python's."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import asyncpg

from longshore.database.connect import Connection
from longshore.errors import LongshoreError
from longshore.tasks.model import Interval

OFFSETS = """
select (extract(epoch from (moment at time zone $1) - (moment at time zone 'UTC')))::int
from unnest($2::timestamptz[]) with ordinality given (moment, number)
order by number
"""

HALF_YEAR = timedelta(days=183)  # so that one moment is in summer and one in winter


async def refuse_unlike(connection: Connection, zone: str, interval: Interval) -> None:
    """Raise LongshoreError where the source does not know a time zone, or has other rules of it than the service.

    The rules are compared at the ends of a data interval, which the service has computed, and half a year before.
    """
    major, minor, *_ = connection.get_server_version()
    server = f"the source (PostgreSQL {major}.{minor})"
    moments = [at for at in (interval.end - HALF_YEAR, interval.start, interval.end) if at is not None]
    try:
        rows = await connection.fetch(OFFSETS, zone, moments)
    except asyncpg.InvalidParameterValueError as error:
        raise LongshoreError(
            f"{server} does not know the time zone {zone}, by which `partition_by` divides dates; choose a name from"
            " its view pg_timezone_names, or install its missing names, as by Debian's package tzdata-legacy"
        ) from error
    for moment, (seconds,) in zip(moments, rows, strict=True):
        offset = moment.astimezone(ZoneInfo(zone)).utcoffset()
        if offset != timedelta(seconds=seconds):
            raise LongshoreError(
                f"{server} has other rules of the time zone {zone} than the service, so `partition_by` would put rows"
                f" into the folder of another day: at {moment:%Y-%m-%dT%H:%M:%SZ} it is {timedelta(seconds=seconds)}"
                f" ahead of UTC there and {offset} here; update the time zones of the one that is older, or choose"
                " a zone by its region and city"
            )
