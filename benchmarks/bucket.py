"""One export to a bucket beside the same one to the local disk: what the way to S3 costs.

The S3 server is rclone's, which checks signatures and streams each upload into one file on the same disk. It shares the
machine and so takes time from what it is measured with: once as it comes, and once on a processor of its own while the
service has another in both turns. The notes tell the processor time of either side.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import msgspec
import psutil
from tests.service import Longshore, free_port, listens

from benchmarks import ledger
from benchmarks.options import Options
from benchmarks.table import Case

RCLONE = Path(sys.executable).with_name("rclone")
ROUNDS = 5  # of so long an export
MOST = 1.15  # of the time to the local disk
MAX_START_SECONDS = 20.0  # of the server
KEY, SECRET, BUCKET = "AKIDAKIDAKID", "a-secret", "longshore-results"


class Turn(msgspec.Struct, frozen=True):
    """One export. Seconds; those of processors are of the worker with PostgreSQL, and of the S3 server."""

    seconds: float
    service: float
    server: float


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """The same export to the bucket and to the disk, in turns: on all processors, and with one for each side."""
    rows = options.many_rows
    tell(f"writing {rows:,} rows")
    with ledger.service_with(rows) as longshore, _server() as server:
        rounds = min(options.rounds, ROUNDS)
        cases = [_case(longshore, server, rows, rounds, "on the same processors", tell)]
        everywhere = sorted(os.sched_getaffinity(0))
        if len(everywhere) > 1:
            _keep(server, everywhere[1:])
            with _confined(longshore, everywhere[:1], everywhere):
                cases.append(_case(longshore, server, rows, rounds, "on a processor of its own", tell))
        return cases


def _case(
    longshore: Longshore, server: psutil.Process, rows: int, rounds: int, where: str, tell: Callable[[str], None]
) -> Case:
    to_bucket = f"s3://{BUCKET}/exports"
    _turn(longshore, server, rows)  # warms the caches and is not counted
    bucket, disk = [], []
    for number in range(1, rounds + 1):
        bucket.append(_turn(longshore, server, rows, results_url=to_bucket))
        disk.append(_turn(longshore, server, rows))
        tell(f"S3 server {where}, round {number}: bucket {bucket[-1].seconds:.2f} s, disk {disk[-1].seconds:.2f} s")
    ours, peer = (min(turns, key=lambda turn: turn.seconds) for turns in (bucket, disk))
    ratio = ours.seconds / peer.seconds
    return Case(
        name=f"{rows:,} rows to CSV in a bucket, S3 server {where}",
        peer_name="local disk",
        unit="s",
        chosen=f"best of {rounds}",
        ours=ours.seconds,
        peer=peer.seconds,
        ratio=ratio,
        target=f"at most {MOST}",
        met=ratio <= MOST,
        ours_rounds=[turn.seconds for turn in bucket],
        peer_rounds=[turn.seconds for turn in disk],
        notes={
            "processor seconds of worker and PostgreSQL, bucket": ours.service,
            "processor seconds of worker and PostgreSQL, disk": peer.service,
            "processor seconds of the S3 server": ours.server,
            "ratio of processor seconds without the S3 server's": ours.service / peer.service,
        },
    )


def _turn(longshore: Longshore, server: psutil.Process, rows: int, **settings: str) -> Turn:
    """Export with a worker of its own, in one piece, and remove the result."""
    worker = longshore.start("worker", shard_rows=str(2 * rows), **settings)
    try:
        time.sleep(2)  # the start of a worker is not part of the export
        before = _processor_seconds(longshore, worker.pid), _used(server)
        run = ledger.exported(longshore, rows)
        after = _processor_seconds(longshore, worker.pid), _used(server)
    finally:
        worker.terminate()
        worker.wait()
    if settings:
        client, name = _client(), f"exports/{run['location']}"
        assert client.head_object(Bucket=BUCKET, Key=name)["ContentLength"] == run["bytes"], run
        for found in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
            client.delete_object(Bucket=BUCKET, Key=found["Key"])
    else:
        file = longshore.data / "results" / run["location"]
        assert file.stat().st_size == run["bytes"], run
        file.unlink()
    return Turn(float(run["seconds"]), after[0] - before[0], after[1] - before[1])


@contextlib.contextmanager
def _server() -> Iterator[psutil.Process]:
    """An S3 server with an empty bucket, which the environment leads to."""
    port = free_port()
    cloud = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder, patch.dict(os.environ, cloud):
        # Without --ignore-checksum it would hash once more what it wrote; the bytes that came are checked all the same.
        flags = ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--ignore-checksum", "--config", ""]
        flags += ["--log-level", "CRITICAL"]  # a folder that still has files is an error to it
        with subprocess.Popen([RCLONE, "serve", "s3", *flags, folder]) as process:
            try:
                deadline = time.monotonic() + MAX_START_SECONDS
                while not listens("127.0.0.1", port):
                    assert process.poll() is None and time.monotonic() < deadline, "the S3 server did not start"
                    time.sleep(0.05)
                _client().create_bucket(Bucket=BUCKET)
                yield psutil.Process(process.pid)
            finally:
                process.terminate()


def _client() -> Any:
    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name=os.environ["AWS_REGION"])


@contextlib.contextmanager
def _confined(longshore: Longshore, processors: list[int], everywhere: list[int]) -> Iterator[None]:
    """Leave the service only these processors; the workers, which this process starts, inherit them from it."""
    database = _database(longshore)
    api = [psutil.Process(process.pid) for process in longshore.processes if process.poll() is None]
    try:
        for process in [psutil.Process(), *api, database, *database.children()]:
            _keep(process, processors)
        yield
    finally:
        _keep(psutil.Process(), everywhere)


def _keep(process: psutil.Process, processors: list[int]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for thread in process.threads():  # Linux asks for it thread by thread
            os.sched_setaffinity(thread.id, processors)


def _database(longshore: Longshore) -> psutil.Process:
    return psutil.Process(int((longshore.data / "postgres" / "postmaster.pid").read_text().split()[0]))


def _processor_seconds(longshore: Longshore, worker: int) -> float:
    """Return the processor seconds of the worker and PostgreSQL, with the backends that have ended."""
    database = _database(longshore)
    ended = database.cpu_times()
    running = [psutil.Process(worker), database, *database.children()]
    return ended.children_user + ended.children_system + sum(map(_used, running))


def _used(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
