"""The kind `sftp`: files on an SSH server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Annotated

import msgspec
from msgspec import Meta

from longshore.destinations.kind import PRINTED, DestinationError, FilePlace, Kind, Redacted, Step
from longshore.destinations.private_keys import require_cheap_key
from longshore.destinations.sftp_login import HOST_KEY, Login
from longshore.outbound import MAX_PORT, Network, check_host
from longshore.settings import Settings
from longshore.validation import Violation

NO_CONTROL = r"^[^\x00-\x1f\x7f]*\Z"


class SftpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server is, and as whom to sign in."""

    host: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._:-]{1,253}\Z", description="Name or address of the server.",
            extra={"expected": "a name or address without a port"},
        ),
    ]  # fmt: skip
    username: Annotated[
        str, Meta(min_length=1, max_length=200, pattern=NO_CONTROL, description="As whom to sign in.", extra=PRINTED)
    ]
    port: Annotated[int, Meta(ge=1, le=MAX_PORT, description="Port of the server.")] = 22
    host_key: Annotated[
        str,
        Meta(max_length=5000, pattern=rf"^(|{HOST_KEY})\Z", description="The server's public key without host names, "
        "such as ssh-ed25519 AAAA…. A test may leave it out, and then shows it.",
        extra={"expected": "an OpenSSH public key without host names, such as ssh-ed25519 AAAA…"}),
    ] = ""  # fmt: skip
    path: Annotated[
        str,
        Meta(max_length=500, pattern=NO_CONTROL, description="Folder that the files are put below; where it does not "
        "begin with a slash, within the folder in which a session begins. It is made where it is missing.",
        extra=PRINTED),
    ] = ""  # fmt: skip


class SftpSecret(Redacted, frozen=True, forbid_unknown_fields=True):
    """A password, or a private key."""

    password: Annotated[str, Meta(max_length=1000)] = ""
    private_key: Annotated[
        str,
        Meta(
            max_length=20_000, description="In the format of OpenSSH or PEM.", extra_json_schema={"format": "textarea"}
        ),
    ] = ""
    passphrase: Annotated[str, Meta(max_length=1000, description="Of the private key, where it has one.")] = ""


def _login(settings: SftpSettings, secret: SftpSecret) -> Login:
    return Login(
        settings.host, settings.port, settings.username, settings.host_key.strip(),
        secret.password, secret.private_key, secret.passphrase,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def _open(settings: SftpSettings, secret: SftpSecret, allow: tuple[Network, ...]) -> AsyncIterator[FilePlace]:
    # asyncssh takes a second and 30 MB, so only processes that deliver or test import it.
    await asyncio.to_thread(import_module, "asyncssh")
    from longshore.destinations.sftp_connection import connected
    from longshore.destinations.sftp_place import SftpPlace

    login = _login(settings, secret)
    async with connected(login, allow) as client:
        yield SftpPlace(client, login, settings.path)


async def _test(settings: SftpSettings, secret: SftpSecret, allow: tuple[Network, ...]) -> AsyncIterator[Step]:
    await asyncio.to_thread(import_module, "asyncssh")
    from longshore.destinations.sftp_steps import sftp_steps

    async for step in sftp_steps(_login(settings, secret), settings.path, allow):
        yield step


def _check(settings: SftpSettings, secret: SftpSecret, allow: tuple[Network, ...]) -> list[Violation]:
    violations = []
    if not settings.host_key:
        violations.append(Violation("is required; the test of the destination shows it", "/settings/host_key"))
    if problem := check_host(settings.host, allow):
        violations.append(Violation(problem, "/settings/host"))
    if ".." in settings.path.split("/"):
        violations.append(Violation("expected a path without ..", "/settings/path"))
    if bool(secret.password) == bool(secret.private_key):
        violations.append(Violation("expected a password or a private_key", "/secret"))
    if secret.private_key:
        try:
            require_cheap_key(secret.private_key)
        except DestinationError as error:
            violations.append(Violation(str(error), "/secret/private_key"))
    return violations


def sftp(_: Settings) -> Kind:
    """Return the kind."""
    return Kind(SftpSettings, SftpSecret, "files", _open, _test, _check, frozenset({"path"}))
