"""One attempt of a delivery: bring files or rows to an open destination, and read them back as evidence.

The order is: files, read back, what lies beside them, the manifest. So where a manifest lies and nothing is
overwritten, all that it names is there, whole and as it says.
"""

import asyncio
import hashlib
from collections.abc import Iterable
from itertools import product
from typing import TypeGuard, cast

import msgspec

from longshore.destinations.concurrency import map_concurrently
from longshore.destinations.delivery_files import DeliveryFiles, NamedFile, files_of
from longshore.destinations.kind import (
    DeliveryRecord,
    DestinationError,
    DestinationUnavailableError,
    File,
    FilePlace,
    OpenDestination,
    TableColumn,
    TableEvidence,
    TableLoad,
    TablePlace,
)
from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.manifest import Manifest
from longshore.exports.target import CHANGE_NAMES
from longshore.exports.target.deliver import TABLE_FORMATS, Deliver, path_of
from longshore.results.store import Store
from longshore.tasks.deliveries import DeliveryAttempt
from longshore.validation import in_json

LARGE_BYTES = 2 << 20  # of a file that is brought while no other large one is; many small ones wait for answers alone

TIMEOUT_MESSAGE = "the delivery has taken too long"

COLUMN_TYPES = msgspec.json.Decoder(dict[str, str])
COMPRESSED = (".gz", ".zst")


class FileEvidence(msgspec.Struct, frozen=True):
    """The figures of the files that a destination took, as they were read back there."""

    files: int
    """Files with rows."""
    bytes: int
    """Of these files together."""
    sha256: str
    """Of the file, or of many files of their manifest, which has the hash of each."""


class DeliveredResult(msgspec.Struct, frozen=True):
    """A result that lies at its destination."""

    address: str
    evidence: FileEvidence | TableEvidence


def takes_tables(place: OpenDestination) -> TypeGuard[TablePlace]:
    """Return whether an open destination takes tables rather than files."""
    return hasattr(place, "load")


def write_id_of(delivery: DeliveryAttempt, generation: int) -> str:
    """Return the `write_id` of a delivery for `FilePlace.write`, by which what it leaves unfinished is found.

    It is the same for all attempts, so that one goes on where the last one stopped, until a worker is lost: that worker
    may still write, so the attempts after it are another generation.
    """
    message = delivery.message
    return f"{message.task}-{message.run}-{message.number}-{generation}"


async def deliver(delivery: DeliveryAttempt, place: OpenDestination, store: Store) -> DeliveredResult:
    """Bring a result to an open destination and read it back. Raises DestinationError, also where the evidence differs.

    Raises DestinationUnavailableError and the errors of the store.
    """
    entry = msgspec.json.decode(delivery.entry, type=Deliver)
    if delivery.later_run is not None:
        raise DestinationError(f"run {delivery.later_run}, which is later, has been delivered there")
    if delivery.seconds_left <= 0:
        raise DestinationError(TIMEOUT_MESSAGE)
    contents = files_of(delivery, store)
    if takes_tables(place):
        if entry.table is None:
            named = in_json(delivery.destination)
            raise DestinationError(f"the destination {named} takes tables; the target names none")
        return await _deliver_table(delivery, contents, place, entry)
    if entry.table is not None:
        raise DestinationError(f"the destination {in_json(delivery.destination)} takes files; the target names a table")
    return await _deliver_files(delivery, contents, cast(FilePlace, place), overwrite=entry.overwrite)


async def discard(delivery: DeliveryAttempt, place: OpenDestination, store: Store, generations: Iterable[int]) -> None:
    """Remove what the attempts of a delivery have left unfinished. `generations`: of their `write_id`s."""
    if takes_tables(place):
        return
    contents = files_of(delivery, store)
    paths = [path_of(delivery.place, named.name) for named in (*contents.files, *contents.companions)]
    write_ids = [write_id_of(delivery, generation) for generation in generations]
    files = cast(FilePlace, place)
    if discard_many := getattr(files, "discard_many", None):
        await discard_many(paths, write_ids)
    else:
        await map_concurrently(product(paths, write_ids), lambda one: files.discard(*one), _at_a_time(place))


