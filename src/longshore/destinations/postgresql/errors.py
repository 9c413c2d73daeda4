"""Errors of a destination's server: which another attempt may mend, and what to change for the others.

See https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import contextlib
import re
import ssl
from collections.abc import Iterator

import asyncpg

from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.destinations.servers import tls_error

MAX_CONTEXT_CHARACTERS = 200


# Classes of errors that another attempt may mend (lost connection, rollback, no room, start or shutdown, input and
# output), and single ones: read-only, timeouts, in use.
TRANSIENT = ("08", "40", "53", "57", "58", "25006", "25P03", "25P04", "55006", "55P03")

ADVICE = {
    "25006": "the server or the role is read-only: connect to the primary, or lift the role's default",
    "0A000": "something depends on the column, such as a view, or the table cannot do it",
    "22021": "the encoding of the database cannot hold the text",
    "22P05": "the encoding of the database cannot hold a character of the text",
    "23502": "give the column a default, or let it be NULL",
    "23503": "rows of another table refer to rows that the load removes, or the other way round",
    "23505": "a unique index of the table does not allow rows of the load",
    "23514": "a check of the table, or a missing partition, does not allow rows of the load",
    "28000": "check the username, and that pg_hba.conf of the server admits it with this sslmode",
    "28P01": "check the username and the password",
    "3D000": "create the database, or correct the setting database",
    "3F000": "create the schema, or correct the setting schema",
    "42501": "grant the role the right, or let a policy of the table admit its rows",
    "42701": "choose another name for the column in fields",
    "55000": "of a table that is published: add a primary key, or alter table … replica identity full",
}
"""By SQLSTATE."""

STAGING_NAME = "_longshore_staging"
"""The temporary table of a load's rows, whose key refuses NULL and duplicates."""
KEY_ADVICE = "rows of the result have no key, or the same one: correct the index's `key` in the catalog, or its rows"

# Messages of asyncpg, which has no class for what it cannot do, such as GSSAPI.
UNSUPPORTED = re.compile("module not found|^unsupported |could not verify server signature")


def is_transient(sqlstate: str | None) -> bool:
    """Return whether another attempt may succeed."""
    return (sqlstate or "").startswith(TRANSIENT)


@contextlib.contextmanager
def server_errors(where: str) -> Iterator[None]:
    """Raise DestinationError or DestinationUnavailableError for errors of a server. `where`: begins their messages."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _error(where, is_transient(error.sqlstate), _sentence(error)) from None
    except ssl.SSLCertVerificationError as error:
        advice = "set sslrootcert to the certificate of its authority, and host to a name that it is for"
        raise DestinationError(
            f"{where}: the server's certificate is refused: {error.verify_message}; {advice}"
        ) from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:  # most are of a lost connection
        wrong = isinstance(error, asyncpg.ClientConfigurationError | asyncpg.DataError)
        raise _error(where, not wrong and not UNSUPPORTED.search(str(error)), str(error)) from None
    except ssl.SSLError as error:
        raise tls_error(error, where) from None
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


def _sentence(error: asyncpg.PostgresError) -> str:
    """Return the server's message without its detail, which may show a row.

    An error in the data of a COPY also names line, column and value.
    """
    code = error.sqlstate or ""
    context = str(error.context or "") if code.startswith("22") else ""
    shown = f", {context[:MAX_CONTEXT_CHARACTERS]}" if context else ""
    advice = KEY_ADVICE if code.startswith("23") and error.table_name == STAGING_NAME else ADVICE.get(code)
    message = error.message or str(error)  # asyncpg itself raises some of a lost connection
    return f"{message}{shown} (SQLSTATE {error.sqlstate}){f'; {advice}' if advice else ''}"
