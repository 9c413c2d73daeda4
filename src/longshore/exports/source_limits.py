"""Care for the source: how long an export may hold it, how far a replica may lag, how fast rows are taken."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from longshore.database.connect import Connection
from longshore.errors import LongshoreError, TransientError

# Seconds that a replica is behind: none where it has applied all that it was sent, however quiet its primary is. One
# that only reads archives is sent nothing, so that the age of its newest transaction has to do.
LAG = """
select case
    when not pg_is_in_recovery() or pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() then 0
    else coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()), 0)
end::float8
"""

LOOKS, LOOK = 3, 0.2  # how often lag is looked at before it counts, and seconds between

BURST = 1.0  # seconds whose bytes may come late and at once; what stood still for longer is not made up for

# A worker that was stopped, rather than killed, would hold its snapshot, and the source every old row, for ever.
IDLE = 3600  # seconds


class SnapshotTooOldError(LongshoreError):
    """An export held its snapshot for as long as it may."""


class LaggingError(TransientError):
    """The source is a replica that is too far behind."""


class SourceLimits(msgspec.Struct, frozen=True):
    """What the operator asks for; 0 is no limit."""

    snapshot_seconds: float = 0
    """How long an export may hold its snapshot."""
    lag_seconds: float = 0
    """How far behind a replica may be."""
    bytes_per_second: float = 0
    """What an export may write."""

    @contextlib.asynccontextmanager
    async def of_snapshot(self) -> AsyncIterator[None]:
        """Raise SnapshotTooOldError in what takes longer than a snapshot may be held."""
        try:
            async with asyncio.timeout(self.snapshot_seconds or None) as timeout:
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise SnapshotTooOldError(
                f"the export held its snapshot of the source for {self.snapshot_seconds:g} s, which is all that it may"
            ) from None

    async def refuse_lagging(self, connection: Connection) -> None:
        """Raise LaggingError where the source is a replica that is too far behind."""
        if not self.lag_seconds:
            return
        for _ in range(LOOKS):  # what a quiet primary has just sent is applied at the next look
            lag = await connection.fetchval(LAG)
            if lag <= self.lag_seconds:
                return
            await asyncio.sleep(LOOK)
        raise LaggingError(f"the source is a replica that is {lag:.0f} s behind, and may be {self.lag_seconds:g} s")


class Pace:
    """Keeps an export to so many bytes a second; 0 is no limit."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._shares = 1
        self._kept = 0
        self._next: float | None = None

    def share(self, shares: int) -> None:
        """Be one of so many that write the export at the same time."""
        self._shares = max(1, shares)

    async def keep(self, size: int) -> None:
        """Wait until so many bytes may have been written in all."""
        if not self._rate:
            return
        now = asyncio.get_running_loop().time()
        began = now if self._next is None else max(self._next, now - BURST)
        self._next = began + (size - self._kept) * self._shares / self._rate
        self._kept = size
        await asyncio.sleep(max(0.0, self._next - now))
