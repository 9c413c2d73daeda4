"""The user that the embedded server runs as: this process's own, or another one for root, which PostgreSQL refuses."""

import os
import pwd
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from longshore.errors import LongshoreError

NAME = "pgserver"  # the user that root starts the server as where the data folder is root's own
TRIES = 20
SEARCH = stat.S_IXGRP | stat.S_IXOTH  # to enter a folder, not to list it


class ServerUserError(LongshoreError):
    """There is no user to run the server as; the message says what to do."""


class ServerUser(msgspec.Struct, frozen=True):
    """A user of the operating system. `other`: it is not the one that this process runs as."""

    id: int
    group: int
    other: bool

    def give(self, path: Path) -> None:
        """Make a file or folder the user's own."""
        if self.other:
            os.chown(path, self.id, self.group)

    def prepare(self, data: Path, programs: Path) -> None:
        """Let the user reach the data folder and run the programs, where root alone could."""
        if not self.other:
            return
        for folder in (*data.parents, data, *programs.parents, programs, programs.parent / "lib"):
            found = folder.stat()
            if found.st_uid != self.id and found.st_mode & SEARCH != SEARCH:
                folder.chmod(stat.S_IMODE(found.st_mode) | SEARCH)

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as the user."""
        return subprocess.run(  # noqa: S603  # a program of the wheel, without a shell
            command,
            check=False,
            env=_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            **self._identity(),
        )

    def start(self, command: Sequence[str | Path], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program as the user that outlives this process."""
        return subprocess.Popen(  # noqa: S603  # a program of the wheel, without a shell
            command,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            **self._identity(),
        )

    def _identity(self) -> dict[str, Any]:
        return {"user": self.id, "group": self.group, "extra_groups": []} if self.other else {}


def server_user(data: Path) -> ServerUser:
    """The user for the server of a data folder. Raises ServerUserError.

    For root it is the owner of the cluster, or of the data folder, or else a user of its own.
    """
    if os.geteuid() != 0:
        return ServerUser(os.geteuid(), os.getegid(), other=False)
    for folder in (data / "postgres", data):
        if folder.exists() and (found := folder.stat()).st_uid != 0:
            return ServerUser(found.st_uid, _group(found.st_uid), other=True)
    entry = _make_user()
    return ServerUser(entry.pw_uid, entry.pw_gid, other=True)


def _group(user: int) -> int:
    try:
        return pwd.getpwuid(user).pw_gid
    except KeyError:
        return user


def _make_user() -> pwd.struct_passwd:
    for _ in range(TRIES):
        try:
            return pwd.getpwnam(NAME)
        except KeyError:
            pass
        try:
            command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", NAME]
            subprocess.run(command, check=False, capture_output=True)  # noqa: S603  # another start may do so just now
        except OSError:
            break
        time.sleep(0.1)
    raise ServerUserError(
        f"PostgreSQL does not run as root, and the user {NAME} cannot be made; make it, or use another"
    )


def _environment() -> dict[str, str]:
    """Return this process's variables without those that change what PostgreSQL's programs do."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LONGSHORE_"))}
    return kept | {"LC_ALL": "C"}
