"""A kind of destination: its settings and secret, and how a place of this kind takes files or a table.

Built-in kinds and those of other packages are registered by the entry point group `longshore.destinations`, whose
objects are functions that take `settings.Settings` and return a `Kind`.
"""

import hashlib
import io
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import IO, Any, Literal, Protocol

import msgspec

from longshore.errors import LongshoreError, TransientError
from longshore.exports.manifest import Mirror
from longshore.exports.totals import Totals, compare, of_list
from longshore.outbound import Network
from longshore.plugins import PluginLoadError, load_plugins
from longshore.settings import Settings
from longshore.validation import Violation

GROUP = "longshore.destinations"
KindLoadError = PluginLoadError

VISIBLE = {"expected": "visible ASCII characters without spaces"}
PRINTED = {"expected": "text without control characters"}
"""The `extra` of a field's `Meta`: what a violation of its pattern says instead of the pattern."""


class DestinationError(LongshoreError):
    """A destination refuses, and goes on refusing until someone changes it: wrong key, no such bucket, no right.

    The message names the right or setting that is missing, and never holds a part of a secret.
    """


class DestinationUnavailableError(TransientError):
    """A destination does not answer, or answers that another attempt may succeed."""


class SecretStruct(msgspec.Struct, frozen=True):
    """The base of structs with secrets: their texts, which may reach a log or a traceback, show no values."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of the test of a destination: what was tried, whether it worked, and what to change where it did not."""

    step: str
    ok: bool
    detail: str = ""


class File(Protocol):
    """A file of a result, which a delivery reads."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def sha256(self) -> bytes: ...

    def open(self) -> IO[bytes]:
        """Open it for reading from its first byte. Blocking, as its `read` and `close` are; may be called again."""


class BytesFile(msgspec.Struct, frozen=True):
    """A File in memory."""

    content: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.content).digest()

    def open(self) -> IO[bytes]:
        return io.BytesIO(self.content)


class FilePlace(Protocol):
    """An open destination that takes files. A `path` is relative to what its settings name, with `/` between parts.

    It may have `files_at_a_time`: for how many files its methods may be called at a time; 1 where it is left out. And
    `discard_many(paths, write_ids)`, which does for each of both what `discard` does, in place of many such calls.
    """

    def address(self, path: str) -> str:
        """Return where a file lies, such as `s3://bucket/prefix/path`. Without secrets."""

    async def write(self, path: str, file: File, write_id: str, *, overwrite: bool) -> bytes | None:
        """Write a file, which appears under its path whole or not at all.

        Return the SHA-256 of the bytes that the destination has, where the place has compared them itself; a file for
        which it returns None is read afterwards.

        `write_id`: the same when an interrupted write is repeated or discarded, so that it can go on or be removed:
        letters, digits, hyphens.
        `overwrite`: whether a file that lies there is replaced; where it is false and another file lies there, raise
        DestinationError. A file that lies there with the same bytes is left as it is. Raises DestinationError and
        DestinationUnavailableError.
        """

    def read(self, path: str) -> AsyncIterator[bytes]:
        """Yield the bytes of a file as they lie at the destination. Raises as `write`."""

    async def discard(self, path: str, write_id: str) -> None:
        """Remove what interrupted writes of this `path` and `write_id` have left: temporary files, parts of uploads.

        The file itself stays. It is also called where nothing was begun.
        """


class TableColumn(msgspec.Struct, frozen=True):
    """A column of a table to load."""

    name: str
    type: str
    """The field's type as the catalog names it, see docs/catalog.md."""
    postgresql: str
    """Its type in the source, such as `numeric(12,2)`; the table is made with it."""


class DeliveryRecord(msgspec.Struct, frozen=True):
    """The line of a delivery in the table `_longshore_deliveries` of the destination."""

    task: int
    run: int
    interval_start: datetime | None
    interval_end: datetime
    watermark_from_hash: str | None
    """Hashes of the watermarks of an increment; None where the run is none."""
    watermark_to_hash: str | None
    rows: int
    sha256: bytes
    """Of the run's file."""


class TableEvidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rows of a delivery in a table, read back from it."""

    rows: int
    """Rows of the load that the table took, and rows that it deleted."""
    totals: Totals | None = None
    """Control totals of these rows as the table has them; a deleted row has no value and counts as 0."""
    mirror: Mirror | None = None
    """Rows and control totals of the whole table; None unless the load has changes."""
    already_loaded: bool = False
    """Whether an earlier delivery of the same run or watermarks was found, so that nothing was loaded."""


class TableLoad(msgspec.Struct, frozen=True):
    """Rows to load into a table."""

    table: str
    mode: Literal["append", "replace", "merge"]
    columns: list[TableColumn]
    """As in the file, without `_change` and `_reason`."""
    key: list[str]
    has_changes: bool
    """Whether `_change` and `_reason` come first in the file. Rows with `_change` = `delete` are deleted by the key."""
    is_full: bool
    """Whether the rows are the whole copy: a merge then replaces."""
    format: Literal["csv", "parquet"]
    file: File
    totals: Totals | None
    """The control totals of the rows; those of the evidence are made of the same two columns."""
    line: DeliveryRecord
    mirror: Mirror | None = None
    """Rows and control totals that the table must have afterwards; None unless the load has changes."""

    @property
    def replaces_all_rows(self) -> bool:
        """Whether a merge brings all rows that the table must have, whatever it has before."""
        return self.mode == "merge" and (self.is_full or self.line.watermark_from_hash is None)

    def require(self, evidence: TableEvidence, what: str) -> None:
        """Raise DestinationError where a table took other rows than the file has, and say in what they differ.

        `what`: begins the message. A place calls it before it commits, so that such rows never appear.
        """
        self.require_rows(evidence.rows, what)
        _compare(self.totals, evidence.totals, f"{what}: ", "the table took")
        if self.mirror is None or evidence.mirror is None:
            return
        found, copy = evidence.mirror.rows, self.mirror.rows
        remedy = f"were rows changed by hand, or by another task? {self.full_run_advice}"
        if found != copy:
            raise DestinationError(f"{what} would have {found:,} rows, and the copy must have {copy:,}; {remedy}")
        _compare(self.mirror.totals, evidence.mirror.totals, f"{what} as a whole: ", "the table has", f"; {remedy}")

    def require_rows(self, rows: int, what: str) -> None:
        """Raise DestinationError where a table took another number of rows than the file has."""
        if rows != self.line.rows:
            raise DestinationError(f"{what} took {rows:,} rows, and the result has {self.line.rows:,}")

    @property
    def full_run_advice(self) -> str:
        """The advice by which the table gets all rows again."""
        return f'have the task run in full: POST /tasks/{self.line.task}/execute with {{"full": true}}'


def _compare(expected: Totals | None, found: Totals | None, before: str, has: str, remedy: str = "") -> None:
    """Raise DestinationError where control totals differ. `has`: how the error says what was found."""
    if expected is None or found is None:
        return
    try:
        compare(expected, of_list(found.sums))
    except LongshoreError as error:
        raise DestinationError(f"{before}{str(error).replace('the file has', has)}{remedy}") from None


class TablePlace(Protocol):
    """An open destination that takes tables."""

    def address(self, table: str) -> str:
        """Return where a table lies, such as `postgresql://host:5432/database/schema.table`. Without secrets."""

    async def load(self, load: TableLoad) -> TableEvidence:
        """Load rows and write the line of the delivery in one transaction. May be called again after any error.

        An increment (`line.watermark_from_hash`) is refused where the table lacks the delivery that ends there, unless
        the load is full: without the rows before, the table would be called delivered and lack most of them. Raises
        DestinationError and DestinationUnavailableError.
        """


OpenDestination = FilePlace | TablePlace


class Kind(msgspec.Struct, frozen=True):
    """A kind of destination."""

    settings: type[msgspec.Struct]
    """Shown: where and as whom to connect. Forbids unknown fields; its schema makes the console's form."""
    secret: type[msgspec.Struct]
    takes: Literal["files", "tables"]
    open: Callable[[Any, Any, tuple[Network, ...]], AbstractAsyncContextManager[OpenDestination]]
    """`open(settings, secret, allow)` connects. `allow`: networks that the chain may reach though they are not public.
    Raises DestinationError and DestinationUnavailableError."""
    test: Callable[[Any, Any, tuple[Network, ...]], AsyncIterator[Step]]
    """`test(settings, secret, allow)` tries each thing that a delivery does, with a file or table of its own that it
    removes, and yields a step for each. It ends after the first step that fails, and raises nothing."""
    check: Callable[[Any, Any, tuple[Network, ...]], list[Violation]] = lambda *_: []
    """`check(settings, secret, allow)` returns the violations beyond the types of fields, without a connection: such as
    two fields that exclude each other, or a host that `outbound.check_host` refuses. Each pointer begins with
    `/settings/` or `/secret/`. No detail holds a part of the secret. It is called in a thread, and may take a while."""
    changeable_without_secret: frozenset[str] = frozenset()
    """Names of settings that say neither where nor as whom to connect, such as a prefix. A change of any other one is
    refused unless the secret is sent with it, so that the stored secret cannot be sent elsewhere."""
    hidden: Callable[[Any], Any] = lambda secret: secret
    """`hidden(secret)` returns the parts of the secret whose texts no error may show, as a struct, object or list; by
    default all. For kinds whose secret also holds what errors have to name, such as an address."""


def load(settings: Settings) -> Mapping[str, Kind]:
    """Return the kinds of all packages by name, those of this one too. Raises KindLoadError."""
    return load_plugins(GROUP, Kind, settings)
