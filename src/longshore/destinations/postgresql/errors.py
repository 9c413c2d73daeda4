"""Errors of a destination's server: which another attempt may mend, and what to change for the others.

See https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import contextlib
import ssl
from collections.abc import Iterator

import asyncpg
import msgspec

from longshore.destinations.kind import DestinationError, DestinationUnavailableError

MAX_CONTEXT_CHARACTERS = 200


class SqlstateMeaning(msgspec.Struct, frozen=True):
    """The meaning of an SQLSTATE, or of a class of them."""

    is_transient: bool
    """Whether another attempt may succeed."""
    advice: str = ""


TRANSIENT = SqlstateMeaning(True)
PERMANENT = SqlstateMeaning(False)

MEANINGS: dict[str, SqlstateMeaning] = {
    "08": TRANSIENT,  # the connection was lost, or a pooler has none
    "40": TRANSIENT,  # rolled back: deadlock, serialization failure
    "53": TRANSIENT,  # too many connections, out of memory, disk full
    "55": TRANSIENT,  # in use, lock timeout
    "57": TRANSIENT,  # starting up, shutting down, cancelled by an administrator
    "58": TRANSIENT,  # an input or output error of the server
    "25006": SqlstateMeaning(
        True, "the server or the role is read-only: connect to the primary, or lift the role's default"
    ),
    "25P03": TRANSIENT,
    "25P04": TRANSIENT,
    "0A000": SqlstateMeaning(False, "something depends on the column, such as a view, or the table cannot do it"),
    "22021": SqlstateMeaning(False, "the encoding of the database cannot hold the text"),
    "22P05": SqlstateMeaning(False, "the encoding of the database cannot hold a character of the text"),
    "23502": SqlstateMeaning(False, "give the column a default, or let it be NULL"),
    "23503": SqlstateMeaning(
        False, "rows of another table refer to rows that the load removes, or the other way round"
    ),
    "23505": SqlstateMeaning(False, "a unique index of the table does not allow rows of the load"),
    "23514": SqlstateMeaning(False, "a check of the table, or a missing partition, does not allow rows of the load"),
    "28000": SqlstateMeaning(
        False, "check the username, and that pg_hba.conf of the server admits it with this sslmode"
    ),
    "28P01": SqlstateMeaning(False, "check the username and the password"),
    "3D000": SqlstateMeaning(False, "create the database, or correct the setting database"),
    "3F000": SqlstateMeaning(False, "create the schema, or correct the setting schema"),
    "42501": SqlstateMeaning(False, "grant the role the right, or let a policy of the table admit its rows"),
    "42701": SqlstateMeaning(False, "choose another name for the column in fields"),
}
"""By SQLSTATE, else by its class; all others stay."""


def meaning_of(sqlstate: str | None) -> SqlstateMeaning:
    """Return the meaning of an SQLSTATE."""
    code = sqlstate or ""
    return MEANINGS.get(code) or MEANINGS.get(code[:2]) or PERMANENT


@contextlib.contextmanager
def server_errors(where: str) -> Iterator[None]:
    """Raise DestinationError or DestinationUnavailableError for errors of a server. `where`: begins their messages."""
    try:
        yield
    except (DestinationError, DestinationUnavailableError):
        raise
    except asyncpg.PostgresError as error:
        meaning = meaning_of(error.sqlstate)
        raise _error(where, meaning.is_transient, _sentence(error, meaning)) from None
    except ssl.SSLCertVerificationError as error:
        advice = "set sslrootcert to the certificate of its authority, and host to a name that it is for"
        raise DestinationError(
            f"{where}: the server's certificate is refused: {error.verify_message}; {advice}"
        ) from None
    except asyncpg.InterfaceError as error:
        raise _error(where, not _is_unsupported(error), str(error)) from None
    except asyncpg.InternalClientError as error:  # of a connection that was lost between two statements
        raise _error(where, True, str(error)) from None
    except OSError as error:
        refused = "rejected SSL upgrade" in str(error)  # asyncpg has no class for it
        reason = "the server does not offer TLS; see sslmode" if refused else str(error) or type(error).__name__
        raise _error(where, not refused, reason) from None


@contextlib.contextmanager
def needing(right: str, grant: str) -> Iterator[None]:
    """Raise DestinationError that names a right where a statement lacks it. `grant`: gives the right."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise DestinationError(f"the role lacks the right to {right}: {grant} ({error.message})") from None


def _error(where: str, is_transient: bool, reason: str) -> Exception:
    return (DestinationUnavailableError if is_transient else DestinationError)(f"{where}: {reason}")


def _is_unsupported(error: asyncpg.InterfaceError) -> bool:
    """Return whether asyncpg cannot do what a server asks for, such as GSSAPI, or was given a wrong value."""
    return isinstance(error, asyncpg.ClientConfigurationError | asyncpg.DataError) or "not found" in str(error)


def _sentence(error: asyncpg.PostgresError, meaning: SqlstateMeaning) -> str:
    """Return the server's message without its detail, which may show a row.

    An error in the data of a COPY also names line, column and value.
    """
    context = str(error.context or "") if (error.sqlstate or "").startswith("22") else ""
    shown = f", {context[:MAX_CONTEXT_CHARACTERS]}" if context else ""
    advice = f"; {meaning.advice}" if meaning.advice else ""
    said = error.message or str(error)  # asyncpg itself raises some of a lost connection
    return f"{said}{shown} (SQLSTATE {error.sqlstate}){advice}"
