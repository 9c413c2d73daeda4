"""Writes one slice of an export of many files: from the source through `copy_rows` into its files."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from longshore.exports.copy import Report, RowSource, copy_rows
from longshore.exports.files.slices import Slice, SliceSource, clauses_of
from longshore.exports.files.writer import FilesPlace, FilesWriter
from longshore.exports.shards.store import ShardResult
from longshore.exports.source_limits import Pace
from longshore.results.store import Piece, Store


class FilesOutput(msgspec.Struct, frozen=True):
    """The place of an export's files, and the report of their progress."""

    store: Store
    prefix: str
    """Of the locations of the attempt's files."""
    report: Report
    pace: Pace


async def write_slice(
    output: FilesOutput, source: SliceSource, one: Slice, first: Callable[[], Awaitable[None]] | None = None
) -> ShardResult:
    """Write a slice. `first`: as for `copy_rows`, whose errors are raised."""
    clauses, rows = clauses_of(source.query, source.keys, one)
    place = FilesPlace(output.store, output.prefix, source.key_names, one.number)
    writer = FilesWriter(source.query, place, one.partitions)
    try:
        selected = RowSource(source.readers, source.connection, clauses, rows.values)
        copied = await copy_rows(selected, writer, output.report, first, output.pace)
    finally:
        await asyncio.to_thread(writer.close)
    return ShardResult(Piece(copied.size), copied.sent, copied.rows, writer.sums, writer.files, writer.stats)


async def write_empty(output: FilesOutput, source: SliceSource) -> ShardResult:
    """Write the one file of an index without rows."""
    writer = FilesWriter(source.query, FilesPlace(output.store, output.prefix, source.key_names), None)
    try:
        await asyncio.to_thread(writer.write_empty)
    finally:
        await asyncio.to_thread(writer.close)
    return ShardResult(Piece(writer.size), 0, 0, writer.sums, writer.files, writer.stats)


def prefix_of(location: str) -> str:
    """Return the prefix of the locations of an attempt's files. `location`: the manifest's."""
    return location.rpartition("/")[0] + "/"
