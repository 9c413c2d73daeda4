"""The paths that downloads write to: options, checks, and the files beside a result."""

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Sequence, Set
from pathlib import Path

import msgspec

from longshore.client.disk import disk_errors, write_whole
from longshore.client.errors import DownloadError, ExistsError
from longshore.client.model import Run, RunFile
from longshore.client.partial_file import OnBytes

MANIFEST = ".manifest.json"
SIGNATURE = ".jws"
FILES_PAGE = 1000
IS_WINDOWS = sys.platform == "win32"


class DownloadUrl(msgspec.Struct, frozen=True):
    """The answer with an address of a result."""

    url: str


class DownloadOptions(msgspec.Struct, frozen=True):
    """The options of one download."""

    on_bytes: OnBytes | None = None
    run: int | None = None
    """The run whose result it is; None for the newest data."""
    manifest: bool = False
    """Whether manifest and signature are written beside a result of one file too."""
    replace: bool = True
    """Whether files that exist are replaced; else ExistsError is raised."""

    def check_targets(self, *paths: Path) -> None:
        """Raise DownloadError for the first path that must not be replaced: no regular file, or without `replace`."""
        for path in paths:
            refuse_irregular(path)
            if not self.replace and os.path.lexists(path):
                raise ExistsError(f"{path} exists")


def refuse_irregular(path: Path) -> None:
    """Raise DownloadError if a path exists and is no regular file: a rename would replace it by one."""
    with disk_errors(path):
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
    if not stat.S_ISREG(mode):
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise DownloadError(f"{str(path)!r} is not a regular file, but {kind}")


def has_many_files(run: Run) -> bool:
    """Return whether the result of a run is a manifest of many files."""
    return (run.result or "").endswith(MANIFEST)


def download_path(path: str | Path) -> Path:
    """Return the path to download to, a regular file, a folder or nothing yet.

    Raises DownloadError for all others, and if nothing can be written to the folder.
    """
    to = Path(path)
    with disk_errors(to):
        folder = to if str(path).endswith(("/", os.sep)) or to.is_dir() else to.parent
        if not folder.is_dir():
            reason = "is a file, not a folder" if folder.exists() else "does not exist; make the folder first"
            raise DownloadError(f"{str(folder)!r} {reason}")
        if not to.is_dir():
            refuse_irregular(to)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DownloadError(f"the folder {str(folder)!r} cannot be written to: {error.strerror}") from None
    return to


def must_download(path: Path, file: RunFile, written: Set[tuple[int, int]], options: DownloadOptions) -> bool:
    """Return whether a file of many is still to be downloaded, and make its folder. Raises DownloadError.

    `written`: the ids of the other files. Disks that take upper and lower case for the same have one file for two
    values of a partition that differ in it.
    """
    with disk_errors(path):
        if path.exists() and inode_of(path) in written:
            raise DownloadError(f"two files of the result are one path on this disk: {str(path)!r}")
        if _is_complete(path, file):
            return False
        options.check_targets(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return True


def _is_complete(path: Path, file: RunFile) -> bool:
    """Return whether a file is there with the bytes that the run recorded."""
    if not path.is_file() or path.stat().st_size != file.bytes:
        return False
    with path.open("rb") as existing:
        return hashlib.file_digest(existing, "sha256").hexdigest() == file.sha256


def inode_of(path: Path) -> tuple[int, int]:
    """Return the device and the number of a file that exists."""
    with disk_errors(path):
        found = path.stat()
    return found.st_dev, found.st_ino


def write_manifest(path: Path, manifest: bytes, signature: bytes) -> None:
    """Write a manifest and, before it, its signature. Raises DownloadError."""
    with disk_errors(path):
        write_whole(path.with_name(path.name + SIGNATURE), signature)
        write_whole(path, manifest)


def path_of(folder: Path, file: RunFile) -> Path:
    """Return the path of a file of a run. Raises DownloadError for one outside of the folder."""
    to = folder / file.path
    steps = file.path.split("/")
    if to.is_absolute() != folder.is_absolute() or {"", ".", ".."} & set(steps) or (IS_WINDOWS and _has_drive(steps)):
        raise DownloadError(f"the service names a file outside of its folder: {file.path!r}")
    return to


def _has_drive(steps: Sequence[str]) -> bool:
    """Return whether a step is several ones, or names a drive, for Windows."""
    return any("\\" in step or ":" in step for step in steps)
