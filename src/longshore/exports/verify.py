"""Checking result files against their manifests, without any server."""

import csv
import gzip
import hashlib
import io
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import msgspec
import pyarrow.parquet as pq
import zstandard

from longshore.errors import LongshoreError
from longshore.exports.manifest import SUFFIX, Manifest, hash_of

CHUNK = 1 << 20


class VerifyError(LongshoreError):
    """A file is not what its manifest says, or a series is not whole."""


def verify(paths: Iterable[Path]) -> list[Manifest]:
    """Check files against the manifests beside them; of several runs of one task, also that none is missing between.

    Gives the manifests in the order of their runs. Raises VerifyError at the first thing that is wrong.
    """
    read = sorted((_verify_file(path) for path in paths), key=lambda pair: (pair[0].task, pair[0].run))
    for (before, hash_before), (after, _) in itertools.pairwise(read):
        if before.task == after.task and after.previous != hash_before:
            raise VerifyError(
                f"run {after.run} of task {after.task} does not follow run {before.run}: "
                "a run between them is missing, or a manifest was changed"
            )
    return [manifest for manifest, _ in read]


def _verify_file(path: Path) -> tuple[Manifest, str]:
    beside = path.with_name(path.name + SUFFIX)
    try:
        text = beside.read_bytes()
        manifest = msgspec.json.decode(text, type=Manifest)
    except OSError as error:
        raise VerifyError(f"{beside} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise VerifyError(f"{beside} is no manifest: {error}") from None
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise VerifyError(f"{path} cannot be read: {error.strerror}") from None
    size = path.stat().st_size
    if size != manifest.size:
        raise VerifyError(f"{path} has {size:,} bytes, and must have {manifest.size:,}")
    if digest.hexdigest() != manifest.sha256:
        raise VerifyError(f"{path} was changed: its SHA-256 is {digest.hexdigest()}, not {manifest.sha256}")
    rows = _rows(path, manifest)
    if rows is not None and rows != manifest.rows:
        raise VerifyError(f"{path} has {rows:,} rows, and must have {manifest.rows:,}")
    return manifest, hash_of(text)


def _rows(path: Path, manifest: Manifest) -> int | None:
    """The rows of a file, counted by a reader of its format; None for a format that only Excel's readers count."""
    if manifest.format == "parquet":
        return int(pq.read_metadata(path).num_rows)
    if manifest.format == "xlsx":
        return None
    with _opened(path) as file:
        if manifest.format == "csv":
            return _csv_rows(file, [field.name for field in manifest.fields])
        return sum(1 for line in file if line.startswith(b"{"))


def _csv_rows(file: IO[bytes], names: list[str]) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    first = text.readline()
    delimiter = next((char for char in ",;\t|" if char in first), ",")
    text.seek(0)
    records = csv.reader(text, delimiter=delimiter)
    rows = sum(1 for _ in records)
    header = next(csv.reader([first], delimiter=delimiter), []) == names
    return rows - header


def _opened(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(path, "rb"))
    if path.suffix == ".zst":
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True))
    return path.open("rb")
