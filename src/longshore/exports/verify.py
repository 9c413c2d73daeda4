"""Verification of result files by their manifests, without any server."""

import hashlib
import itertools
import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import msgspec

from longshore.errors import LongshoreError
from longshore.exports import readback, totals
from longshore.exports.formats import FORMATS
from longshore.exports.formats.dialect import check_options
from longshore.exports.manifest import SUFFIX, VERSION, Manifest, hash_of
from longshore.exports.totals import TotalColumns, Totals

CHUNK_BYTES = 1 << 20
MAX_REASON_CHARACTERS = 200
SUM = re.compile(r"-?[0-9]{1,200000}(\.[0-9]{1,20000})?|NaN|-?Infinity")  # a numeric of PostgreSQL


def verify(paths: Iterable[Path]) -> list[Manifest]:
    """Check files by the manifests beside them, and that no run is missing between those of the same task.

    Return the manifests in the order of their runs. Raises LongshoreError for the first violation.
    """
    read = sorted((_verify_file(path) for path in paths), key=lambda pair: (pair[0].task, pair[0].run))
    for (before, hash_before), (after, _) in itertools.pairwise(read):
        if before.task == after.task and after.previous != hash_before:
            raise LongshoreError(
                f"run {after.run} of task {after.task} does not follow run {before.run}: "
                "a run between them is missing, or a manifest was changed"
            )
    return [manifest for manifest, _ in read]


def _verify_file(path: Path) -> tuple[Manifest, str]:
    if not path.name:
        raise LongshoreError(f"{path} is a folder; name the result file")
    beside = path.with_name(path.name + SUFFIX)
    try:
        text = beside.read_bytes()
        manifest = msgspec.json.decode(text, type=Manifest)
    except OSError as error:
        raise LongshoreError(f"{beside} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise LongshoreError(f"{beside} is no manifest: {error}") from None
    _refuse_made_up(beside, manifest)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise LongshoreError(f"{path} cannot be read: {error.strerror}") from None
    size = path.stat().st_size
    if size != manifest.size:
        raise LongshoreError(f"{path} has {size:,} bytes, and must have {manifest.size:,}")
    if digest.hexdigest() != manifest.sha256:
        raise LongshoreError(f"{path} was changed: its SHA-256 is {digest.hexdigest()}, not {manifest.sha256}")
    try:
        rows = readback.rows(lambda: path.open("rb"), manifest)
        if rows != manifest.rows:
            raise LongshoreError(f"{path} has {rows:,} rows, and must have {manifest.rows:,}")
        if manifest.totals is not None:
            _verify_totals(path, manifest, manifest.totals)
    except LongshoreError:
        raise
    except Exception as error:  # the readers of five formats raise many kinds for bytes that are not of their format
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON_CHARACTERS]
        raise LongshoreError(
            f"{path} cannot be read as the {manifest.format} that its manifest describes: {reason}"
        ) from None
    return manifest, hash_of(text)


def _refuse_made_up(beside: Path, manifest: Manifest) -> None:
    """Raise LongshoreError for a manifest that no export can have written."""
    sums = [one.sum for one in manifest.totals.sums] if manifest.totals else []
    wrong = None
    if manifest.version != VERSION:
        wrong = f"its version is {manifest.version}, expected {VERSION}"
    elif manifest.format not in FORMATS:
        wrong = f"its format is {manifest.format!r}, expected {' or '.join(FORMATS)}"
    elif not manifest.file.isprintable():
        wrong = f"its file is named {manifest.file!r}"
    elif violations := check_options(manifest.csv, "/csv"):
        wrong = f"{violations[0].pointer}: {violations[0].detail}"
    elif odd := next((text for text in sums if not SUM.fullmatch(text)), None):
        wrong = f"{odd[:MAX_REASON_CHARACTERS]!r} is no sum"
    elif len({one.value for one in manifest.totals.sums} if manifest.totals else ()) != len(sums):
        wrong = "its totals have a value twice"
    if wrong is not None:
        raise LongshoreError(f"{beside} is no manifest: {wrong}")


def _verify_totals(path: Path, manifest: Manifest, expected: Totals) -> None:
    digits = [Decimal(one.sum).as_tuple().exponent for one in expected.sums]
    scale = max((-digit for digit in digits if isinstance(digit, int)), default=0)
    columns = TotalColumns(expected.amount, expected.per, scale)
    actual = readback.sums(lambda: path.open("rb"), manifest, columns)
    try:
        totals.compare(expected, actual)
    except LongshoreError as error:
        raise LongshoreError(f"{path}: {error}") from None
