"""Errors that end an attempt: whether it is retried, and the sentence for the task's log."""

import errno
import re

import asyncpg

from longshore.database.retry import is_transient
from longshore.errors import LongshoreError, TransientError, first_line

# Errors of what conflicts with the recovery of a standby, in the language of `lc_messages`. Exports only read, and
# not serializably, so nothing else that PostgreSQL does ends them in one of these (a function of a view might).
# https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT
CONFLICTS = (asyncpg.SerializationError, asyncpg.DatabaseDroppedError)
# A deadlock of buffers with the recovery has the code of all deadlocks, and is known by its English message alone.
CONFLICT = "conflict with recovery"
# asyncpg's own message for a connection that the server closed while it was idle; the server's own reason is lost.
RELEASED = "connection has been released back to the pool"

# Data exceptions and violated constraints: their messages quote values of any row that PostgreSQL looked at, be it of
# another chain or of a hidden column. https://www.postgresql.org/docs/current/errcodes-appendix.html
QUOTING_CLASSES = ("22", "23")


def is_retryable(error: BaseException) -> bool:
    """Return whether another attempt may succeed."""
    return is_transient(error) or isinstance(error, OSError | TransientError)


def describe_error(error: BaseException, *, of_export: bool = True) -> str:
    """Return a sentence about the error for the task's log. `of_export`: it ended an export."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk for results is full"
    if isinstance(error, LongshoreError):
        return str(error)
    if not of_export:
        return describe_unknown_error(error)
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return f"the database is read-only ({error})"
    if isinstance(error, CONFLICTS) or (isinstance(error, asyncpg.DeadlockDetectedError) and CONFLICT in str(error)):
        return f"the source is a standby and cancelled the export for a recovery conflict ({error.detail or error})"
    if isinstance(error, asyncpg.PostgresError) and not is_transient(error):
        return f"the source refused the query: {reason(error)}"
    if isinstance(error, asyncpg.InterfaceError) and RELEASED in str(error):
        return "the connection to the source was lost (its server stopped, or is a standby with a recovery conflict)"
    if is_transient(error) and getattr(error, "filename", None) is None:
        return f"the connection to the source was lost ({error or type(error).__name__})"
    if isinstance(error, OSError):
        return f"the result could not be written: {error.strerror}"
    return describe_unknown_error(error)


def describe_unknown_error(error: BaseException) -> str:
    """Return the type and the message of an error, without the names of files of this machine."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def reason(error: asyncpg.PostgresError) -> str:
    """Return the message of a source's error without the values that it quotes, as all of the chain may see it."""
    if (error.sqlstate or "").startswith(QUOTING_CLASSES):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
        return f"{words} (SQLSTATE {error.sqlstate})"
    return first_line(error)
