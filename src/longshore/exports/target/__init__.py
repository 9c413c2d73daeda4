"""The action `export`: its target and trigger, as requests have them. `target.check` validates, `exporter` runs it."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from longshore.exports import formats
from longshore.exports.catalog import Catalog
from longshore.exports.columns import FieldChoice
from longshore.exports.files.partitions import PartitionKey
from longshore.exports.formats import Compression
from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.manifest import SUFFIX
from longshore.exports.segments import rules as segments
from longshore.exports.segments.rules import Segment
from longshore.exports.target.deliver import MAX_ENTRIES, Deliver
from longshore.tasks.model import Target
from longshore.tasks.reads import Read

CHANGE, REASON = "_change", "_reason"
CHANGE_NAMES = (CHANGE, REASON)
"""The columns that come first with `deletes`."""

TABLE_NAME = r"^[A-Za-z0-9_]{1,255}\Z"
MAX_SPLIT = 2**53 - 1  # the largest integer that every JSON reader keeps

BY_INDEX = ("fields", "schema", "partition_by")
"""Keys of a target that may be objects by index name where there are several indexes."""

Fields = list[str | FieldChoice]
Keys = list[PartitionKey]


class Split(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The size of the parts of a result: a number of rows or of bytes."""

    rows: Annotated[int, Meta(ge=1, le=MAX_SPLIT)] | None = None
    """Rows of each part; the last one of a partition has fewer."""
    bytes: Annotated[int, Meta(ge=1, le=MAX_SPLIT)] | None = None
    """Bytes of the stored file from which on no further rows are added to it."""


class ExportTarget(Target, frozen=True, kw_only=True):
    """The data to export, and the form of the result."""

    action: Literal["export"]
    export_index: str = ""
    """Required without `export_indexes`."""
    export_indexes: list[str] | None = None
    """Several indexes, all read from one snapshot."""
    export_format: str
    fields: Fields | dict[str, Fields] | None = None
    """The columns, in this order; without it, all of them. For several indexes also an object by index name."""
    schema: str | dict[str, str] | None = None
    """The fingerprint of the fields that the client expects. For several indexes also an object by index name."""
    partition_by: Keys | dict[str, Keys] | None = None
    """The fields by whose values the rows are divided into folders. For several indexes also an object by index
    name."""
    split: Split | None = None
    """The size at which a file is closed and another one begins."""
    compression: Compression | None = None
    csv: CsvOptions | None = None
    incremental: bool | Literal["on_ack"] = False
    """Whether each run takes only the rows that became visible since the last one, or the last acknowledged one."""
    deletes: bool = False
    """Whether each run of an incremental task also says which rows are to be deleted from the client's copy."""
    deliver: Annotated[list[Deliver], Meta(min_length=1, max_length=MAX_ENTRIES)] | None = None
    """The chain's destinations of each run's result. A run is `DONE` when all of them have it."""
    share_as: (
        Annotated[str, Meta(pattern=TABLE_NAME, extra={"expected": "up to 255 letters, digits and underscores"})] | None
    ) = None
    """The name of the table that Delta Sharing clients read the newest result as."""

    @property
    def names(self) -> list[str]:
        """The names of its indexes."""
        return [self.export_index] if self.export_indexes is None else self.export_indexes

    @property
    def is_table(self) -> bool:
        """Whether its result can be read as a table: the rows of one index, all of them each time."""
        return self.export_format == "parquet" and self.export_indexes is None and not self.incremental

    @property
    def has_files(self) -> bool:
        """Whether its result has many files, which a manifest names."""
        return self.export_indexes is not None or self.split is not None or self.partition_by is not None

    @property
    def why_without_intervals(self) -> str | None:
        """The reason why no interval can be run again; None where that is possible."""
        if self.incremental:
            return "The target is `incremental`, so its runs follow a watermark."
        if any(entry.mode == "replace" for entry in self.deliver or ()):
            return "The target replaces a table, where an older interval must not take the place of a newer one."
        return None

    def of(self, name: str) -> "IndexTarget":
        """Return the target of one of its indexes."""
        values = {key: getattr(self, key) for key in self.__struct_fields__}
        if self.export_indexes is not None:
            values |= {key: _of_index(values[key], name) for key in BY_INDEX}
        return IndexTarget(**{**values, "export_index": name, "export_indexes": None})


class IndexTarget(ExportTarget, frozen=True, kw_only=True):
    """The target of one index."""

    fields: Fields | None = None
    schema: str | None = None
    partition_by: Keys | None = None


def _of_index(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else value


class ExportTrigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a stored trigger that an export reads."""

    segment: Any = None
    """A segment; of several indexes, an object of segments by index name."""
    segment_id: str | None = None
    timezone: str | None = None
    """The time zone of date rules that name none."""

    @property
    def zone(self) -> str:
        """The time zone of partitions and paths by a date."""
        return self.timezone or "UTC"

    def of(self, target: ExportTarget, name: str) -> Segment | None:
        """Return the segment of one of the target's indexes. Raises msgspec.ValidationError."""
        value = self.segment if target.export_indexes is None else (self.segment or {}).get(name)
        return None if value is None else msgspec.convert(value, Segment)


TRIGGER = msgspec.json.Decoder(ExportTrigger, float_hook=Decimal)


def reads_of(target: ExportTarget, trigger: ExportTrigger, catalog: Catalog) -> list[Read]:
    """Return the columns that an export reads, of each of its indexes. Raises msgspec.ValidationError."""
    return [read_of(target.of(name), trigger.of(target, name), catalog) for name in target.names]


def read_of(target: IndexTarget, segment: Segment | None, catalog: Catalog) -> Read:
    """Return the columns that the export of one index reads: those it writes, of its rules and of its partitions.

    Control totals are made of columns that are written too, and increments of PostgreSQL's own transaction numbers.
    """
    index = catalog.get(target.export_index)
    if target.fields is not None:
        chosen = [field if isinstance(field, str) else field.name for field in target.fields]
    elif index is not None:
        chosen = list(index.fields)
    else:
        return Read(target.export_index)
    rules, keys = segment.rules if segment else (), target.partition_by or ()
    level = index.level if index else "read"  # without an index no row is read
    columns = [*chosen, *map(segments.column_of, rules), *(key.field for key in keys)]
    return Read(target.export_index, level, frozenset(columns))


def result_name(target: ExportTarget, catalog: Catalog, task: int) -> str:
    """Return the name of a result: `Wallet_Export-12345.csv`, `Wallet_Export-12345.manifest.json` for many files.

    Several indexes: `Bundle_Export-12345.manifest.json`.
    """
    prefix = "Bundle" if target.export_indexes is not None else catalog[target.export_index].prefix
    extension = formats.extension(target.export_format, target.compression)
    return f"{prefix}_Export-{task}{SUFFIX if target.has_files else f'.{extension}'}"


def decode_definition(target: str | bytes, trigger: str | bytes) -> tuple[ExportTarget, ExportTrigger]:
    """Return target and trigger of a stored export. Raises msgspec.MsgspecError where they cannot be read."""
    definition = msgspec.json.decode(target, type=ExportTarget), TRIGGER.decode(trigger)
    for name in definition[0].names:
        definition[1].of(definition[0], name)
    return definition
