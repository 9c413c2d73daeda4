"""The demo: data, service, and one export through the Python client, as a user does it.

The file is compared with what the run recorded and with what was written; a difference ends the demo with an error.
"""

import asyncio
import csv
import shlex
import shutil
import socket
import sys
import time
from pathlib import Path

import click
import msgspec

from longshore import client
from longshore.access import clients
from longshore.access.audit import Actor
from longshore.access.tokens import Level, Scope
from longshore.children import Children
from longshore.database.migrate import connected_if_current, migrate
from longshore.demo.seed import CHAIN, seed
from longshore.errors import LongshoreError
from longshore.processes import local_url, refuse_taken_port, unmigrated_database
from longshore.settings import Settings
from longshore.settings_sources import LoadedSettings

NAME = "longshore"
HEAD_LINES = 4  # of the file that are shown


def run_demo(loaded: LoadedSettings, rows: int) -> None:
    """Run the demo with `rows` ledger entries. Raises LongshoreError, and the errors of the service's parts.

    Its data is in the service's own database, as a source that the settings name is the user's.
    """
    settings = msgspec.structs.replace(_with_free_port(loaded), source_url="", catalog="")
    with unmigrated_database(settings) as url:
        asyncio.run(migrate(url))
        token = asyncio.run(_prepare(url, rows))
        log_file = settings.data / "demo.log"
        log_file.unlink(missing_ok=True)
        # Ctrl-C ends the demo at once, without waiting for the export.
        without_grace = msgspec.structs.replace(settings, shutdown_grace=0.0)
        with Children(without_grace, log_file) as children:
            address = children.wait_until_ready()
            click.echo(f"API and worker run at {address}; their log is {log_file}")
            try:
                with client.Longshore(address, token, chain=CHAIN) as longshore:
                    _export(longshore, settings.data, rows)
            except client.ClientError as error:
                raise LongshoreError(str(error)) from error
        _print_next_steps(loaded.settings, settings.port, token)


def _with_free_port(loaded: LoadedSettings) -> Settings:
    """Return the settings, with a free port if the port is the default one and is taken."""
    settings = loaded.settings
    try:
        refuse_taken_port(settings.host, settings.port)
        return settings
    except LongshoreError:
        if loaded.origin["port"] != "default":
            raise
    refuse_taken_port(settings.host, 0)  # where the host is the reason
    family, _, _, _, address = socket.getaddrinfo(settings.host, 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as free:
        free.bind(address)
        return msgspec.structs.replace(settings, port=free.getsockname()[1])


async def _prepare(url: str, rows: int) -> str:
    """Write the data and return a token for it, as `id:secret`."""
    began = time.monotonic()
    was_written = await seed(url, rows, click.echo)
    seconds = time.monotonic() - began
    origin = f"written in {seconds:.1f} s" if was_written else "written before"
    click.echo(f"Data: {rows:,} ledger entries for chain {CHAIN}, and two smaller chains; {origin}")
    async with connected_if_current(url) as connection, connection.transaction():
        actor = Actor("command", "demo")
        owner = await clients.get_or_create(connection, actor, CHAIN, "demo")
        id, secret = await clients.create_token(connection, actor, owner, Level.WRITE, Scope())
        return f"{id}:{secret}"


def _export(longshore: client.Longshore, folder: Path, rows: int) -> None:
    task = longshore.exports.create("wallet-ledger", desc="Wallet ledger export for analytics warehouse")
    click.echo(f"\nPOST /tasks: task {task.id} is {task.state.code}")
    began = time.monotonic()
    task.wait(progress=True)
    seconds = time.monotonic() - began
    run = task.runs(limit=1)[0]
    file = task.download(folder)  # with the SHA-256 that the run recorded, or it raises
    with file.open(newline="", encoding="utf-8") as lines:
        records = sum(1 for _ in csv.reader(lines)) - 1
    if not records == run.rows == rows:
        raise LongshoreError(f"the file has {records:,} rows, the run recorded {run.rows:,}; expected {rows:,}")

    click.echo("\nThe task, as GET /tasks/{id} returns it:")
    click.echo(msgspec.json.format(msgspec.json.encode(task.data)))
    click.echo(f"\n{file} ({run.bytes:,} bytes, SHA-256 {run.sha256}) begins with:")
    with file.open(newline="", encoding="utf-8") as lines:
        for _ in range(HEAD_LINES):
            click.echo("  " + lines.readline().rstrip())
    click.echo(f"\n{records:,} rows exported in {seconds:.1f} s ({records / seconds:,.0f} rows/s); all checks passed.")


def _program() -> str:
    """Return this program as it was called."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m {NAME}"
    return NAME if shutil.which(NAME) == called else shlex.quote(called)


def _print_next_steps(settings: Settings, free_port: int, token: str) -> None:
    program = _program()
    here = local_url(settings.host, free_port)
    data = "" if settings.data == Path("data") else f"LONGSHORE_DATA={settings.data} "
    port = "" if free_port == 8080 else f"LONGSHORE_PORT={free_port} "
    source = "LONGSHORE_SOURCE_URL= " if settings.source_url else ""
    catalog = "LONGSHORE_CATALOG= " if settings.catalog else ""
    click.echo(
        f"""
Everything is stopped again. To continue by hand:

  {data}{port}{source}{catalog}{program} serve            # in one terminal; docs at {here}/docs
  {data}{program} user create anna --chain {CHAIN} --level admin    # signs in at {here}/
  export TOKEN={token}
  curl -H "Authorization: Bearer $TOKEN" {here}/tasks
"""
    )
