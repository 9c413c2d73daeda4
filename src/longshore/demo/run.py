"""The demo: data, service, and one export through the Python client, as a user does it.

The result is compared with what the run recorded; a difference ends the demo with an error.
"""

import asyncio
import csv
import hashlib
import socket
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from longshore import client
from longshore.access import clients
from longshore.access.tokens import Level, create
from longshore.children import Children
from longshore.client.model import Progress as TaskProgress
from longshore.database.migrate import connected_if_current, migrate
from longshore.demo.seed import CHAIN, seed
from longshore.errors import LongshoreError
from longshore.processes import database, refuse_taken_port
from longshore.settings import Settings
from longshore.settings_sources import LoadedSettings

HEAD_LINES = 4  # of the file that are shown


def run_demo(loaded: LoadedSettings, rows: int) -> None:
    """Run the demo with `rows` ledger entries. Raises LongshoreError, and the errors of the service's parts."""
    settings = _with_free_port(loaded)
    out = Console(highlight=False, soft_wrap=True)
    with database(settings) as url:
        asyncio.run(migrate(url))
        token = asyncio.run(_prepare(settings, url, rows, out))
        log_file = settings.data / "demo.log"
        log_file.unlink(missing_ok=True)
        # Ctrl-C ends the demo at once, without waiting for the export.
        without_grace = msgspec.structs.replace(settings, shutdown_grace=0.0)
        with Children(without_grace, log_file) as children:
            address = children.wait_until_ready()
            out.print(f"API and worker run at {address}; their log is {log_file}")
            try:
                with client.Longshore(address, token, chain=CHAIN) as longshore:
                    _export(longshore, settings.data, rows, out)
            except client.ClientError as error:
                raise LongshoreError(str(error)) from error
        _print_next_steps(settings, token, out)


def _with_free_port(loaded: LoadedSettings) -> Settings:
    """Return the settings, with a free port if the port is the default one and is taken."""
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
    """Write the data and return a token for it, as `id:secret`."""
    began = time.monotonic()
    with out.status("looking for the data") as status:

        def report(step: str) -> None:
            status.update(step)
            if not out.is_terminal:
                out.print(step)

        was_written = await seed(settings.source_url or url, rows, report)
    seconds = time.monotonic() - began
    origin = f"written in {seconds:.1f} s" if was_written else "written before"
    out.print(f"Data: {rows:,} ledger entries for chain {CHAIN}, and two smaller chains; {origin}")
    async with connected_if_current(url) as connection:
        owner = await clients.get_or_create(connection, CHAIN, "demo")
        id, secret = await create(connection, owner.id, Level.WRITE)
        return f"{id}:{secret}"


def _export(longshore: client.Longshore, folder: Path, rows: int, out: Console) -> None:
    task = longshore.exports.create("wallet-ledger", desc="Wallet ledger export for analytics warehouse")
    out.print(f"\nPOST /tasks: task {task.id} is {task.state.code}")
    began = time.monotonic()
    _wait(task, out)
    seconds = time.monotonic() - began
    run = task.runs(limit=1)[0]
    file = task.download(folder)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    with file.open(newline="", encoding="utf-8") as lines:
        records = sum(1 for _ in csv.reader(lines)) - 1
    _check("SHA-256 of the file", digest, run.sha256)
    _check("bytes of the file", file.stat().st_size, run.bytes)
    _check("rows in the file", records, run.rows)
    _check("rows in the file", records, rows)

    out.print("\nThe task, as GET /tasks/{id} returns it:")
    out.print_json(data=msgspec.to_builtins(task.data), highlight=out.is_terminal)
    out.print(f"\n{file} ({run.bytes:,} bytes, SHA-256 {digest}) begins with:")
    with file.open(newline="", encoding="utf-8") as lines:
        for _ in range(HEAD_LINES):
            out.print("  " + lines.readline().rstrip(), markup=False)
    out.print(f"\n{records:,} rows exported in {seconds:.1f} s ({records / seconds:,.0f} rows/s); all checks passed.")


def _wait(task: client.Task, out: Console) -> None:
    """Wait for the end of the task behind a progress bar."""
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TextColumn("{task.fields[speed]:,.0f} rows/s"),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=out) as bar:
        shown = bar.add_task("export", total=None, speed=0, left="")

        def update(progress: TaskProgress) -> None:
            left = progress.seconds_left
            bar.update(
                shown,
                total=progress.rows_expected,
                completed=progress.rows,
                speed=progress.rows_per_second or 0,
                left="" if left is None else f"{left:.0f} s left",
            )

        task.wait(on_progress=update)


def _check(subject: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise LongshoreError(f"{subject}: expected {expected}, got {actual}")


def _print_next_steps(settings: Settings, token: str, out: Console) -> None:
    here = f"http://{settings.host}:{settings.port}"
    data = "" if settings.data == Path("data") else f"LONGSHORE_DATA={settings.data} "
    port = "" if settings.port == 8080 else f"LONGSHORE_PORT={settings.port} "
    out.print(
        f"""
Everything is stopped again. To continue by hand:

  {data}{port}.venv/bin/longshore serve            # in one terminal; docs at {here}/docs
  {data}.venv/bin/longshore user create anna --chain {CHAIN} --level admin    # signs in at {here}/
  export TOKEN={token}
  curl -H "Authorization: Bearer $TOKEN" {here}/tasks
""",
        markup=False,
    )
