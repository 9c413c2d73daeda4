"""Tables from results: read by Arrow, which is installed with `longshore[arrow]`."""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from longshore.client.download_paths import MANIFEST
from longshore.client.errors import ClientError


def require_parquet(target: Mapping[str, Any]) -> None:
    """Raise ClientError for a task whose result has no types, or if Arrow is not installed."""
    if target.get("export_format") != "parquet":
        raise ClientError("only a parquet export keeps the types of its fields; create it with format='parquet'")
    imported("pyarrow.parquet")


def imported(name: str) -> Any:
    """Return a module. Raises ClientError that says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        install = "'longshore[arrow]'" if package == "pyarrow" else package
        raise ClientError(f"this needs {package}, which is not installed: pip install {install}") from None


def read(file: Path) -> Any:
    """Return a downloaded result as a table."""
    parquet = imported("pyarrow.parquet")
    # The columns stay in the files, so none is made of the folders' names.
    found = [parquet.read_table(path, memory_map=False, partitioning=None) for path in _table_files(file)]
    return found[0] if len(found) == 1 else imported("pyarrow").concat_tables(found)


def batches(file: Path, rows: int) -> Iterator[Any]:
    """Yield a downloaded result in batches of at most so many rows."""
    parquet = imported("pyarrow.parquet")
    for path in _table_files(file):
        with parquet.ParquetFile(path) as opened:
            yield from opened.iter_batches(batch_size=rows)


class _Files(msgspec.Struct):
    """The files of a manifest, as far as reading them needs to know."""

    files: list["_Path"]


class _Path(msgspec.Struct):
    path: str
    index: str


def _table_files(result: Path) -> list[Path]:
    """Return the files of a downloaded result of one index. Raises ClientError for a result of several."""
    if not result.name.endswith(MANIFEST):
        return [result]
    files = msgspec.json.decode(result.read_bytes(), type=_Files).files
    if len({file.index for file in files}) > 1:
        raise ClientError("the result has several indexes, which are several tables; download and read its files")
    return [result.parent / file.path for file in files]
