"""The bounds of ranges of a time column, so that each range has about as many rows.

They follow the estimates that the planner makes of the histograms of a table, or of those below a view. The calendar
alone would put all rows into one range where a single one is of the year 9999.
"""

from collections.abc import Awaitable, Callable
from itertools import pairwise

import msgspec

from longshore.database.connect import Connection

LAST_SECOND = 9e12  # after 1970, of a `timestamp`; a `date` reaches further
PARTS, MAX_DEPTH = 4, 16  # of a time that has too many rows: 4**16 parts of 10,000 years are minutes
# Of smaller parts; a planner that knows nothing of the times expects as many rows of any of them.
MIN_ESTIMATES, ESTIMATES_OF_RANGE = 500, 8

# Neither Python's calendar nor an interval of PostgreSQL spans dates of any year.
TIMES = "select to_timestamp(second)::text from unnest($1::float8[]) with ordinality t (second, number) order by number"

Estimate = Callable[[str, str], Awaitable[int]]
"""Returns the rows that the planner expects between two times, as PostgreSQL writes them."""


class _Part(msgspec.Struct, frozen=True):
    """A part of the times, in seconds after 1970."""

    first: float
    last: float
    end: str
    """Its last time, as PostgreSQL writes it."""
    rows: int


async def time_cuts(
    connection: Connection, estimate: Estimate, extent: tuple[float, float], expected: int, count: int
) -> list[str]:
    """Return the times, as PostgreSQL writes them, that cut the expected rows into about `count` ranges.

    `extent`: the first and the last of the chain's times, in seconds after 1970.
    """

    async def cut(part: _Part, number: int) -> list[_Part]:
        """Return a part in `number` parts of the same length."""
        seconds = [part.first + (part.last - part.first) * step / number for step in range(number + 1)]
        times = [row[0] for row in await connection.fetch(TIMES, seconds)]
        rows = [await estimate(low, high) for low, high in pairwise(times)]
        return [_Part(*each) for each in zip(seconds[:-1], seconds[1:], times[1:], rows, strict=True)]

    first, last = (min(second, LAST_SECOND) for second in extent)
    found = await cut(_Part(first, last, "", expected), 2 * count)
    left = max(MIN_ESTIMATES, ESTIMATES_OF_RANGE * count)
    for _ in range(MAX_DEPTH):
        smaller: list[_Part] = []
        for part in found:
            is_cut = part.rows > expected / count and left > 0
            left -= PARTS if is_cut else 0
            smaller += await cut(part, PARTS) if is_cut else [part]
        if len(smaller) == len(found):
            break
        found = smaller
    enough = sum(part.rows for part in found) / count
    cuts: list[str] = []
    collected = 0
    for part, following in pairwise(found):
        collected += part.rows
        if collected + following.rows / 2 >= enough:  # the end of this part is nearer than that of the next one
            cuts.append(part.end)
            collected = 0
    return cuts
