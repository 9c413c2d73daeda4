"""The baseline of a run with deletes: the watermark and the key list that it goes on from, or why it cannot."""

import contextlib
import tempfile
import threading
from collections.abc import Sequence
from typing import IO

import msgspec

from longshore.exports.increments.change_query import KeyList, read_watermark
from longshore.exports.temporary_files import temporary_files
from longshore.results.store import AttemptFiles, Store, copy_hashed, remove_unneeded
from longshore.tasks.attempts import Attempt, StaleAttemptError
from longshore.tasks.watermarks import IncrementState

BEGAN_FORMAT = "%Y%m%dT%H%M%S%f"
"""When a run began, as the location of its key list has it."""


class Baseline(msgspec.Struct, frozen=True):
    """The state of the client's copy before a run."""

    location: str
    """The location of the run's own key list."""
    task_watermark: str | None
    """The task's watermark."""
    continues_from: str | None = None
    """The watermark that the run goes on from; None for a full run."""
    keys: IO[bytes] | None = None
    """The key list that belongs to it."""
    why_full: str | None = None
    """Why the run does not go on from the task's watermark; None where it does, and for the first run."""


def open_baseline(store: Store, attempt: Attempt, increments: IncrementState, cancelled: threading.Event) -> Baseline:
    """Return the baseline of an attempt, after the key lists that no watermark needs any more were removed.

    Blocking. Raises StaleAttemptError, OSError, StoreUnavailableError, StoreError, TransientError where temporary files
    cannot be written, and LongshoreError once `cancelled` is set.
    """
    watermark, pending = increments.watermark, increments.pending
    if increments.run_began_at is None:
        raise StaleAttemptError(attempt.message)
    began = f"{increments.run_began_at:{BEGAN_FORMAT}}"
    files = AttemptFiles.of(attempt)
    found = Baseline(files.key_list(began), watermark)
    known = read_watermark(watermark)
    watermarks = [known, *(read_watermark(each.end) for each in pending)]
    kept = [each.keys.location for each in watermarks if each is not None]
    others = _remove_older(store, attempt, kept)
    for location in store.unfinished_key_lists(attempt.chain, attempt.message.task):
        if location not in kept and _age(location) < _age(found.location):  # else of a later attempt
            remove_unneeded(store, location)
    why = None
    if pending:
        why = f"the file of run {pending[0].run}, which is not acknowledged, is gone"
    elif watermark is not None and known is None:
        why = "the runs before had no deletes"
    elif watermark is not None and any(_age(location)[0] < began for location in others):
        # A run that this database does not know of had a later watermark, up to which the client may have come.
        why = "the service's database is older than the key lists in its results store, as after a restore"
    if known is None or why is not None:
        return msgspec.structs.replace(found, why_full=why)
    keys = _intact(store, known.keys, cancelled)
    if keys is None:
        return msgspec.structs.replace(found, why_full="the list of the keys that the copy has is gone or damaged")
    return msgspec.structs.replace(found, continues_from=watermark, keys=keys)


def _remove_older(store: Store, attempt: Attempt, kept: Sequence[str]) -> list[str]:
    """Remove the key lists that are older than the newest at the locations `kept`. Return the newer ones.

    Newer ones are of attempts that ended after they had made their list, or of a history of the service's database that
    a restore has undone: so they stay until a later run has succeeded.
    """
    newest = max(map(_age, kept), default=("", 0))
    others = [location for location in store.key_lists(attempt.chain, attempt.message.task) if location not in kept]
    for location in others:
        if _age(location) < newest:
            remove_unneeded(store, location)
    return [location for location in others if _age(location) > newest]


def _age(location: str) -> tuple[str, int]:
    """Return when the run began that made a key list, and its attempt."""
    began, _, attempt = location.rsplit("/", 2)[1].partition("-")
    return began, int(attempt)


def _intact(store: Store, keys: KeyList, cancelled: threading.Event) -> IO[bytes] | None:
    """Return a copy of a key list on the local disk; None if it is not as it was written."""
    with contextlib.ExitStack() as stack:
        with temporary_files("the key list"):
            copy = tempfile.TemporaryFile()  # noqa: SIM115  # closed by the stack, or with the run
        stack.callback(_drop, copy)

        def write(chunk: bytes) -> None:
            with temporary_files("the key list"):
                copy.write(chunk)
                copy.flush()

        sha256 = copy_hashed(store, keys.location, write, cancelled)
        if sha256 is not None and sha256.hex() == keys.sha256:
            stack.pop_all()  # closed with the run
            return copy
    return None


def _drop(copy: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # closing writes again what a full disk has refused, whose error is raised
        copy.close()
