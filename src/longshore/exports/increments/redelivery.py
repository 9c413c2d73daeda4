"""An increment that nobody acknowledged is given again: the same file, byte for byte.

Not by the same query: the rows may have changed since. Only where no copy of the file is left is the increment read
again, between the same marks.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from longshore.exports.manifest import SUFFIX, Manifest
from longshore.results.open import Store
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.watermarks import Increment, IncrementState, Pending


def give_again(
    store: Store, standing: IncrementState, begun: Attempt, location: str, previous: str | None
) -> RunResult | None:
    """Copy the file of an increment that waits to a place of this attempt's own; None when none is left unchanged.

    Blocking. `previous`: hash of the manifest before. Raises OSError, StoreUnavailableError and StoreError.
    """
    for pending in standing.pending:
        written = msgspec.json.decode(pending.manifest, type=Manifest)
        manifest = msgspec.structs.replace(written, run=begun.run, previous=previous).encoded()
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
                increment=Increment(standing.mark, pending.end, on_ack=True),
                note=f"the increment of run {_first(standing.pending)} again, as it is not acknowledged",
            )
    return None


def read_again(pending: Sequence[Pending]) -> str:
    """What the log says of an increment that waits and whose file is gone."""
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
