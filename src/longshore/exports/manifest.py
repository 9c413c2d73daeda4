"""The manifest of a result: the description by which a file can be checked without the service.

It lies beside the file as `NAME.manifest.json`, and its signature as `NAME.manifest.json.jws`, see `signatures`. Each
has the hash of the manifest of its task's run before, so that `longshore verify` finds a gap, a changed file or a wrong
order in a series of increments.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.totals import Totals
from longshore.tasks.model import Interval

SUFFIX = ".manifest.json"
SIGNATURE = ".jws"
"""The suffix of a signature beside its manifest."""
VERSION = 1

ENCODER = msgspec.json.Encoder(decimal_format="number")
"""Numbers of rules keep their digits; so readers decode with `float_hook=Decimal`."""


class ManifestField(msgspec.Struct, frozen=True):
    """A column of the file."""

    name: str
    type: str


class Mirror(msgspec.Struct, frozen=True):
    """The client's copy as it must stand once the result is applied, in the run's snapshot."""

    rows: int
    totals: Totals | None
    """As those of the manifest, of all rows of the copy."""


class RunManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a manifest that is of its run. Times are UTC; hashes are SHA-256 in hexadecimal."""

    version: int = VERSION
    rows: int
    size: int = msgspec.field(name="bytes")
    """Of the file, or of all files together."""
    chain: int
    task: int
    run: int
    due: datetime | None
    """The time of the trigger that the run is for; null if `execute` asked for it."""
    interval: Interval
    format: str
    snapshot: datetime
    previous: str | None
    """Hash of the manifest of the last run before that left a result."""
    csv: CsvOptions = CsvOptions()
    """The CSV options of the request."""

    def encoded(self) -> bytes:
        """Return the text of the manifest; equal manifests have the same bytes."""
        return msgspec.json.format(ENCODER.encode(self), indent=2) + b"\n"


class Manifest(RunManifest, frozen=True, kw_only=True):
    """The description of a result file. Times are UTC; hashes are SHA-256 in hexadecimal."""

    file: str
    sha256: str
    index: str
    fields: Sequence[ManifestField]
    schema: str
    key: Sequence[str] = ()
    """The columns that are unique together; none where the index has no key or the result lacks a column of it."""
    segment: Any
    """The rules as they were resolved: relative ones with their times."""
    totals: Totals | None = None
    """Control totals, where the catalog declares them and both columns were chosen."""
    full: bool | None = None
    """With `deletes`: whether the copy is emptied before the result is applied."""
    upserts: int | None = None
    deletes: int | None = None
    mirror: Mirror | None = None


class FileEntry(msgspec.Struct, frozen=True):
    """One of the many files of a result."""

    path: str
    """Relative to the manifest."""
    index: str
    partition: dict[str, str | None]
    """The values of the partition, by key; null stands for NULL and the empty string. Empty without partitions."""
    rows: int
    size: int = msgspec.field(name="bytes")
    sha256: str


class IndexEntry(msgspec.Struct, frozen=True):
    """One of the indexes of a result of many files."""

    index: str
    rows: int
    fields: Sequence[ManifestField]
    schema: str
    key: Sequence[str]
    """The columns of the key; empty if the export lacks one of them."""
    segment: Any
    """The rules as they were resolved: relative ones with their times; null without rules."""
    totals: Totals | None
    """Control totals of all its files."""


class FilesManifest(RunManifest, frozen=True, kw_only=True):
    """The description of a result of many files, and the result's own file."""

    indexes: Sequence[IndexEntry]
    files: Sequence[FileEntry]
    """In the order of indexes, partitions and rows."""

    def of_file(self, entry: FileEntry) -> Manifest:
        """Return the manifest that one of the files would have by itself, but with the totals of its whole index."""
        index = next(each for each in self.indexes if each.index == entry.index)
        of_run = {name: getattr(self, name) for name in RunManifest.__struct_fields__}
        of_index = msgspec.structs.asdict(index)
        of_file = {"file": entry.path, "rows": entry.rows, "size": entry.size, "sha256": entry.sha256, "previous": None}
        return Manifest(**{**of_run, **of_index, **of_file})


def sidecars(manifest: bytes, signature: str) -> dict[str, bytes]:
    """Return the files beside a result of one file, by the suffixes of their names: manifest and signature."""
    return {SUFFIX: manifest, SUFFIX + SIGNATURE: signature.encode()}


def is_files(name: str) -> bool:
    """Return whether a result, by its name, is a manifest of many files."""
    return name.endswith(SUFFIX)


def hash_of(manifest: bytes) -> str:
    """Return the hash by which the next manifest of a series names this one."""
    return hashlib.sha256(manifest).hexdigest()
