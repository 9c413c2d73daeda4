"""The user that the embedded server runs as: that of this process or, as PostgreSQL refuses root, another one."""

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
MAX_TRIES = 20
SEARCH = stat.S_IXGRP | stat.S_IXOTH  # to enter a folder, not to list it


class ServerUser(msgspec.Struct, frozen=True):
    """A user of the operating system. `other`: it is not the user of this process."""

    id: int
    group: int
    other: bool

    def give(self, path: Path) -> None:
        """Make the user the owner of a file or folder."""
        if self.other:
            os.chown(path, self.id, self.group)

    def prepare(self, data: Path, programs: Path) -> None:
        """Allow the user to enter the data folder and run the programs, if only root could."""
        if not self.other:
            return
        for folder in (*data.parents, data, *programs.parents, programs, programs.parent / "lib"):
            status = folder.stat()
            if status.st_uid != self.id and status.st_mode & SEARCH != SEARCH:
                folder.chmod(stat.S_IMODE(status.st_mode) | SEARCH)

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a program as the user and wait for its end."""
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
    """Return the user for the server of a data folder. Raises LongshoreError.

    If this process runs as root: the owner of the cluster, or of the data folder, or else a user of its own.
    """
    if os.geteuid() != 0:
        return ServerUser(os.geteuid(), os.getegid(), other=False)
    for folder in (data / "postgres", data):
        if folder.exists() and (owner := folder.stat().st_uid) != 0:
            return ServerUser(owner, _group(owner), other=True)
    entry = _create_user()
    return ServerUser(entry.pw_uid, entry.pw_gid, other=True)


def _group(user: int) -> int:
    try:
        return pwd.getpwuid(user).pw_gid
    except KeyError:
        return user


def _create_user() -> pwd.struct_passwd:
    for _ in range(MAX_TRIES):
        try:
            return pwd.getpwnam(NAME)
        except KeyError:
            pass
        try:
            command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", NAME]
            subprocess.run(command, check=False, capture_output=True)  # noqa: S603  # may fail if another process is creating it
        except OSError:
            break
        time.sleep(0.1)
    raise LongshoreError(
        f"PostgreSQL does not run as root, and the user {NAME} cannot be created; create it, or use another user"
    )


def _environment() -> dict[str, str]:
    """Return this process's variables without those that change what PostgreSQL's programs do."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LONGSHORE_"))}
    return variables | {"LC_ALL": "C"}
