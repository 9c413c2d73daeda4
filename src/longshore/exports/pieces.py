"""Writes the rows of one file, or a piece of one: several workers write the pieces of a large file."""

import asyncio

from longshore.exports import formats, totals
from longshore.exports.copy import RowWriter, copy_rows
from longshore.exports.formats import WHOLE, PiecePosition
from longshore.exports.job import Output
from longshore.exports.query import ExportQuery
from longshore.exports.reconcile import FileSums
from longshore.exports.shards.store import ShardResult
from longshore.exports.slices import IndexRows, Slice
from longshore.results.store import PieceNumber, Writable


def row_writer(query: ExportQuery, file: Writable, position: PiecePosition = WHOLE) -> tuple[RowWriter, FileSums]:
    """Return the writer of a file or a piece, and the sums of what it writes."""
    target, sums = query.request.target, FileSums(query)
    compressor = formats.compressor(target.export_format, target.compression)
    return RowWriter(query.format(position), file, compressor, sums.add, position), sums


async def write_piece(output: Output, source: IndexRows, part: Slice, upload: str, number: PieceNumber) -> ShardResult:
    """Write a slice as a piece of the result. `upload`: the assembly's. Raises as `copy_rows`."""
    file = await asyncio.to_thread(output.store.piece, output.location, upload, number)
    try:
        position = PiecePosition(first=number.number == 0, last=number.number == number.count - 1)
        writer, sums = row_writer(source.query, file, position)
        copied = await copy_rows(source.rows(part), writer, output.report, pace=output.pace)
        found = totals.as_list(await asyncio.to_thread(sums.end))
        return ShardResult(await asyncio.to_thread(file.end), copied.sent, copied.rows, found)
    finally:
        await asyncio.to_thread(file.close)
