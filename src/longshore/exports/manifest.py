"""The manifest of a result: the description by which a file can be checked without the service.

It lies beside the file as `NAME.manifest.json`. Each has the hash of the manifest of its task's run before, so that
`longshore verify` finds a gap, a changed file or a wrong order in a series of increments.
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
VERSION = 1


class ManifestField(msgspec.Struct, frozen=True):
    """A column of the file."""

    name: str
    type: str


class Mirror(msgspec.Struct, frozen=True):
    """The reader's copy as it must stand once the result is applied, in the run's snapshot."""

    rows: int
    totals: Totals | None
    """As those of the manifest, of all rows of the copy."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a result file. Times are UTC; hashes are SHA-256 in hexadecimal."""

    version: int = VERSION
    file: str
    size: int = msgspec.field(name="bytes")
    sha256: str
    rows: int
    chain: int
    task: int
    run: int
    due: datetime | None
    """The time of the trigger that the run is for; null if `execute` asked for it."""
    interval: Interval
    index: str
    format: str
    fields: Sequence[ManifestField]
    schema: str
    key: Sequence[str] = ()
    """The columns that are unique together; none where the index has no key or the result lacks a column of it."""
    segment: Any
    """The rules as they were resolved: relative ones with their times."""
    snapshot: datetime
    previous: str | None
    """Hash of the manifest of the last run before that was DONE."""
    csv: CsvOptions = CsvOptions()
    """The CSV options of the request."""
    totals: Totals | None = None
    """Control totals, where the catalog declares them and both columns were chosen."""
    full: bool | None = None
    """With `deletes`: whether the copy is emptied before the result is applied."""
    upserts: int | None = None
    deletes: int | None = None
    mirror: Mirror | None = None

    def encoded(self) -> bytes:
        """Return the text of the manifest; equal manifests have the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def hash_of(manifest: bytes) -> str:
    """Return the hash by which the next manifest of a series names this one."""
    return hashlib.sha256(manifest).hexdigest()
