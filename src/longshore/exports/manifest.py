"""The manifest of a result: what a file must be, so that anybody can check it without the service.

It lies beside the file as `NAME.manifest.json`. Each names the hash of the manifest of its task's run before, so that
in a series of increments a gap, a changed file or a wrong order shows.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.totals import Totals

SUFFIX = ".manifest.json"
VERSION = 1


class ManifestField(msgspec.Struct, frozen=True):
    """A column of the file."""

    name: str
    type: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a result file is. Times are UTC; hashes are SHA-256 in hexadecimal."""

    version: int = VERSION
    file: str
    size: int = msgspec.field(name="bytes")
    sha256: str
    rows: int
    chain: int
    task: int
    run: int
    index: str
    format: str
    fields: Sequence[ManifestField]
    schema: str
    segment: Any
    """The rules as they were resolved: relative ones as the times they meant."""
    snapshot: datetime
    previous: str | None
    """Hash of the manifest of the last run before that was DONE."""
    csv: CsvOptions = CsvOptions()
    """How a CSV file is written, as it was asked for."""
    totals: Totals | None = None
    """Control totals, where the catalog declares them and both columns were chosen."""

    def encoded(self) -> bytes:
        """The manifest as it is written; the same manifest is the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def hash_of(manifest: bytes) -> str:
    """What the next manifest of a series calls this one."""
    return hashlib.sha256(manifest).hexdigest()
