"""The bounds of ranges of a time column, so that each range has about as many rows.

They follow PostgreSQL's histogram of the column where it has one, and the calendar elsewhere: a single row of the year
9999 must not put all others into one range. https://www.postgresql.org/docs/current/view-pg-stats.html
"""

from longshore.database.connect import Connection
from longshore.exports.catalog import Index

LAST_SECOND = 9e12  # after 1970, of a `timestamp`; a `date` reaches further

HISTOGRAM = """
select pg_catalog.format_type(a.atttypid, null) as type, s.histogram_bounds::text as bounds
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = $2::text
join pg_catalog.pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = a.attname
where c.oid = $1::text::regclass and s.histogram_bounds is not null
order by s.inherited desc
limit 1
"""

# The bounds are values of the column's own type, as a `date` may be one that no `timestamp` is.
BETWEEN = """
select second::float8
from unnest($1::text::{}[]) bound, extract(epoch from bound) second
where second::float8 > $2::float8 and second::float8 < $3::float8
order by second
"""

# Neither Python's calendar nor an interval of PostgreSQL spans dates of any year.
TIMES = "select to_timestamp(second)::text from unnest($1::float8[]) with ordinality t (second, number) order by number"


async def time_cuts(connection: Connection, index: Index, first: float, last: float, count: int) -> list[str]:
    """Return the times, as PostgreSQL writes them, that cut a time column into `count` ranges.

    `first`, `last`: of the chain's times, in seconds after 1970.
    """
    first, last = min(first, LAST_SECOND), min(last, LAST_SECOND)
    knots = [first, *await _between(connection, index, first, last), last]
    cuts = []
    for number in range(1, count):
        step, rest = divmod(number * (len(knots) - 1), count)
        cuts.append(knots[step] + (knots[step + 1] - knots[step]) * rest / count)
    return [row[0] for row in await connection.fetch(TIMES, cuts)]


async def _between(connection: Connection, index: Index, first: float, last: float) -> list[float]:
    """Return the bounds of the column's histogram between two times, in order; none without a histogram."""
    histogram = await connection.fetchrow(HISTOGRAM, index.regclass, index.time)
    if histogram is None:
        return []
    rows = await connection.fetch(BETWEEN.format(histogram["type"]), histogram["bounds"], first, last)
    return [row[0] for row in rows]
