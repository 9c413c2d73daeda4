"""The files of a run's result as a delivery reads them, in the order in which they are written."""

from collections.abc import Sequence
from typing import IO

import msgspec

from longshore.destinations.kind import BytesFile, DestinationError
from longshore.exports.manifest import SIGNATURE, SUFFIX, FilesManifest, Manifest, is_files
from longshore.results.store import Store
from longshore.tasks.deliveries import DeliveryAttempt

GONE_MESSAGE = "the result has expired or was deleted"


class StoredFile(msgspec.Struct, frozen=True):
    """A file in the results store."""

    store: Store
    location: str
    size: int
    sha256: bytes

    def open(self) -> IO[bytes]:
        """Open it for reading from its first byte. Blocking. Raises DestinationError where it is gone."""
        try:
            return self.store.open(self.location)
        except FileNotFoundError:
            raise DestinationError(GONE_MESSAGE) from None


class NamedFile(msgspec.Struct, frozen=True):
    """A file with its path within the run."""

    name: str
    file: StoredFile | BytesFile


class DeliveryFiles(msgspec.Struct, frozen=True):
    """The files of a delivery."""

    manifest: Manifest | FilesManifest
    files: Sequence[NamedFile]
    """The files with rows."""
    companions: Sequence[NamedFile]
    """The files beside them, in the order of their writing: the manifest last, as it says that all is there."""


def files_of(delivery: DeliveryAttempt, store: Store) -> DeliveryFiles:
    """Return the files of a run's result. Raises DestinationError where it is gone."""
    if delivery.location is None or delivery.manifest is None:
        raise DestinationError(GONE_MESSAGE)
    text = delivery.manifest.encode()
    if is_files(delivery.result):
        listed = msgspec.json.decode(text, type=FilesManifest)
        folder = delivery.location.rpartition("/")[0]
        files = [
            NamedFile(entry.path, StoredFile(store, f"{folder}/{entry.path}", entry.size, bytes.fromhex(entry.sha256)))
            for entry in listed.files
        ]
        return DeliveryFiles(listed, files, _companions(delivery, delivery.result, text))
    manifest = msgspec.json.decode(text, type=Manifest)
    file = StoredFile(store, delivery.location, manifest.size, bytes.fromhex(manifest.sha256))
    files = [NamedFile(delivery.result, file)]
    return DeliveryFiles(manifest, files, _companions(delivery, f"{delivery.result}{SUFFIX}", text))


def _companions(delivery: DeliveryAttempt, name: str, manifest: bytes) -> list[NamedFile]:
    """Return the signature of a manifest and the manifest. `name`: of the manifest."""
    signature = [] if delivery.signature is None else [BytesFile(delivery.signature.encode())]
    return [*(NamedFile(name + SIGNATURE, file) for file in signature), NamedFile(name, BytesFile(manifest))]