async def _deliver_files(
    delivery: DeliveryAttempt, contents: DeliveryFiles, place: FilePlace, *, overwrite: bool
) -> DeliveredResult:
    write_id = write_id_of(delivery, delivery.lost_workers)

    async def bring(named: NamedFile) -> None:
        path = path_of(delivery.place, named.name)
        if await place.write(path, named.file, write_id, overwrite=overwrite) != named.file.sha256:
            await _read_back(place, path, named, overwrite=overwrite)

    large = asyncio.Lock()

    async def bring_in_turn(named: NamedFile) -> None:
        if named.file.size < LARGE_BYTES:
            await bring(named)
            return
        async with large:
            await bring(named)

    await map_concurrently(contents.files, bring_in_turn, _at_a_time(place))
    for named in contents.companions:
        await bring(named)
    size = sum(named.file.size for named in contents.files)
    last = contents.files[0] if isinstance(contents.manifest, Manifest) else contents.companions[-1]
    evidence = FileEvidence(files=len(contents.files), bytes=size, sha256=last.file.sha256.hex())
    return DeliveredResult(place.address(path_of(delivery.place, delivery.result)), evidence)


def _at_a_time(place: OpenDestination) -> int:
    return int(getattr(place, "files_at_a_time", 1))


async def _read_back(place: FilePlace, path: str, named: NamedFile, *, overwrite: bool) -> None:
    """Read a file that was written. Raises an error where it has other bytes: a transient one if it may be replaced.

    It is left there, as it may be another writer's by then.
    """
    digest, size = hashlib.sha256(), 0
    async for chunk in place.read(path):
        digest.update(chunk)
        size += len(chunk)
    expected: File = named.file
    if size != expected.size:
        problem = f"{place.address(path)} has {size:,} bytes, and {named.name} has {expected.size:,}"
    elif digest.digest() != expected.sha256:
        found = digest.hexdigest()
        problem = f"{place.address(path)} has the SHA-256 {found}, and {named.name} has {expected.sha256.hex()}"
    else:
        return
    raise (DestinationUnavailableError if overwrite else DestinationError)(problem)


async def _deliver_table(
    delivery: DeliveryAttempt, contents: DeliveryFiles, place: TablePlace, entry: Deliver
) -> DeliveredResult:
    manifest = contents.manifest
    if not isinstance(manifest, Manifest):
        raise DestinationError("a table takes a result of one file")
    assert entry.table is not None
    load = _load_of(delivery, contents, manifest, entry)
    found = await place.load(load)
    address = place.address(entry.table)
    if not found.already_loaded:  # an increment that was read again may have fewer rows than that in the table
        load.require(found, address)
    return DeliveredResult(address, msgspec.structs.replace(found, rows=int(found.rows)))


def _load_of(delivery: DeliveryAttempt, contents: DeliveryFiles, manifest: Manifest, entry: Deliver) -> TableLoad:
    types = COLUMN_TYPES.decode(delivery.column_types or "{}")
    has_changes = manifest.full is not None
    assert entry.table is not None
    assert entry.mode is not None
    if manifest.format not in ("csv", "parquet"):
        raise DestinationError(f"a table takes csv and parquet, and the result is {manifest.format}")
    # The target may have had other options at the time of the run.
    is_plain = manifest.csv == CsvOptions() and not contents.files[0].name.endswith(COMPRESSED)
    if manifest.format == "csv" and not is_plain:
        raise DestinationError(TABLE_FORMATS)
    return TableLoad(
        table=entry.table,
        mode=entry.mode,
        columns=[
            TableColumn(field.name, field.type, types.get(field.name, "text"))
            for field in manifest.fields
            if not (has_changes and field.name in CHANGE_NAMES)
        ],
        key=list(manifest.key),
        has_changes=has_changes,
        is_full=bool(manifest.full),
        format="csv" if manifest.format == "csv" else "parquet",
        file=contents.files[0].file,
        totals=manifest.totals,
        mirror=manifest.mirror,
        line=DeliveryRecord(
            task=manifest.task,
            run=manifest.run,
            interval_start=manifest.interval.start,
            interval_end=manifest.interval.end,
            watermark_from_hash=delivery.watermark_from_hash,
            watermark_to_hash=delivery.watermark_to_hash,
            rows=manifest.rows,
            sha256=bytes.fromhex(manifest.sha256),
        ),
    )
