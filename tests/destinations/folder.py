"""Kinds of destinations for tests: a folder that takes files, and one that takes tables, whose faults a test chooses.

A test writes `faults.json` into the folder at any time, see `Faults`; processes read it before each step.
"""

import asyncio
import contextlib
import csv
import hashlib
import json
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from longshore.destinations import (
    DestinationError,
    DestinationUnavailableError,
    File,
    Kind,
    Step,
    TableEvidence,
    TableLoad,
)
from longshore.outbound import Network
from longshore.settings import Settings

FAULTS, WRITES, LINES = "faults.json", "writes.jsonl", "lines.jsonl"
CHUNK_BYTES = 64 << 10


class FolderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    folder: str


class FolderSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    password: str = ""


class Faults(msgspec.Struct, frozen=True):
    """The faults that the folder has."""

    unavailable: float = 0.0
    """The part of the requests that fail, though another one may succeed. A step sends its request twice."""
    refused: str = ""
    """Why every step fails for good."""
    hangs: bool = False
    slow_seconds: float = 0.0
    """Before each chunk of a file."""
    corrupt: bool = False
    """Whether the last byte of a file is lost, or a row of a table."""


class Folder:
    """An open destination."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def address(self, path: str) -> str:
        return f"folder://{self._folder.name}/{path}"

    async def step(self) -> Faults:
        """Fail as the test has chosen."""
        path = self._folder / FAULTS
        faults = msgspec.json.decode(path.read_bytes(), type=Faults) if path.exists() else Faults()
        if faults.hangs:
            await asyncio.sleep(3600)
        if faults.refused:
            raise DestinationError(faults.refused)
        if max(random.random(), random.random()) < faults.unavailable:
            raise DestinationUnavailableError("the folder is away")
        return faults

    def note(self, name: str, **facts: Any) -> None:
        """Append a line to a list, whole or not at all."""
        line = json.dumps(facts).encode() + b"\n"
        with (self._folder / name).open("ab", buffering=0) as file:
            file.write(line)


class FilesFolder(Folder):
    """A folder that takes files."""

    async def write(self, path: str, file: File, write_id: str, *, overwrite: bool) -> None:
        faults = await self.step()
        final = self._folder / path
        if final.exists():
            if hashlib.sha256(final.read_bytes()).digest() == file.sha256:
                return
            if not overwrite:
                raise DestinationError(f"another file lies at {path}")
        await asyncio.to_thread(self._write, final, file, write_id, faults)
        await self.step()  # the answer may be lost though the file is there

    def _write(self, final: Path, file: File, write_id: str, faults: Faults) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        part = _part(final, write_id)
        digest = hashlib.sha256()
        with file.open() as source, part.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                time.sleep(faults.slow_seconds)
                target.write(chunk)
                digest.update(chunk)
        if faults.corrupt:
            os.truncate(part, part.stat().st_size - 1)
        part.rename(final)
        self.note(WRITES, path=str(final.relative_to(self._folder)), sha256=digest.hexdigest(), at=time.time())

    async def read(self, path: str) -> AsyncIterator[bytes]:
        await self.step()
        with (self._folder / path).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    async def discard(self, path: str, write_id: str) -> None:
        _part(self._folder / path, write_id).unlink(missing_ok=True)


class TablesFolder(Folder):
    """A folder that takes tables: a file of rows for each, and the lines of the deliveries."""

    async def load(self, load: TableLoad) -> TableEvidence:
        faults = await self.step()
        lines = self.lines()
        for line in lines:
            same = (line["task"], line["run"]) == (load.line.task, load.line.run)
            if line["table"] == load.table and same:
                return TableEvidence(line["rows"], None, already_loaded=True)
        with load.file.open() as file:
            rows = list(csv.DictReader(line.decode() for line in file))
        count = len(rows) - faults.corrupt
        columns = {column.name: column.postgresql for column in load.columns}
        about = msgspec.to_builtins(load.line) | {"table": load.table, "mode": load.mode, "key": load.key}
        self.note(LINES, **about | {"rows": count, "columns": columns, "full": load.is_full})
        await self.step()
        return TableEvidence(count, None, already_loaded=False)

    def lines(self) -> list[dict[str, Any]]:
        path = self._folder / LINES
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _part(final: Path, write_id: str) -> Path:
    return final.with_name(f".{final.name}.{write_id}.part")


def folder(_settings: Settings) -> Kind:
    """The kind that takes files."""

    @contextlib.asynccontextmanager
    async def opened(
        settings: FolderSettings, _secret: FolderSecret, _allow: tuple[Network, ...]
    ) -> AsyncIterator[FilesFolder]:
        yield FilesFolder(Path(settings.folder))

    return Kind(FolderSettings, FolderSecret, "files", opened, _test)


def folder_table(_settings: Settings) -> Kind:
    """The kind that takes tables."""

    @contextlib.asynccontextmanager
    async def opened(
        settings: FolderSettings, _secret: FolderSecret, _allow: tuple[Network, ...]
    ) -> AsyncIterator[TablesFolder]:
        yield TablesFolder(Path(settings.folder))

    return Kind(FolderSettings, FolderSecret, "tables", opened, _test)


async def _test(_settings: Any, _secret: Any, _allow: tuple[Network, ...]) -> AsyncIterator[Step]:
    yield Step("connect", True)
