"""Writes one share of an export of many files: from the source through `copy_rows` into its files."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from longshore.exports.copy import Report, RowSource, copy_rows
from longshore.exports.files.shares import Share, ShareSource, clauses_of
from longshore.exports.files.writer import FilesPlace, FilesWriter
from longshore.exports.manifest import FileEntry
from longshore.exports.source_limits import Pace
from longshore.exports.totals import Sum
from longshore.results.store import Store


class FilesOutput(msgspec.Struct, frozen=True):
    """The place of an export's files, and the report of their progress."""

    store: Store
    prefix: str
    """Of the locations of the attempt's files."""
    report: Report
    pace: Pace


class WrittenShare(msgspec.Struct, frozen=True):
    """The files of a share."""

    sent: int
    """Rows that PostgreSQL sent."""
    rows: int
    size: int
    sums: Sequence[Sum]
    files: Sequence[FileEntry]
    stats: Sequence[str]
    """Statistics of the files, where they are shared as a table; else empty."""


async def write_share(
    output: FilesOutput, source: ShareSource, share: Share, first: Callable[[], Awaitable[None]] | None = None
) -> WrittenShare:
    """Write a share. `first`: as for `copy_rows`, whose errors are raised."""
    clauses, rows = clauses_of(source.query, source.keys, share)
    place = FilesPlace(output.store, output.prefix, source.key_names, share.number)
    writer = FilesWriter(source.query, place, share.partitions)
    try:
        selected = RowSource(source.readers, source.connection, clauses, rows.values)
        copied = await copy_rows(selected, writer, output.report, first, output.pace)
    finally:
        await asyncio.to_thread(writer.close)
    return WrittenShare(copied.sent, copied.rows, copied.size, writer.sums, writer.files, writer.stats)


async def write_empty(output: FilesOutput, source: ShareSource) -> WrittenShare:
    """Write the one file of an index without rows."""
    writer = FilesWriter(source.query, FilesPlace(output.store, output.prefix, source.key_names), None)
    try:
        await asyncio.to_thread(writer.write_empty)
    finally:
        await asyncio.to_thread(writer.close)
    return WrittenShare(0, 0, writer.size, writer.sums, writer.files, writer.stats)


def prefix_of(location: str) -> str:
    """Return the prefix of the locations of an attempt's files. `location`: the manifest's."""
    return location.rpartition("/")[0] + "/"
