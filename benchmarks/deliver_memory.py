"""The memory of a worker that delivers a large result to each kind of destination, beside one of a tenth of the rows.

The result is written once by another worker, as the memory of an export is measured elsewhere; each delivery has a
worker of its own. The kinds `gs` and `az` are left out, as no setting changes their addresses.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from tests.debian_postgres import debian_postgres
from tests.destinations.places import settled
from tests.destinations.s3_servers import rclone
from tests.destinations.servers import SampleDestination
from tests.destinations.sshd import place_of, sshd
from tests.service import Longshore, export_body

from benchmarks import ledger
from benchmarks.deliver import SETTINGS, worker
from benchmarks.options import Options
from benchmarks.table import Case
from longshore.access.tokens import Level
from longshore.demo.seed import CHAIN, SMALLER_CHAINS

MOST_GROWTH = 15.0  # MB between a tenth of the rows and all of them


class Receiver(msgspec.Struct, frozen=True):
    """A server that takes deliveries."""

    body: dict[str, Any]
    """Kind, settings and secret of a destination there."""
    entry: dict[str, Any]
    """Of `target.deliver`, without the destination's name."""
    empty: Callable[[], object]
    """Removes what was delivered."""


@contextlib.contextmanager
def _receivers() -> Iterator[Mapping[str, Receiver]]:
    """Servers by kind. The files of root's own servers lie below a folder that their users may enter."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder, contextlib.ExitStack() as servers:
        root = Path(folder)
        root.chmod(0o755)
        for name in ("s3", "ssh"):
            (root / name).mkdir()
        s3 = servers.enter_context(rclone(root / "s3"))
        ssh = servers.enter_context(sshd(root / "ssh"))
        postgres = servers.enter_context(debian_postgres(settings=SETTINGS))
        tables = {"host": "localhost", "port": postgres.port, "database": "postgres", "username": "postgres",
                  "sslmode": "disable"}  # fmt: skip
        table = {"kind": "postgresql", "settings": tables, "secret": {"password": "postgres"}}
        yield {
            "s3": _files("s3", s3.place(), s3.folder / "exports"),
            "sftp": _files("sftp", place_of(ssh), ssh.uploads),
            "postgresql": Receiver(
                table, {"table": "ledger", "mode": "append"}, partial(postgres.sql, "drop table public.ledger")
            ),
        }


def _files(kind: str, made: SampleDestination, folder: Path) -> Receiver:
    def empty() -> None:
        for path in folder.iterdir():
            shutil.rmtree(path)

    return Receiver({"kind": kind, "settings": made.settings, "secret": made.secret}, {}, empty)


def run(options: Options, tell: Callable[[str], None]) -> list[Case]:
    """CSV and Parquet to each kind."""
    rows, few = options.many_rows, options.many_rows // 10
    tell(f"writing {rows:,} rows")
    with ledger.service_with(rows) as longshore, _receivers() as receivers:
        peaks: dict[tuple[str, str], list[float]] = {}
        for form in ("csv", "parquet"):
            for chain, count in ((CHAIN, rows), (SMALLER_CHAINS[0], few)):
                with worker(longshore):
                    task = int(ledger.exported_as(longshore, count, export_body(form, chain))["task_id"])
                for kind, receiver in receivers.items():
                    peak = _peak(longshore, receiver, task, chain)
                    peaks.setdefault((kind, form), []).append(peak)
                    tell(f"{count:,} rows of {form} to {kind}, peak: {peak:.1f} MB")
    return [_case(kind, form, rows, *found) for (kind, form), found in peaks.items()]


def _peak(longshore: Longshore, receiver: Receiver, task: int, chain: int) -> float:
    """Deliver the result of a task with a worker of its own, and return its largest resident set in MB."""
    name = receiver.body["kind"]
    with longshore.client(Level.ADMIN, chain) as client, worker(longshore) as pid:
        made = client.post("/destinations", json={"name": name, **receiver.body})
        assert made.status_code in (201, 409), made.text  # 409: that of the format before
        target = client.get(f"/tasks/{task}").json()["target"]
        target["deliver"] = [{"destination": name, **receiver.entry}]
        _done(client.patch(f"/tasks/{task}", json={"target": target}))
        _done(client.post(f"/tasks/{task}/runs/1/deliver"))
        newest = settled(client, task, timeout=ledger.MAX_EXPORT_SECONDS)[-1]
        assert newest["state"] == "delivered", newest
        peak = ledger.peak_of(pid)
    receiver.empty()
    return peak


def _done(answer: httpx2.Response) -> None:
    assert answer.status_code in (200, 202), answer.text


def _case(kind: str, form: str, rows: int, most: float, least: float) -> Case:
    return Case(
        name=f"peak memory of a worker, {rows:,} rows of {form} delivered to {kind}",
        peer_name=f"itself, {rows // 10:,} rows",
        unit="MB",
        chosen="one",
        ours=most,
        peer=least,
        ratio=most / least,
        target=f"within {MOST_GROWTH:.0f} MB",
        met=most - least <= MOST_GROWTH,
        ours_rounds=[most],
        peer_rounds=[least],
    )
