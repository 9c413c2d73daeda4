"""The local store: results in a folder. A result is written under another name and renamed when complete (promise 3).

Each attempt has a folder of its own, `CHAIN/TASK/ATTEMPT/NAME`, so that two attempts never write one file. The task row
says which attempt counts; the task's next attempt removes files that no row names.
"""

import contextlib
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO

from longshore.results.local_files import (
    LocalAssembly,
    LocalFile,
    LocalPiece,
    remove_abandoned_tree,
    remove_tree,
)
from longshore.results.store import (
    KEY_LIST,
    KEY_LIST_FOLDER,
    KEYS,
    LEVELS,
    NUMBER,
    AttemptFiles,
    PieceNumber,
    StoreError,
    attempt_of,
)
from longshore.tasks.model import ChainId, TaskId


class LocalStore:
    """The store for results below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    is_shared = can_assemble = True
    presigns = False

    def create(self, location: str, *, is_part: bool = False) -> LocalFile:
        return LocalFile(self.path(location), is_part=is_part)

    def open(self, location: str) -> IO[bytes]:
        path = self.open_path(location)
        if path is None:
            raise FileNotFoundError(location)
        return path.open("rb")

    def assemble(self, location: str) -> LocalAssembly:
        return LocalAssembly(self.path(location))

    def piece(self, location: str, upload: str, number: PieceNumber) -> LocalPiece:  # noqa: ARG002  # of the protocol
        return LocalPiece(self.path(location), f"{number.number}-{number.trial}")

    def remove(self, location: str) -> None:
        remove_tree(self.path(location).parent)

    def remove_task(self, chain: ChainId, task: TaskId) -> None:
        remove_tree(self._folder / str(chain) / str(task))

    def remove_attempt(self, files: AttemptFiles) -> None:
        remove_tree(self._folder / files.prefix)

    def attempts(self, before: float) -> list[AttemptFiles]:
        attempts = []
        for folder, folders, _ in os.walk(self._folder):  # skips folders that vanish
            names = Path(folder).relative_to(self._folder).parts
            if len(names) < LEVELS - 1:
                continue
            folders.clear()
            with contextlib.suppress(FileNotFoundError):
                if (place := attempt_of(names)) is not None and Path(folder).stat().st_mtime < before:
                    attempts.append(place)
        return attempts

    def key_lists(self, chain: ChainId, task: TaskId) -> list[str]:
        found = (self._folder / str(chain) / str(task) / KEYS).glob(f"*/{KEY_LIST}")
        return [path.relative_to(self._folder).as_posix() for path in found]

    def unfinished_key_lists(self, chain: ChainId, task: TaskId) -> list[str]:
        folders = [path for path in (self._folder / str(chain) / str(task) / KEYS).glob("*") if path.is_dir()]
        lists = [path / KEY_LIST for path in folders if KEY_LIST_FOLDER.fullmatch(path.name)]
        return [path.relative_to(self._folder).as_posix() for path in lists if not path.exists()]

    def remove_abandoned(self, files: AttemptFiles, kept: Collection[str]) -> None:
        keep = {self.path(location).parent for location in kept}
        folder = (self._folder / files.prefix).parent
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if NUMBER.fullmatch(path.name) and int(path.name) <= files.attempt and path not in keep:
                remove_abandoned_tree(path)

    def exists(self, location: str) -> bool:
        return self.open_path(location) is not None

    def open_path(self, location: str) -> Path | None:
        """Return the file of a result; None if it is gone, or if a link leads out of the folder."""
        try:
            path = self.path(location)
        except StoreError:
            return None
        return path if path.is_file() else None

    def presigned_until(self) -> float:
        return math.inf

    def presigned_urls(self, locations: Sequence[str], seconds: int) -> list[str]:  # noqa: ARG002  # of the protocol
        return []

    def path(self, location: str) -> Path:
        """Return the path of a result, whether it exists or not. Raises StoreError."""
        path = (self._folder / location).resolve()
        if self._folder not in path.parents:
            raise StoreError(f"{location!r} lies outside the store")
        return path
