"""The rows of a file as CSV for COPY, made in a thread, in memory that does not grow with the file."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import date
from typing import Any

import msgspec

from longshore.destinations.kind import DestinationError, File
from longshore.results.own_thread import opened_in_thread

CHUNK_BYTES = 512 << 10
BATCH_ROWS = 16_384
# Years that Arrow and PostgreSQL spell alike.
FIRST_DAY, LAST_DAY = -719_162, 2_932_896
DAY_MICROSECONDS = 86_400_000_000

Chunks = Generator[bytes, None, None]

JSON = msgspec.json.Encoder(decimal_format="number")


def csv_chunks(file: File) -> Chunks:
    """Yield the bytes of a CSV file, as they are. Blocking."""
    with file.open() as opened:
        while chunk := opened.read(CHUNK_BYTES):
            yield chunk


def parquet_chunks(file: File, names: Sequence[str]) -> Chunks:
    """Yield the rows of a Parquet file as CSV without a header: NULL is empty, and all text in quotes. Blocking.

    `names`: its columns. Raises DestinationError for a file with others.
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    options = pa_csv.WriteOptions(include_header=False, quoting_style="needed", batch_size=BATCH_ROWS)
    with file.open() as opened, pq.ParquetFile(opened) as parquet:
        if parquet.schema_arrow.names != list(names):
            raise DestinationError(f"the file has the columns {', '.join(parquet.schema_arrow.names)}")
        # One iterator over all row groups keeps memory: 35 MB for each 1,000,000 rows of the demo's ledger.
        for group in range(parquet.num_row_groups):
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], use_threads=False):
                columns = [_spelled(values) for values in batch.columns]
                sink = pa.BufferOutputStream()
                pa_csv.write_csv(pa.table(columns, [str(number) for number in range(len(columns))]), sink, options)
                yield sink.getvalue().to_pybytes()


def _spelled(values: Any) -> Any:
    """Return a column in types whose text Arrow writes as PostgreSQL reads it."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_nested(kind):
        return pa.array([None if value is None else JSON.encode(value).decode() for value in values.to_pylist()])
    if pa.types.is_decimal256(kind):
        return pa.array([None if value is None else f"{value:f}" for value in values.to_pylist()], pa.string())
    if pa.types.is_date32(kind):
        return _days(values)
    return _times(values) if pa.types.is_timestamp(kind) else values


def _days(values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = values.cast(pa.int32())
    if _within(pc.min_max(numbers).as_py(), FIRST_DAY, LAST_DAY):
        return values
    return pa.array([None if day is None else _day(day) for day in numbers.to_pylist()], pa.string())


def _times(values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
    if _within(pc.min_max(numbers).as_py(), FIRST_DAY * DAY_MICROSECONDS, (LAST_DAY + 1) * DAY_MICROSECONDS - 1):
        if values.type.tz is None:
            return values
        # Arrow's own text of a time with a zone takes ten times as long.
        return pc.binary_join_element_wise(numbers.cast(pa.timestamp("us")).cast(pa.string()), "Z", "")
    return pa.array([None if time is None else _time(time) for time in numbers.to_pylist()], pa.string())


def _within(extremes: dict[str, int | None], first: int, last: int) -> bool:
    least, most = extremes["min"], extremes["max"]
    return least is None or most is None or (first <= least and most <= last)


def _day(days: int) -> str:
    """Return a day since 1970-01-01 as PostgreSQL writes it. Python has years 1 to 9999; every 400 years are alike."""
    era, within = divmod(days - FIRST_DAY, 146_097)
    day = date.fromordinal(within + 1)
    year = day.year + 400 * era
    return f"{year:04}-{day:%m-%d}" if year > 0 else f"{1 - year:04}-{day:%m-%d} BC"


def _time(microseconds: int) -> str:
    days, within = divmod(microseconds, DAY_MICROSECONDS)
    seconds, micros = divmod(within, 1_000_000)
    day, _, era = _day(days).partition(" ")
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}+00"
    return f"{day} {clock} {era}".rstrip()


class ReadError(Exception):
    """A file cannot be read."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


async def in_thread(chunks: Chunks) -> AsyncGenerator[bytes, None]:
    """Yield chunks, each made in a thread while the one before is sent. Close it when it is not read to its end.

    It is one thread for all, as Arrow keeps memory for each thread that it was called in. Raises ReadError.
    """
    loop = asyncio.get_running_loop()
    async with opened_in_thread(lambda: chunks) as (_, thread):
        coming = loop.run_in_executor(thread, next, chunks, None)
        try:
            while (chunk := await _read(coming)) is not None:
                coming = loop.run_in_executor(thread, next, chunks, None)
                yield chunk
        finally:
            coming.cancel()


async def _read(coming: asyncio.Future[bytes | None]) -> bytes | None:
    try:
        return await coming
    except Exception as error:
        raise ReadError(error) from error
