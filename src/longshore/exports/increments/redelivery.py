"""Redelivery: a run after an increment that was not acknowledged delivers the same file again, byte for byte.

The query is not repeated, as the rows may have changed since. Only where no copy of the file is left, the increment is
read again, between the same watermarks.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from longshore.exports.manifest import SUFFIX, Manifest
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
        written = msgspec.json.decode(pending.manifest, type=Manifest)
        manifest = msgspec.structs.replace(
            written, run=attempt.run, due=attempt.due, interval=attempt.interval, previous=previous
        ).encoded()
        if _copy(store, pending, location, manifest):
            return RunResult(
                result=written.file,
                location=location,
                total=pending.rows,
                success=pending.rows,
                size=pending.size,
                sha256=pending.sha256,
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
