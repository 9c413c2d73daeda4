"""Messages of the source's errors, as every credential of the chain may see them."""

import re

import asyncpg

from longshore.errors import first_line

# Data exceptions and violated constraints: their messages quote values of any row that PostgreSQL looked at, be it of
# another chain or of a hidden column. https://www.postgresql.org/docs/current/errcodes-appendix.html
QUOTING_CLASSES = ("22", "23")


def reason(error: asyncpg.PostgresError) -> str:
    """Return the message of the source, without the values that it quotes."""
    if (error.sqlstate or "").startswith(QUOTING_CLASSES):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
        return f"{words} (SQLSTATE {error.sqlstate})"
    return first_line(error)
