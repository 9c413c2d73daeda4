"""Shared by the cases of exports: a service with a ledger, an export through it, and the query of its peers."""

import asyncio
import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
from tests.service import Longshore, database_in, ended, export_body

from longshore.database.embedded_server import programs
from longshore.demo.seed import CHAIN, seed
from longshore.exports import catalog, formats
from longshore.exports.catalog import quoted_identifier
from longshore.exports.columns import choices, columns_of

MAX_EXPORT_SECONDS = 600.0

RUN = """
select task_id, extract(epoch from ended_at - began_at)::float8 as seconds, rows, bytes, location
from longshore.runs where task_id = $1
"""


@contextlib.contextmanager
def service_with(rows: int) -> Iterator[Longshore]:
    """A service of its own with `rows` ledger entries for the demo's large chain, and an API; workers are for cases."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        data = Path(folder)
        with database_in(data) as url:
            asyncio.run(seed(url, rows, lambda _: None))
            longshore = Longshore(data, url, outbound_allow="127.0.0.0/8, ::1")
            try:
                longshore.start_api()
                yield longshore
            finally:
                longshore.stop()


def export(longshore: Longshore, rows: int, kind: str = "csv", compression: str = "", chain: int = CHAIN) -> float:
    """Export a chain through the service, see that all rows are there, and give the run's seconds.

    They are the service's own record, from INPROGRESS to DONE: the copy, its hash, the flush to disk and the change of
    state.
    """
    run = exported(longshore, rows, kind, compression, chain)
    file = longshore.data / "results" / run["location"]
    assert run["bytes"] == file.stat().st_size, run
    file.unlink()
    return float(run["seconds"])


def exported(longshore: Longshore, rows: int, kind: str = "csv", compression: str = "", chain: int = CHAIN) -> Any:
    """Export a chain through the service, and give the record of its run, which has all rows."""
    body = export_body(kind, chain)
    if compression:
        body["target"]["compression"] = compression
    return exported_as(longshore, rows, body)


def exported_as(longshore: Longshore, rows: int, body: dict[str, Any]) -> Any:
    """Export as a body of `POST /tasks` says, and give the record of its run, which has all rows."""
    with longshore.client(chain=body["chain"]) as client:
        created = client.post("/tasks", json=body)
        assert created.status_code == 201, created.text
        task = ended(client, created.json()["id"], MAX_EXPORT_SECONDS, every=0.25)
    assert task["state"]["code"] == "DONE", task
    (run,) = longshore.sql(RUN, task["id"])
    assert run["rows"] == rows, run
    return run


def query(longshore: Longshore, kind: str | None = "csv", chain: int = CHAIN) -> str:
    """The query that an export of a whole chain copies, with the chain in place of its parameter.

    `kind`: None for the values as PostgreSQL stores them.
    """
    index = catalog.load()["wallet-ledger"]
    source = index.from_clause.replace("$1", str(chain))

    async def build() -> str:
        connection = await asyncpg.connect(longshore.url)
        try:
            found = await columns_of(connection, index, choices(None, index))
        finally:
            await connection.close()
        if kind is None:
            named = (f"{column.expression} as {quoted_identifier(column.name)}" for column in found)
            return f"select {', '.join(named)} {source}"
        return formats.new_format(kind, formats.FileSpec(found)).query(source)

    return asyncio.run(build())


def psql(longshore: Longshore, statement: str, rows: int, pipe: str = "") -> float:
    """The rows of a query by psql's `\\copy` into a file on the same disk; gives the seconds of its process.

    It neither hashes nor flushes. `pipe`: a command that its output passes on the way, such as `gzip -6`.
    """
    file = longshore.data / "psql.out"
    copy = f"\\copy ({statement}) to stdout with (format csv, header)"
    command = f'"$0" --no-psqlrc --quiet --dbname "$1" --command "$2" {"| " + pipe if pipe else ""} > "$3"'
    if not pipe:
        copy = copy.replace("to stdout", f"to '{file}'")
        command = '"$0" --no-psqlrc --dbname "$1" --command "$2"'
    program = str(programs() / "psql")
    began = time.perf_counter()
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, program, longshore.url, copy, str(file)],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    assert pipe or done.stdout.strip() == f"COPY {rows}", done
    assert file.stat().st_size > rows
    file.unlink()
    return seconds


def peak(longshore: Longshore, rows: int, kind: str = "csv", compression: str = "", chain: int = CHAIN) -> float:
    """The largest resident set, in MB, of a worker that was started for one export."""
    worker = longshore.start("worker")
    export(longshore, rows, kind, compression, chain)
    megabytes = peak_of(worker.pid)
    worker.terminate()
    worker.wait()
    return megabytes


def peak_of(pid: int) -> float:
    """The largest resident set of a process so far, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6
