"""The demo: the main job over HTTP, as a client does it, with nothing of the service taken for granted.

What comes back is checked against what the run recorded; anything that is off ends the demo with an error.
"""

import asyncio
import csv
import hashlib
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from longshore.access import clients
from longshore.access.tokens import Level, create
from longshore.database.migrate import connected, migrate_at
from longshore.demo.seed import CHAIN, seed
from longshore.errors import LongshoreError
from longshore.processes import Children, database, refuse_taken_port
from longshore.settings import LoadedSettings, Settings

POLL = 0.25  # seconds
HEAD = 4  # lines of the file that are shown

BODY = {
    "chain": CHAIN,
    "desc": "Wallet ledger export for analytics warehouse",
    "target": {"action": "export", "export_index": "wallet-ledger", "export_format": "csv"},
}


class DemoError(LongshoreError):
    """Something in the demo was not as it must be."""


def run_demo(loaded: LoadedSettings, rows: int) -> None:
    """Run the whole of it. Raises DemoError when anything is off, and whatever the parts raise."""
    settings = _with_free_port(loaded)
    out = Console(highlight=False, soft_wrap=True)
    with database(settings) as url:
        asyncio.run(migrate_at(url))
        token = asyncio.run(_prepare(settings, url, rows, out))
        log_file = settings.data / "demo.log"
        log_file.unlink(missing_ok=True)
        # Whoever interrupts the demo does not want to see its export through.
        hasty = msgspec.structs.replace(settings, shutdown_grace=0.0)
        with Children(hasty, url, log_file) as children:
            address = children.wait_until_ready()
            out.print(f"API and worker run at {address}; their log is {log_file}")
            headers = {"Authorization": f"Bearer {token}"}
            with httpx2.Client(base_url=address, headers=headers, timeout=60) as client:
                _export(client, settings, rows, out)
        _say_how_to_go_on(settings, token, out)


def _with_free_port(loaded: LoadedSettings) -> Settings:
    """The settings; where nobody chose a port and the usual one is taken, with another."""
    settings = loaded.settings
    if loaded.origin["port"] == "default":
        with socket.socket() as probe:
            if probe.connect_ex((settings.host, settings.port)) == 0:
                with socket.socket() as free:
                    free.bind((settings.host, 0))
                    settings = msgspec.structs.replace(settings, port=free.getsockname()[1])
    refuse_taken_port(settings.host, settings.port)
    return settings


async def _prepare(settings: Settings, url: str, rows: int, out: Console) -> str:
    began = time.monotonic()
    with out.status("looking at the data") as status:

        def tell(what: str) -> None:
            status.update(what)
            if not out.is_terminal:
                out.print(what)

        wrote = await seed(settings.source_url or url, rows, tell)
    seconds = time.monotonic() - began
    what = f"written in {seconds:.1f} s" if wrote else "there already"
    out.print(f"Data: {rows:,} ledger entries for chain {CHAIN}, and two smaller chains beside it; {what}")
    async with connected(url) as connection:
        client = await clients.named(connection, CHAIN, "demo")
        id, secret = await create(connection, client.id, Level.WRITE)
        return f"{id}:{secret}"


def _export(client: httpx2.Client, settings: Settings, rows: int, out: Console) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    created = _answer(client.post("/tasks", json={**BODY, "trigger": {"once": now}}), 201)
    out.print(f"\nPOST /tasks: task {created['id']} is {created['state']['code']}")
    began = time.monotonic()
    task = _follow(client, f"/tasks/{created['id']}", out)
    seconds = time.monotonic() - began
    if task["state"]["code"] != "DONE":
        raise DemoError(f"the task ended in {task['state']['code']}: {task['logs']}")
    run = _answer(client.get(f"/tasks/{created['id']}/runs"), 200)[0]

    address = _answer(client.get(f"/tasks/{created['id']}/download_url"), 200)["url"]
    file = settings.data / task["result"]
    digest, size = _download(address, file)
    _check("SHA-256 of the file", digest, run["sha256"])
    _check("bytes of the file", size, run["bytes"])
    with file.open(newline="", encoding="utf-8") as lines:
        records = sum(1 for _ in csv.reader(lines)) - 1
    _check("rows in the file", records, run["rows"])
    _check("rows in the file", records, rows)

    out.print("\nThe task, as GET /tasks/{id} gives it:")
    out.print_json(data=task, highlight=out.is_terminal)
    out.print(f"\n{file} ({size:,} bytes, SHA-256 {digest}) begins with:")
    with file.open(newline="", encoding="utf-8") as lines:
        for _ in range(HEAD):
            out.print("  " + lines.readline().rstrip(), markup=False)
    out.print(f"\n{records:,} rows exported in {seconds:.1f} s ({records / seconds:,.0f} rows/s); all checks passed.")


def _follow(client: httpx2.Client, path: str, out: Console) -> dict[str, Any]:
    """Poll until the task has ended, showing how far it is."""
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TextColumn("{task.fields[speed]:,.0f} rows/s"),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=out) as bar:
        shown = bar.add_task("export", total=None, speed=0, left="")
        while True:
            task: dict[str, Any] = _answer(client.get(path), 200)
            progress = _answer(client.get(f"{path}/progress"), 200)
            left = progress["seconds_left"]
            bar.update(
                shown,
                total=progress["rows_expected"],
                completed=progress["rows"],
                speed=progress["rows_per_second"] or 0,
                left="" if left is None else f"{left:.0f} s left",
            )
            if task["state"]["code"] in ("DONE", "ERROR"):
                return task
            time.sleep(POLL)


def _download(address: str, file: Path) -> tuple[str, int]:
    """Fetch a signed address, which needs no token, into a file; give its SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    with httpx2.stream("GET", address, timeout=60) as response, file.open("wb") as to:
        if response.status_code != 200:
            raise DemoError(f"the download answered {response.status_code}")
        for chunk in response.iter_bytes(1 << 20):
            digest.update(chunk)
            size += to.write(chunk)
    return digest.hexdigest(), size


def _answer(response: httpx2.Response, expected: int) -> Any:
    if response.status_code != expected:
        raise DemoError(
            f"{response.request.method} {response.request.url} answered {response.status_code}: {response.text}"
        )
    return response.json()


def _check(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise DemoError(f"{what}: found {found}, expected {expected}")


def _say_how_to_go_on(settings: Settings, token: str, out: Console) -> None:
    here = f"http://{settings.host}:{settings.port}"
    data = "" if settings.data == Path("data") else f"LONGSHORE_DATA={settings.data} "
    port = "" if settings.port == 8080 else f"LONGSHORE_PORT={settings.port} "
    out.print(
        f"""
Everything is stopped again. To go on by hand:

  {data}{port}.venv/bin/longshore serve            # in one terminal; docs at {here}/docs
  {data}.venv/bin/longshore user create anna --chain {CHAIN} --level admin    # who then signs in at {here}/
  export TOKEN={token}
  curl -H "Authorization: Bearer $TOKEN" {here}/tasks
""",
        markup=False,
    )
