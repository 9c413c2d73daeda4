"""The folder of the embedded server's Unix socket: its cluster, or a private folder with a short, plain name."""

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

from longshore.database.server_user import ServerUser
from longshore.errors import LongshoreError

# https://man7.org/linux/man-pages/man7/unix.7.html; macOS has four bytes less.
MAX_SOCKET_BYTES = 103
SOCKET = ".s.PGSQL.5432"

# PostgreSQL and libpq split lists at commas, and connection URIs have reserved characters.
PLAIN = re.compile(r"/[A-Za-z0-9_./-]*")


def socket_folder(cluster: Path, user: ServerUser) -> Path:
    """Return the folder for the socket of a cluster's server; it is created unless it is the cluster itself.

    Only the server's user may enter it, as any user who could put a socket there could impersonate the server.
    Raises LongshoreError.
    """
    if _fits(cluster):
        return cluster
    name = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    # Another user may not be able to reach the first two, which may be private to this user.
    own = () if user.other else (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir())
    for parent in (*own, "/tmp"):  # noqa: S108  # see _is_private
        if parent and os.access(parent, os.W_OK) and _fits(folder := Path(parent) / f"longshore-{user.id}-{name}"):
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.lstat().st_uid == os.geteuid():
                user.give(folder)
            if not _is_private(folder, user):
                raise LongshoreError(f"{folder} is not this user's alone; remove it")
            return folder
    raise LongshoreError("there is no folder for PostgreSQL's socket: /tmp cannot be written to")


def _fits(folder: Path) -> bool:
    return bool(PLAIN.fullmatch(str(folder))) and len(os.fsencode(folder / SOCKET)) <= MAX_SOCKET_BYTES


def _is_private(folder: Path, user: ServerUser) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == user.id and not status.st_mode & 0o077
