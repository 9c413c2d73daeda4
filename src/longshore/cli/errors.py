"""Errors of commands: one line on standard error or, with `--json`, a problem (RFC 9457), and the exit code."""

import itertools
import os
import select
import socket
import ssl
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from longshore.cli.exits import FAILED, NOT_ALLOWED, NOT_FOUND, PIPE_CLOSED, TIMED_OUT, USAGE, CommandError
from longshore.cli.output import printable
from longshore.client import errors as c
from longshore.errors import LongshoreError, first_line

CODES: dict[type[Exception], int] = {
    c.ArgumentError: USAGE,
    c.BadRequestError: USAGE,
    c.ProfileError: USAGE,
    c.NotFoundError: NOT_FOUND,
    c.GoneError: NOT_FOUND,
    c.UnauthorizedError: NOT_ALLOWED,
    c.ForbiddenError: NOT_ALLOWED,
    c.WaitTimeoutError: TIMED_OUT,
}
TITLES: dict[type[Exception], str] = {
    c.TaskFailedError: "The task failed",
    c.WaitTimeoutError: "The task has not ended in time",
    c.NoAnswerError: "The service does not answer",
    c.ProfileError: "The login cannot be used",
    click.ClickException: "The command line cannot be used",
}

VERIFY_EXTRAS = {"pyarrow": "arrow", "joserfc": "verify", "zstandard": "verify"}
"""The extras of `longshore verify`; all other commands with an extra are those that run a service."""
READ_ONLY = "25006"  # https://www.postgresql.org/docs/current/errcodes-appendix.html


def report(error: Exception, arguments: Sequence[str]) -> int:
    """Print the error of a command line and return its exit code. Raises it again where it is a fault of Longshore."""
    if isinstance(error, BrokenPipeError) and _reader_is_gone():
        _discard_output()
        return PIPE_CLOSED
    message, code = _message(error, arguments), _code(error)
    try:
        if _wants_json(arguments):
            click.echo(msgspec.json.encode(_problem(error, message, code)), err=True)
        elif isinstance(error, click.ClickException):
            error.show()
        else:
            click.echo("longshore: " + "\n".join(printable(line) for line in message.split("\n")), err=True)
        sys.stdout.flush()
    except BrokenPipeError:
        code = PIPE_CLOSED
        _discard_output()
    except OSError:  # a full disk, which may be the error itself
        _discard_output()
    return code


def _wants_json(arguments: Sequence[str]) -> bool:
    """Return whether a command line has `--json`, also one that cannot be read."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _reader_is_gone() -> bool:
    """Return whether standard output or standard error is a pipe that nothing reads any more."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard_output() -> None:
    """Discard the rest of the output, which Python would try to write once more at its end.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _code(error: Exception) -> int:
    match error:
        case click.ClickException():
            return error.exit_code
        case CommandError():
            return error.code
        case ModuleNotFoundError() | UnicodeEncodeError() | UnicodeDecodeError():
            return USAGE
    return next((code for kind, code in CODES.items() if isinstance(error, kind)), FAILED)


def _message(error: Exception, arguments: Sequence[str]) -> str:
    match error:
        case click.ClickException():
            return error.format_message()
        case ModuleNotFoundError():
            return _missing(error, arguments)
        case UnicodeEncodeError():
            return "an argument is no text in UTF-8"
        case UnicodeDecodeError():
            return "the input is no text in UTF-8"
        case ConnectionError() | TimeoutError() | socket.gaierror():
            reason = str(error) or "no answer in time"
            return f"the database cannot be reached: {reason}; check LONGSHORE_DATABASE_URL and LONGSHORE_SOURCE_URL"
        case ssl.SSLError():
            reason = getattr(error, "verify_message", "") or error.reason or str(error)
            return f"TLS with the server fails: {reason}; for a database, check sslmode and sslrootcert in its address"
        case c.ClientError() | LongshoreError() | OSError():
            return str(error)
    if not type(error).__module__.startswith("asyncpg"):
        raise error
    if getattr(error, "sqlstate", "") == READ_ONLY:
        return (
            "the database is read-only, so nothing was changed: it is a standby (name the primary in"
            " LONGSHORE_DATABASE_URL), or its default_transaction_read_only is on (reset that, or wait until its"
            " maintenance ends)"
        )
    return f"the database reports: {first_line(error)}"


def _missing(error: ModuleNotFoundError, arguments: Sequence[str]) -> str:
    """Return which extra has the package that a command needs. Raises the error if it is not of an extra."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "longshore"):
        raise error
    command = " ".join(itertools.takewhile(str.isalpha, arguments[: 1 if arguments[:1] == ["verify"] else 2]))
    extra = VERIFY_EXTRAS.get(package, "server") if command == "verify" else "server"
    return f"`longshore {command}` needs {package}, which is not installed: pip install 'longshore[{extra}]'"


def _problem(error: Exception, message: str, code: int) -> dict[str, Any]:
    if not isinstance(error, c.ProblemError):
        title = next((title for kind, title in TITLES.items() if isinstance(error, kind)), "The command failed")
        return {"title": title, "detail": message, "exit_code": code}
    answered = {name: getattr(error, name) for name in ("type", "title", "status", "detail", "request_id")}
    if error.errors:
        violations = map(msgspec.structs.asdict, error.errors)
        answered["errors"] = [{name: part for name, part in each.items() if part is not None} for each in violations]
    return {**answered, "exit_code": code}
