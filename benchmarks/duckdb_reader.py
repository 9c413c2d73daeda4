"""The peer of all exports: DuckDB's reader of PostgreSQL, one `COPY (SELECT …) TO` in a process of its own.

`python -m benchmarks.duckdb_reader URL RELATION CHAIN FILE OPTIONS FIELD …` is that process. DuckDB comes with its
extension from a folder of its own, as the extension fits one version and the tests have another.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.service import Longshore

from longshore.demo.seed import CHAIN
from longshore.exports import catalog

FOLDER = Path(sys.prefix) / "duckdb"
"""DuckDB and its extension, which `make bench` installs."""
EXTENSION = "duckdb_extension_postgres_scanner/extensions/v*/postgres_scanner.duckdb_extension"

OPTIONS = {
    "csv": "format csv, header",
    "csv gzip": "format csv, header, compression gzip",
    "csv zstd": "format csv, header, compression zstd",
    "jsonl": "format json",
    "parquet": "format parquet",
}


def environment() -> dict[str, str]:
    """Return the environment of a process that imports DuckDB."""
    return {**os.environ, "PYTHONPATH": f"{FOLDER}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def by_duckdb(longshore: Longshore, rows: int, kind: str, chain: int = CHAIN) -> tuple[float, float]:
    """Copy the ledger of a chain into a file of a kind of OPTIONS; return the seconds and the peak memory in MB.

    The seconds are those of connecting and copying: the start of Python and its imports are left out in its favour.
    """
    index = catalog.load()["wallet-ledger"]
    file = longshore.data / f"duckdb.{kind.replace(' ', '.')}"
    command = [sys.executable, "-m", "benchmarks.duckdb_reader", longshore.url, index.relation, str(chain)]
    command += [str(file), OPTIONS[kind], *index.fields]
    done = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True)
    written, seconds, megabytes = done.stdout.split()
    assert int(written) == rows, done
    file.unlink()
    return float(seconds), float(megabytes)


def main() -> None:
    """Copy the rows, and print their number, the seconds and the peak memory in MB."""
    import duckdb

    url, relation, chain, file, options, *fields = sys.argv[1:]
    (extension,) = FOLDER.glob(EXTENSION)
    connection = duckdb.connect()
    connection.execute(f"load '{extension}'")
    began = time.perf_counter()
    connection.execute(f"attach '{url}' as source (type postgres, read_only)")
    columns = ", ".join(f'"{field}"' for field in fields)
    connection.execute(
        f"copy (select {columns} from source.{relation} where chain_id = {int(chain)}) to '{file}' ({options})"
    )
    row = connection.fetchone()
    seconds = time.perf_counter() - began
    assert row is not None
    print(row[0], seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


if __name__ == "__main__":
    main()
