"""A delivery to PostgreSQL beside `psql \\copy` out of the source, piped into `psql \\copy` in.

Both write to the same PostgreSQL 15, which flushes as an operator's does. A delivery reads the finished file, makes the
table, counts and adds its rows up; the pipe finds a table made. Into a table that is there, as every night after the
first, rows are staged first: that takes longer, and stands in the notes.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import msgspec
from tests.debian_postgres import DebianPostgres, debian_postgres
from tests.service import Longshore, export_body

from benchmarks import ledger
from benchmarks.options import Options
from benchmarks.table import Case
from longshore.access.tokens import Level
from longshore.database.embedded_server import programs

ROUNDS = 5
MOST = 1.3  # of the time of the pipe
SETTINGS = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "128MB",
            "max_wal_size": "4GB"}  # fmt: skip

DELIVERED = """
select extract(epoch from d.ended_at - d.began_at)::float8 as seconds,
       extract(epoch from r.ended_at - r.began_at)::float8 as whole, r.location
from longshore.run_deliveries d join longshore.runs r on r.task_id = d.task_id and r.run = d.run
where d.task_id = $1
"""


class Turn(msgspec.Struct, frozen=True):
    """Seconds of a delivery, and of the whole run."""

    delivery: float
    whole: float


class Warehouse:
    """A PostgreSQL that takes the ledger of the chains of a service."""

    def __init__(self, longshore: Longshore, server: DebianPostgres) -> None:
        self._longshore = longshore
        self._server = server
        self._name = f"warehouse-{uuid4().hex[:8]}"
        settings = {"host": "localhost", "port": server.port, "database": "postgres", "username": "postgres",
                    "sslmode": "disable"}  # fmt: skip
        body = {"name": self._name, "kind": "postgresql", "settings": settings, "secret": {"password": "postgres"}}
        with longshore.client(Level.ADMIN) as client:
            answer = client.post("/destinations", json=body)
            assert answer.status_code == 201, answer.text

    def deliver(self, rows: int, form: str, *, again: bool = False) -> Turn:
        """Export and deliver a chain, see that all rows are in the table, and drop it.

        `again`: find a table with the rows of a delivery before, and append to it.
        """
        body: dict[str, Any] = export_body(form)
        if again:
            self._server.sql("create table public.ledger as table public.kept")
            self._server.sql("checkpoint")
        body["target"]["deliver"] = [{"destination": self._name, "table": "ledger", "mode": "append"}]
        task = ledger.exported_as(self._longshore, rows, body)["task_id"]
        (found,) = self._longshore.sql(DELIVERED, task)
        assert self._server.sql("select count(*) from public.ledger")[0][0] == rows * (1 + again)
        if not self._server.sql("select to_regclass('public.piped') is not null")[0][0]:
            self._server.sql("create table public.piped (like public.ledger)")
            self._server.sql("create table public.kept as table public.ledger")
        self._server.sql("drop table public.ledger")
        self._server.sql("checkpoint")
        (self._longshore.data / "results" / found["location"]).unlink()
        return Turn(found["seconds"], found["whole"])

    def pipe(self, rows: int) -> float:
        """Copy the same rows by two processes of psql, and give their seconds."""
        query = ledger.query(self._longshore, None)
        out = f"\\copy ({query}) to stdout with (format csv)"
        psql = '"$0" --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname'
        command = (
            f'{psql} "$1" --command "$2" | {psql} "$3" --command "\\copy public.piped from stdin with (format csv)"'
        )
        arguments = [str(programs() / "psql"), self._longshore.url, out, self._server.tcp("postgres", "postgres")]
        began = time.perf_counter()
        subprocess.run(["bash", "-o", "pipefail", "-c", command, *arguments], check=True, capture_output=True)
        seconds = time.perf_counter() - began
        assert self._server.sql("select count(*) from public.piped")[0][0] == rows
        self._server.sql("truncate public.piped")
        self._server.sql("checkpoint")
        return seconds


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """CSV and Parquet beside the pipe."""
    tell(f"writing {options.rows:,} rows")
    with debian_postgres(settings=SETTINGS) as server, ledger.service_with(options.rows) as longshore:
        warehouse = Warehouse(longshore, server)
        return [_case(longshore, warehouse, form, options, tell) for form in ("csv", "parquet")]


@contextlib.contextmanager
def worker(longshore: Longshore) -> Iterator[int]:
    """A worker; gives its process id."""
    process = longshore.start("worker")
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _case(longshore: Longshore, warehouse: Warehouse, form: str, options: Options, tell: Callable[[str], None]) -> Case:
    rows, rounds = options.rows, min(options.rounds, ROUNDS)
    with worker(longshore):
        warehouse.deliver(rows, form)  # warms the caches and is not counted
        warehouse.pipe(rows)
        ours, peer, appended = [], [], []
        for number in range(1, rounds + 1):
            ours.append(warehouse.deliver(rows, form))
            peer.append(warehouse.pipe(rows))
            appended.append(warehouse.deliver(rows, form, again=True).delivery)
            tell(
                f"{form}, round {number}: delivery {ours[-1].delivery:.2f} s, pipe {peer[-1]:.2f} s, delivery into a"
                f" table that is there {appended[-1]:.2f} s"
            )
    best = min(turn.delivery for turn in ours)
    return Case(
        name=f"{rows:,} rows of {form} delivered to PostgreSQL",
        peer_name="psql \\copy | psql \\copy",
        unit="s",
        chosen=f"best of {rounds}",
        ours=best,
        peer=min(peer),
        ratio=best / min(peer),
        target=f"at most {MOST}",
        met=best / min(peer) <= MOST,
        ours_rounds=[turn.delivery for turn in ours],
        peer_rounds=peer,
        notes={
            "seconds of export and delivery together": min(turn.whole for turn in ours),
            "seconds of a delivery into a table that is there": min(appended),
        },
    )
