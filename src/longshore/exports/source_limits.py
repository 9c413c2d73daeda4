"""Limits that protect the source: the age of a snapshot, the lag of a standby, the bytes per second of an export."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import msgspec

from longshore.database.connect import Connection
from longshore.errors import LongshoreError, TransientError, first_line

# Seconds that a standby is behind: 0 if it has applied everything that it was sent, however quiet its primary is. A
# standby that only reads archives is sent nothing, so its lag is the age of its newest transaction.
LAG = """
select case
    when not pg_is_in_recovery() or pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() then 0
    else coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()), 0)
end::float8
"""

LAG_CHECKS, LAG_PAUSE_SECONDS = 3, 0.2  # the lag must be too large in all of these checks

BURST_SECONDS = 1.0  # an export that was slower may catch up with so many seconds' bytes at once

# A worker that is suspended, rather than killed, would hold its snapshot, and the source every old row, for ever.
IDLE_SECONDS = 3600


class SourceLimits(msgspec.Struct, frozen=True):
    """The operator's limits; 0 is no limit."""

    snapshot_seconds: float = 0
    """The time for which an export may hold its snapshot."""
    lag_seconds: float = 0
    """The lag of a standby at which exports wait."""
    bytes_per_second: float = 0
    """The rate at which an export may write."""

    @contextlib.asynccontextmanager
    async def of_snapshot(self) -> AsyncIterator[None]:
        """Raise LongshoreError if the block takes longer than a snapshot may be held."""
        try:
            async with asyncio.timeout(self.snapshot_seconds or None) as timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise LongshoreError(
                f"the export held its snapshot of the source for {self.snapshot_seconds:g} s, the most that is allowed"
            ) from None

    async def refuse_lagging(self, connection: Connection) -> None:
        """Raise TransientError where the source is a standby that is too far behind."""
        if not self.lag_seconds:
            return
        for _ in range(LAG_CHECKS):  # a change that a quiet primary has just sent is applied by the next check
            lag = await standby_lag(connection)
            if lag <= self.lag_seconds:
                return
            await asyncio.sleep(LAG_PAUSE_SECONDS)
        raise TransientError(f"the source is a standby that is {lag:.0f} s behind, and may be {self.lag_seconds:g} s")


async def standby_lag(connection: Connection) -> float:
    """Return the seconds that a standby is behind. Raises LongshoreError where it does not know, as on Aurora."""
    try:
        lag: float = await connection.fetchval(LAG)
    except asyncpg.FeatureNotSupportedError as error:
        raise LongshoreError(
            f"the lag of this standby is not known ({first_line(error)}); set LONGSHORE_SOURCE_LAG_SECONDS=0"
        ) from error
    return lag


class Throttle:
    """Holds an export to a number of bytes per second; 0 is no limit."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._shares = 1
        self._next: float | None = None
        """When the next byte may be written."""

    def share(self, shares: int) -> None:
        """Divide the rate by the number of workers that write the export at the same time."""
        self._shares = max(1, shares)

    def count(self, more: int) -> None:
        """Count bytes that were written since the last ones were counted; the next `keep` waits for these too."""
        if self._rate:
            now = asyncio.get_running_loop().time()
            began = now if self._next is None else max(self._next, now - BURST_SECONDS)
            self._next = began + more * self._shares / self._rate

    async def keep(self, more: int) -> None:
        """Count bytes as `count` does, and wait until all that were counted may have been written."""
        self.count(more)
        if self._next is not None:
            await asyncio.sleep(max(0.0, self._next - asyncio.get_running_loop().time()))
