"""The export engine without HTTP and worker: rows of a real table through the real copy into a real file."""

import tempfile
from pathlib import Path

from longshore.database.connect import open_pool
from longshore.exports import formats, row_security
from longshore.exports.catalog import Field, FieldType, Index, quoted_identifier
from longshore.exports.columns import choices, columns_of
from longshore.exports.copy import RowsToCopy, copy_rows
from longshore.exports.formats import Compression, FileSpec
from longshore.exports.formats.dialect import CsvOptions, dialect
from longshore.exports.query import row_key_of
from longshore.exports.ranges import RangePlan, clauses, plan_ranges
from longshore.exports.row_query import RowQuery
from longshore.exports.row_writer import RowWriter
from longshore.exports.snapshot import EXPORT_SESSION, SourceConnections
from longshore.exports.written_rows import WrittenRows
from longshore.results.local import LocalStore
from longshore.results.store import AttemptFiles
from longshore.tasks.model import ChainId, TaskId

CHAIN = 1764


async def export(
    url: str,
    index: Index,
    name: str,
    csv: CsvOptions | None = None,
    compression: Compression | None = None,
    connections: int = 2,
) -> tuple[bytes, WrittenRows, RangePlan]:
    """Export an index. Return the bytes of the file, its size, and the plan of the export."""
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        location = AttemptFiles(ChainId(CHAIN), TaskId(1), 1).location("result")
        async with open_pool(url, size=connections, name="test", **EXPORT_SESSION) as pool:
            database = SourceConnections(pool, connections - 1)
            source = RowQuery(index.from_clause, (CHAIN,))
            async with database.snapshot() as (connection, _):
                await row_security.restrict(connection, index, CHAIN)
                columns = await columns_of(connection, index, choices(None, index))
                named = [(name, quoted_identifier(name)) for name in index.key_columns or [index.time] if name]
                row_key = row_key_of(named) if named else None
                spec = FileSpec(columns, dialect(csv or CsvOptions()), compression, key=row_key)
                format = formats.new_format(name, spec)
                cut = await plan_ranges(connection, index, format.query(source.sql), source)
                with store.create(location) as file:
                    rows = RowsToCopy(database, connection, source, clauses(index, source, cut.ranges))
                    writer = RowWriter(format, file, formats.compressor(name, compression))
                    copied = await copy_rows(rows, writer, ignore)
                    file.publish({".json": b"{}"})
        path = store.open_path(location)
        assert path is not None
        return path.read_bytes(), copied, cut


async def ignore(_rows: int, _size: int) -> None:
    """Ignore a report of progress."""


def index_over(relation: str, **types: FieldType | Field) -> Index:
    """Return an index over a relation with the columns `chain_id`, `at` and these."""
    fields = {
        name: Field(type=kind, description="") if isinstance(kind, FieldType) else kind for name, kind in types.items()
    }
    return Index(description="", relation=relation, chain="chain_id", time="at", prefix="Test", fields=fields)
