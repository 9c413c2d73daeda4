"""The peer of the Parquet export: pandas in one process, as its documentation shows it.

`python -m benchmarks.dataframe URL STATEMENT FILE` is that process.
"""

import resource
import subprocess
import sys
import time

from tests.service import Longshore

from benchmarks import ledger


def by_pandas(longshore: Longshore, rows: int) -> tuple[float, float]:
    """Read the large chain by `read_sql` and write it by `to_parquet`; gives seconds and the peak in MB.

    The seconds are those of the process's own work: the start of Python and its imports are left out in its favour.
    """
    file = longshore.data / "pandas.parquet"
    url = longshore.url.replace("postgresql://", "postgresql+psycopg://", 1)
    statement = ledger.query(longshore, None)
    command = [sys.executable, "-m", "benchmarks.dataframe", url, statement, str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    written, seconds, megabytes = done.stdout.split()
    assert int(written) == rows, done
    file.unlink()
    return float(seconds), float(megabytes)


def main() -> None:
    """Do it, and print rows, seconds and peak memory in MB."""
    import pandas
    from sqlalchemy import create_engine, text

    url, statement, file = sys.argv[1:]
    began = time.perf_counter()
    with create_engine(url).connect() as connection:
        frame = pandas.read_sql(text(statement), connection)
    frame.to_parquet(file, index=False)
    seconds = time.perf_counter() - began
    print(len(frame), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


if __name__ == "__main__":
    main()
