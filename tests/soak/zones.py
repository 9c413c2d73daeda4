"""Part of `make soak`: the intervals of schedules in all time zones, at each change of clocks within four years.

Zones whose clocks are the same in these years are tried once. SOAK_SEED repeats a run.
"""

import itertools
import os
import random
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.tasks.tiling import DAY, HOUR, assert_tiles, changes, intervals, schedules

YEARS = (2023, 2024, 2025, 2026)
SEED = int(os.environ.get("SOAK_SEED", random.randrange(2**32)))
LATE = (timedelta(0), timedelta(seconds=59), timedelta(minutes=1), timedelta(minutes=7), HOUR, 5 * HOUR, DAY, 16 * DAY)
Clock = tuple[tuple[datetime, timedelta | None], ...]


def clocks() -> dict[Clock, tuple[str, list[datetime]]]:
    """Return a zone of each clock, with the hours within which it changes."""
    found: dict[Clock, tuple[str, list[datetime]]] = {}
    for zone in sorted(zoneinfo.available_timezones() - {"localtime", "Factory"}):
        hours = [hour for year in YEARS for hour in changes(zone, year)]
        seen = (datetime(YEARS[0], 1, 1, tzinfo=UTC), *(hour + HOUR for hour in hours))
        found.setdefault(tuple((at, at.astimezone(ZoneInfo(zone)).utcoffset()) for at in seen), (zone, hours))
    return found


def main() -> None:
    """Try all clocks. Raises AssertionError."""
    dice, runs = random.Random(SEED), 0
    print(f"SOAK_SEED={SEED}", flush=True)

    def late() -> Iterator[timedelta]:
        while True:
            yield dice.choice(LATE) if dice.random() < 0.2 else timedelta(seconds=dice.random())

    all_clocks = clocks()
    for zone, hours in all_clocks.values():
        for moment in hours or [datetime(YEARS[0], 3, 1, tzinfo=UTC)]:
            for catch_up in ("all", "one", "none"):
                for schedule in schedules(zone, moment, itertools.repeat(catch_up)):
                    created = moment - 2 * DAY
                    found = intervals(schedule, created, moment + 2 * DAY, late())
                    runs += len(found)
                    if found:
                        assert_tiles(schedule, created, found)
    print(f"{len(all_clocks)} clocks, {runs:,} runs: their intervals leave no hole and do not overlap")


if __name__ == "__main__":
    main()
