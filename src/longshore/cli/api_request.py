"""`longshore request`: any request to the API, for what has no command."""

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import msgspec

from longshore.cli import options
from longshore.cli.app import app
from longshore.cli.client import client_of
from longshore.cli.commands import Argument, Option
from longshore.cli.exits import FAILED
from longshore.cli.output import pretty, printable
from longshore.client.errors import BY_STATUS, NOT_DECODED, ProblemError
from longshore.client.requests import Answer

if TYPE_CHECKING:
    from longshore.client.blocking.client import StreamedAnswer

WINDOWS_PATH = re.compile(r"[A-Za-z]:[/\\]")


@app.command(epilog="Example: longshore request POST /tasks --input task.json")
def request(  # noqa: PLR0913 (the options of the command)
    method: Annotated[str, Argument(help="GET, POST, PUT, PATCH or DELETE.")],
    path: Annotated[str, Argument(help="Path of the API with its query, such as /tasks/12345.")],
    field: Annotated[
        list[str] | None,
        Option("-f", "--field", metavar="KEY=TEXT", help="A string of the body, of GET a parameter; repeatable."),
    ] = None,
    json_field: Annotated[
        list[str] | None,
        Option("-F", "--json-field", metavar="KEY=JSON", help="A JSON value of the body; repeatable."),
    ] = None,
    header: Annotated[
        list[str] | None, Option("-H", "--header", metavar="NAME: VALUE", help="A header field; repeatable.")
    ] = None,
    file: Annotated[
        Path | None, Option("--input", metavar="FILE", help="File with the body; - for standard input.")
    ] = None,
    include: Annotated[bool, Option("-i", "--include", help="Print the status and the header fields first.")] = False,
    profile: options.Profile = None,
) -> None:
    """Send a request with the login, and print the answer.

    The body of an error goes to standard error. The exit code is by the status: 2 for 400, 413, 415 and 422, 3 for 404
    and 410, 4 for 401 and 403, 1 for other errors.
    """
    method = method.upper()
    is_read = method in ("GET", "HEAD")
    fields: dict[str, str | msgspec.Raw] = dict(_pair(each, "=", "--field") for each in field or [])
    fields |= {key: _json(key, text) for key, text in (_pair(each, "=", "--json-field") for each in json_field or [])}
    if fields and file is not None:
        raise click.BadParameter("give the body by --input or by fields, not both", param_hint="--input")
    body: object = fields if fields and not is_read else None
    if file is not None:
        body = msgspec.Raw(options.read_file(file, "--input"))
    params = {key: _text(value) for key, value in fields.items()} if is_read else {}
    headers = dict(_pair(each, ":", "--header") for each in header or [])
    path = _path(path)
    with (
        client_of(profile) as client,
        client.stream(method, path, body, params=params, headers=headers) as answer,
    ):
        _print(answer, include)
    if 300 <= answer.status < 400 and "location" in answer.headers:  # the request itself was not carried out
        raise Answer(answer.status, answer.headers).error()
    if answer.status >= 400:
        from longshore.cli.errors import CODES

        raise click.exceptions.Exit(CODES.get(BY_STATUS.get(answer.status, ProblemError), FAILED))


def _print(answer: "StreamedAnswer", include: bool) -> None:
    """Print an answer as it comes; that of an error on standard error."""
    out = sys.stderr.buffer if answer.status >= 400 else sys.stdout.buffer
    if include:
        lines = [
            f"HTTP {answer.status}",
            *(f"{name}: {printable(value)}" for name, value in answer.headers.items()),
            "",
        ]
        out.write("".join(f"{line}\n" for line in lines).encode())
    if out is sys.stdout.buffer and sys.stdout.isatty() and "json" in answer.headers.get("content-type", ""):
        body = b"".join(answer.chunks)
        with contextlib.suppress(*NOT_DECODED):
            body = pretty(body) + b"\n" if body else b""
        out.write(body)
    else:
        for chunk in answer.chunks:
            out.write(chunk)
            out.flush()
    out.flush()


def _path(path: str) -> str:
    if WINDOWS_PATH.match(path):
        raise click.BadParameter(
            f"got {path!r}: the shell has made a file's path of it; leave out its first slash, as in tasks/12345"
        )
    if "://" in path:
        raise click.BadParameter(f"expected a path of the API such as /tasks/12345, got {path!r}")
    return path if path.startswith("/") else f"/{path}"


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    key, found, value = text.partition(separator)
    if not found or not key:
        raise click.BadParameter(f"expected a name, {separator!r} and a value, got {text!r}", param_hint=option)
    return (key, value) if separator == "=" else (key.strip(), value.strip())


def _json(key: str, text: str) -> msgspec.Raw:
    """Return a JSON value as it is written, so that no digit of a number is lost."""
    try:
        msgspec.json.decode(text)
    except NOT_DECODED as error:
        reason = f"{key}: {error}; strings need quotes, or --field"
        raise click.BadParameter(reason, param_hint="--json-field") from None
    return msgspec.Raw(text.encode())


def _text(value: str | msgspec.Raw) -> str:
    return value if isinstance(value, str) else bytes(value).decode()
