"""The kind `sftp`: files on an SSH server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib import import_module

from longshore.destinations.kind import DestinationError, FilePlace, Kind, Step
from longshore.destinations.private_keys import require_cheap_key
from longshore.destinations.sftp_settings import SftpSecret, SftpSettings
from longshore.outbound import Network, check_host
from longshore.settings import Settings
from longshore.validation import Violation


@contextlib.asynccontextmanager
async def _open(settings: SftpSettings, secret: SftpSecret, allow: tuple[Network, ...]) -> AsyncIterator[FilePlace]:
    # asyncssh takes a second and 30 MB, so only processes that deliver or test import it.
    await asyncio.to_thread(import_module, "asyncssh")
    from longshore.destinations.sftp_connection import connected
    from longshore.destinations.sftp_place import SftpPlace

    async with connected(settings, secret, allow) as client:
        yield SftpPlace(client, settings)


async def _test(settings: SftpSettings, secret: SftpSecret, allow: tuple[Network, ...]) -> AsyncIterator[Step]:
    await asyncio.to_thread(import_module, "asyncssh")
    from longshore.destinations.sftp_steps import sftp_steps

    async for step in sftp_steps(settings, secret, allow):
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
    return Kind(SftpSettings, SftpSecret, "files", _open, _test, _check, frozenset({"path"}))
