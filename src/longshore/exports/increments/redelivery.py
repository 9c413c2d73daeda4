"""Redelivery: a run after an increment that was not acknowledged delivers the same files again, byte for byte.

The query is not repeated, as the rows may have changed since. Only where no copy of the file is left, the increment is
read again, between the same watermarks.
"""

import functools
import hashlib
import threading
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from longshore.database.connect import Pool
from longshore.exports.manifest import SIGNATURE, FileEntry, FilesManifest, Manifest, is_files, sidecars
from longshore.exports.planned_result import PlannedResult
from longshore.results.own_thread import in_own_thread, refuse_cancelled
from longshore.results.store import AttemptFiles, ResultWriter, Store, copy_hashed, remove_unneeded
from longshore.tasks import run_queries
from longshore.tasks.attempts import RunResult
from longshore.tasks.watermarks import Increment, IncrementState, PendingIncrement


async def redeliver(
    pool: Pool, store: Store, increments: IncrementState, planned: PlannedResult, *, on_ack: bool
) -> RunResult | None:
    """Copy the result of the pending increment to this attempt's folder. Return None if no unchanged copy is left.

    The copy has name and kind of the run that it is of, whatever the target says now; only `on_ack` is the target's.
    Raises the errors of the database, OSError, StoreUnavailableError and StoreError.
    """
    for pending in increments.pending:
        attempt = planned.attempt
        text, _ = await run_queries.manifest(pool, attempt.chain, attempt.message.task, pending.run)
        if text is None:
            continue
        copied = await in_own_thread(functools.partial(_copy_result, store, pending, text, planned))
        if copied is not None:
            return msgspec.structs.replace(
                copied,
                increment=Increment(increments.watermark, pending.end, on_ack),
                note=f"the increment of run {increments.pending[-1].run} again, as it is not acknowledged",
            )
    return None


def _copy_result(
    store: Store, pending: PendingIncrement, text: str, planned: PlannedResult, cancelled: threading.Event
) -> RunResult | None:
    """Copy the result of one run, whose manifest is `text`. Return None if it is not as it was written."""
    has_files, attempt = is_files(pending.location), planned.attempt
    kind: type[Manifest | FilesManifest] = FilesManifest if has_files else Manifest
    written = msgspec.json.Decoder(kind, float_hook=Decimal).decode(text)
    manifest = msgspec.structs.replace(
        written, run=attempt.run, due=attempt.due, interval=attempt.interval, previous=planned.previous
    ).encoded()
    name = pending.location.rpartition("/")[2]
    location = AttemptFiles.of(attempt).location(name)
    signature = planned.key.sign(manifest)
    if isinstance(written, FilesManifest):
        if not _copy_files(store, pending, location, written.files, cancelled):
            remove_unneeded(store, location)
            return None
        with store.create(location) as new:
            new.write(manifest)
            new.publish({SIGNATURE: signature.encode()})
    else:
        with store.create(location) as new:
            if not _copy(store, pending.location, new, pending.sha256, cancelled):
                return None
            new.publish(sidecars(manifest, signature))
    return RunResult(
        result=name,
        location=location,
        total=pending.rows,
        success=pending.rows,
        size=pending.size,
        sha256=hashlib.sha256(manifest).digest() if has_files else pending.sha256,
        snapshot_at=pending.snapshot_at,
        manifest=manifest.decode(),
        signature=signature,
        skips=pending.skips,
        column_types=pending.column_types,
    )


def reread_note(first: PendingIncrement) -> str:
    """Return the log entry of an increment that was read again, because its file is gone. `first`: the first run."""
    return (
        f"the increment of run {first.run} read again, as its file is gone: "
        "what was changed since is left to the next one"
    )


def _copy_files(
    store: Store, pending: PendingIncrement, location: str, files: Sequence[FileEntry], cancelled: threading.Event
) -> bool:
    """Copy the files of a result of many, without their manifest."""
    source, target = (place.rpartition("/")[0] + "/" for place in (pending.location, location))
    for entry in files:
        refuse_cancelled(cancelled)
        with store.create(target + entry.path, is_part=True) as new:
            if not _copy(store, source + entry.path, new, bytes.fromhex(entry.sha256), cancelled):
                return False
            new.publish()
    return True


def _copy(store: Store, location: str, new: ResultWriter, sha256: bytes, cancelled: threading.Event) -> bool:
    """Copy a file into a new one. Return whether it is as it was written."""
    return copy_hashed(store, location, new.write, cancelled) == sha256
