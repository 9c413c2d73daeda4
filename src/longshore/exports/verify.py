"""Verification of result files by their manifests, without any server."""

import hashlib
import itertools
import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from longshore.errors import LongshoreError
from longshore.exports import readback, totals
from longshore.exports.formats import FORMATS
from longshore.exports.formats.dialect import check_options
from longshore.exports.manifest import SIGNATURE, SUFFIX, VERSION, FilesManifest, Manifest, hash_of, is_files
from longshore.exports.totals import Sums, TotalColumns, Totals

if TYPE_CHECKING:
    from longshore.exports.signatures import PublicKey

CHUNK_BYTES = 1 << 20
MAX_REASON_CHARACTERS = 200
SUM = re.compile(r"-?[0-9]{1,200000}(\.[0-9]{1,20000})?|NaN|-?Infinity")  # a numeric of PostgreSQL


PATH = re.compile(r"[A-Za-z0-9_.%=/-]{1,1000}")  # of a file; see `files.paths`

Keys = dict[str, "PublicKey"]
"""The keys that may have signed, by kid."""

T = TypeVar("T", bound=msgspec.Struct)


class _Kind(msgspec.Struct):
    """The member that a manifest of many files has, and one of a single file lacks."""

    files: list[Any] | None = None


def verify(paths: Iterable[Path], keys: Path | None = None) -> list[Manifest | FilesManifest]:
    """Check files by the manifests beside them, and that no run is missing between those of the same task.

    A path that is a manifest of many files stands for all of them. `keys`: a JWK Set with the keys that may have signed
    the manifests; without it signatures are not looked at. Rows and control totals are left out of files for which
    `missing_package` names a package. Return the manifests in the order of their runs. Raises LongshoreError for the
    first violation.
    """
    known = None if keys is None else _read_keys(keys)
    read = sorted((_verify_result(path, known) for path in paths), key=lambda pair: (pair[0].task, pair[0].run))
    for (before, hash_before), (after, hash_after) in itertools.pairwise(read):
        is_same = hash_before == hash_after  # the same result twice
        if before.task == after.task and not is_same and after.previous != hash_before:
            raise LongshoreError(
                f"run {after.run} of task {after.task} does not follow run {before.run}: "
                "a run between them is missing, or a manifest was changed"
            )
    return [manifest for manifest, _ in read]


def _read_keys(path: Path) -> Keys:
    from longshore.exports.signatures import read_keys  # needs `longshore[verify]`, which checksums do without

    return read_keys(path)


def missing_package(manifest: Manifest | FilesManifest) -> str | None:
    """Return the package without which rows and control totals of a result are not checked; None if they are."""
    if isinstance(manifest, Manifest):
        return readback.missing_package(manifest)
    return next(filter(None, (readback.missing_package(manifest.of_file(each)) for each in manifest.files)), None)


def _verify_result(path: Path, keys: Keys | None) -> tuple[Manifest | FilesManifest, str]:
    if path.is_dir():
        raise LongshoreError(f"{path} is a folder; name the result file")
    if is_files(path.name):
        text = _read_signed(path, keys)
        if _decoded(path, text, _Kind).files is None:
            raise LongshoreError(f"{path} is the manifest of one file; name that file")
        files = _decoded(path, text, FilesManifest)
        _verify_files(path, files)
        return files, hash_of(text)
    beside = path.with_name(path.name + SUFFIX)
    if not beside.exists():
        hint = "a download with `--manifest` brings it"
        raise LongshoreError(f"{beside} cannot be read: No such file or directory; {hint}")
    text = _read_signed(beside, keys)
    manifest = _decoded(beside, text, Manifest)
    _refuse_made_up(beside, manifest)
    sums = _verify_file(path, manifest)
    if sums is not None:
        _compare(path, manifest.totals, sums)
    return manifest, hash_of(text)


def _read_signed(manifest: Path, keys: Keys | None) -> bytes:
    """Return the text of a manifest, after its signature was checked where there are keys."""
    text = _read(manifest)
    if keys is not None:
        from longshore.exports import signatures

        signature = manifest.with_name(manifest.name + SIGNATURE)
        if not signature.exists():
            raise LongshoreError(f"{signature} is missing, so nothing proves who wrote {manifest.name}")
        try:
            signatures.check(text, _read(signature).decode("latin-1"), keys)
        except LongshoreError as error:
            raise LongshoreError(f"{signature} {error}") from None
    return text


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LongshoreError(f"{path} cannot be read: {error.strerror}") from None


def _decoded(path: Path, text: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise LongshoreError(f"{path} is no manifest: {error}") from None


def _verify_files(path: Path, manifest: FilesManifest) -> None:
    """Check all files of a manifest, and that their figures add up to those of their index and of the whole."""
    indexes = {index.index: index for index in manifest.indexes}
    found: dict[str, Sums] = {name: {} for name in indexes}
    rows = dict.fromkeys(indexes, 0)
    seen: set[str] = set()
    unread: set[str] = set()
    for entry in manifest.files:
        if entry.index not in indexes or not _is_inside(entry.path) or entry.path in seen:
            raise LongshoreError(f"{path} is no manifest: it names a file {entry.path!r} of index {entry.index!r}")
        seen.add(entry.path)
        alone = manifest.of_file(entry)
        _refuse_made_up(path, alone)
        sums = _verify_file(path.parent / entry.path, alone)
        rows[entry.index] += entry.rows
        if sums is None:
            unread.add(entry.index)
        else:
            totals.merge(found[entry.index], sums)
    for name, index in indexes.items():
        if rows[name] != index.rows:
            raise LongshoreError(f"{path}: the files of index {name} have {rows[name]:,} rows, expected {index.rows:,}")
        if name not in unread:
            _compare(path, index.totals, found[name])
    size = sum(entry.size for entry in manifest.files)
    if (sum(rows.values()), size) != (manifest.rows, manifest.size):
        raise LongshoreError(f"{path} is no manifest: its rows and bytes are not those of its files")


def _is_inside(path: str) -> bool:
    """Return whether the path of a file is one that an export writes, below the folder of its manifest."""
    return bool(PATH.fullmatch(path)) and not {"", ".", ".."} & set(path.split("/"))


def _verify_file(path: Path, manifest: Manifest) -> Sums | None:
    """Check bytes and rows of a file. Return its sums for the control totals; None where a package to read it lacks."""
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
    if readback.missing_package(manifest):
        return None
    try:
        rows = readback.rows(lambda: path.open("rb"), manifest)
        if rows != manifest.rows:
            raise LongshoreError(f"{path} has {rows:,} rows, and must have {manifest.rows:,}")
        if manifest.totals is None:
            return {}
        return readback.sums(lambda: path.open("rb"), manifest, _columns(manifest.totals))
    except LongshoreError:
        raise
    except Exception as error:  # the readers of five formats raise many kinds for bytes that are not of their format
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON_CHARACTERS]
        raise LongshoreError(
            f"{path} cannot be read as the {manifest.format} that its manifest describes: {reason}"
        ) from None


def _columns(expected: Totals) -> TotalColumns:
    digits = [Decimal(one.sum).as_tuple().exponent for one in expected.sums]
    scale = max((-digit for digit in digits if isinstance(digit, int)), default=0)
    return TotalColumns(expected.amount, expected.per, scale)


def _compare(path: Path, expected: Totals | None, found: Sums) -> None:
    if expected is None:
        return
    try:
        totals.compare(expected, found)
    except LongshoreError as error:
        raise LongshoreError(f"{path}: {error}") from None


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
