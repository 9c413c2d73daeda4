"""The bounds of ranges of a time column, so that each range has about as many rows.

They follow the estimates that the planner makes of the histograms of a table, or of those below a view. The calendar
alone would put all rows into one range where a single one is of the year 9999.
"""

from collections.abc import Awaitable, Callable
from itertools import pairwise

from longshore.database.connect import Connection

LAST_SECOND = 9e12  # after 1970, of a `timestamp`; a `date` reaches further
PARTS, MAX_DEPTH = 4, 16  # of a time that has too many rows: 4**16 parts of 10,000 years are minutes

# Neither Python's calendar nor an interval of PostgreSQL spans dates of any year.
TIMES = "select to_timestamp(second)::text from unnest($1::float8[]) with ordinality t (second, number) order by number"

Estimate = Callable[[str, str], Awaitable[int]]
"""Returns the rows that the planner expects between two times, as PostgreSQL writes them."""


async def time_cuts(
    connection: Connection, estimate: Estimate, extent: tuple[float, float], expected: int, count: int
) -> list[str]:
    """Return the times, as PostgreSQL writes them, that cut the expected rows into about `count` ranges.

    `extent`: the first and the last of the chain's times, in seconds after 1970.
    """

    async def parts(first: float, last: float, number: int, depth: int) -> list[tuple[str, int]]:
        """Return the ends of at least `number` parts that have not too many rows, and the rows of each."""
        seconds = [first + (last - first) * part / number for part in range(number + 1)]
        times = [row[0] for row in await connection.fetch(TIMES, seconds)]
        found: list[tuple[str, int]] = []
        for (begin, end), (low, high) in zip(pairwise(seconds), pairwise(times), strict=True):
            rows = await estimate(low, high)
            if rows > expected / count and depth < MAX_DEPTH:
                found += await parts(begin, end, PARTS, depth + 1)
            else:
                found.append((high, rows))
        return found

    first, last = (min(second, LAST_SECOND) for second in extent)
    found = await parts(first, last, 2 * count, 1)
    enough = sum(rows for _, rows in found) / count
    cuts: list[str] = []
    collected = 0
    for time, rows in found[:-1]:
        collected += rows
        if collected >= enough:
            cuts.append(time)
            collected = 0
    return cuts
