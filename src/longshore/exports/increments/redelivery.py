"""Redelivery: a run after an increment that was not acknowledged delivers the same files again, byte for byte.

The query is not repeated, as the rows may have changed since. Only where no copy of the file is left, the increment is
read again, between the same watermarks.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from longshore.exports.manifest import SUFFIX, FileEntry, FilesManifest, Manifest, is_files
from longshore.results.store import Store
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.watermarks import Increment, IncrementState, Pending


def redeliver(
    store: Store, increments: IncrementState, attempt: Attempt, location: str, previous: str | None
) -> RunResult | None:
    """Copy the file of the pending increment to this attempt's location. Return None if no unchanged copy is left.

    Blocking. `previous`: hash of the manifest before. Raises OSError, StoreUnavailableError and StoreError.
    """
    for pending in increments.pending:
        has_files = is_files(pending.location)
        kind: type[Manifest | FilesManifest] = FilesManifest if has_files else Manifest
        written = msgspec.json.decode(pending.manifest, type=kind)
        manifest = msgspec.structs.replace(
            written, run=attempt.run, due=attempt.due, interval=attempt.interval, previous=previous
        ).encoded()
        files = written.files if isinstance(written, FilesManifest) else None
        if files is None:
            is_copied = _copy(store, pending, location, manifest)
        else:
            is_copied = _copy_files(store, pending, location, files, manifest)
        if is_copied:
            return RunResult(
                result=location.rpartition("/")[2],
                location=location,
                total=pending.rows,
                success=pending.rows,
                size=pending.size,
                sha256=hashlib.sha256(manifest).digest() if has_files else pending.sha256,
                snapshot_at=pending.snapshot_at,
                manifest=manifest.decode(),
                increment=Increment(increments.watermark, pending.end, on_ack=True),
                note=f"the increment of run {_first(increments.pending)} again, as it is not acknowledged",
            )
    return None


def reread_note(pending: Sequence[Pending]) -> str:
    """Return the log entry of a pending increment that was read again, because its file is gone."""
    return (
        f"the increment of run {_first(pending)} read again, as its file is gone: "
        "what was changed since is left to the next one"
    )


def _first(pending: Sequence[Pending]) -> int:
    return pending[-1].run


def _copy(store: Store, pending: Pending, location: str, manifest: bytes) -> bool:
    chunks = store.read(pending.location)
    if chunks is None:
        return False
    digest = hashlib.sha256()
    with store.create(location) as new:
        for chunk in chunks:
            digest.update(chunk)
            new.write(chunk)
        if digest.digest() != pending.sha256:
            return False
        new.publish(SUFFIX, manifest)
    return True


def _copy_files(store: Store, pending: Pending, location: str, files: Sequence[FileEntry], manifest: bytes) -> bool:
    """Copy the files of a result of many, and publish their manifest."""
    source, target = (place.rpartition("/")[0] + "/" for place in (pending.location, location))
    for entry in files:
        if not _copy_file(store, source + entry.path, target + entry.path, entry.sha256):
            store.remove(location)
            return False
    store.publish_files(location, manifest)
    return True


def _copy_file(store: Store, source: str, target: str, sha256: str) -> bool:
    chunks = store.read(source)
    if chunks is None:
        return False
    digest = hashlib.sha256()
    new = store.begin_file(target)
    try:
        for chunk in chunks:
            digest.update(chunk)
            new.write(chunk)
        if digest.hexdigest() != sha256:
            return False
        new.end()
    finally:
        new.close()
    return True
