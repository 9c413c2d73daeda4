"""New files, readable by the user of the service alone, that are on disk."""

import os
from pathlib import Path


def create_file(path: Path) -> int:
    """Create a file and return its descriptor for writing. Raises FileExistsError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def write_file(path: Path, content: bytes) -> None:
    """Create a file with a content and wait until the content is on disk. Raises FileExistsError."""
    with os.fdopen(create_file(path), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    # A name is on disk once its folder is: https://man7.org/linux/man-pages/man2/fsync.2.html
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
