"""The commands that run a service: its processes, its database, its sample data, its checks and its settings."""

import asyncio
import contextlib
from typing import Annotated

import click
import msgspec

from longshore.cli.app import app
from longshore.cli.commands import Option
from longshore.cli.database import load_settings
from longshore.errors import LongshoreError


@app.command(epilog="Example: longshore serve")
def serve() -> None:
    """Start the API and a worker, with the embedded database if none is configured."""
    from longshore.children import Children
    from longshore.database.migrate import migrate
    from longshore.database.retry import retry_while_refused
    from longshore.exports import catalog
    from longshore.processes import (
        PORT_TIMEOUT_SECONDS,
        TerminatedError,
        interrupt_on_sigterm,
        refuse_taken_port,
        unmigrated_database,
    )

    settings = load_settings()
    interrupt_on_sigterm()
    refuse_taken_port(settings.host, settings.port, PORT_TIMEOUT_SECONDS)
    catalog.load(settings.catalog)  # an error is one line here, before any process starts
    try:
        with unmigrated_database(settings) as url:
            asyncio.run(retry_while_refused(migrate, url))
            with Children(settings) as children:
                address = children.wait_until_ready()
                click.echo(f"Longshore answers at {address} (docs: {address}/docs). Ctrl-C stops it.")
                children.watch()
    except TerminatedError:  # a service manager takes any other exit code for a failure
        return


@app.command(epilog="Example: LONGSHORE_DATABASE_URL=postgresql://longshore@db/longshore longshore api")
def api() -> None:
    """Start the API alone."""
    from longshore.children import end_with_serve
    from longshore.database.migrate import check_database
    from longshore.database.retry import retry_while_refused
    from longshore.exports import catalog
    from longshore.processes import PORT_TIMEOUT_SECONDS, database, refuse_taken_port, run_api

    settings = load_settings()
    end_with_serve(settings.shutdown_grace)
    address = refuse_taken_port(settings.host, settings.port, PORT_TIMEOUT_SECONDS)
    catalog.load(settings.catalog)
    with database(settings) as url:
        asyncio.run(retry_while_refused(check_database, url))
        run_api(msgspec.structs.replace(settings, host=address), url)


@app.command(epilog="Example: LONGSHORE_DATABASE_URL=postgresql://longshore@db/longshore longshore worker")
def worker() -> None:
    """Start a worker alone; any number may share a database."""
    import uvloop

    from longshore.children import end_with_serve
    from longshore.processes import database
    from longshore.worker.process import run_worker

    settings = load_settings()
    end_with_serve(settings.shutdown_grace)
    with database(settings) as url:
        uvloop.run(run_worker(settings, url))


@app.command(epilog="Example: longshore migrate")
def migrate(
    check: Annotated[
        bool, Option("--check", help="Only list pending migrations; exit with 1 if there are any.")
    ] = False,
) -> None:
    """Migrate the schema of the database to this version."""
    from longshore.database import migrate as schema
    from longshore.database.connect import connected_to_read
    from longshore.database.export_role import why_unused
    from longshore.processes import unmigrated_database

    async def run(url: str) -> tuple[list[str], str | None]:
        """Return the migrations that are pending or ran, and why row-level security does not apply to exports."""
        if not check:
            made = await schema.migrate(url)
        async with connected_to_read(url, "longshore migrate") as connection:
            return (await schema.pending(connection), None) if check else (made, await why_unused(connection))

    with unmigrated_database(load_settings()) as url:
        names, problem = asyncio.run(run(url))
    for name in names or ["the schema is this version's" if check else "nothing to do"]:
        click.echo(name)
    if problem is not None:
        click.echo(f"warning: {problem}", err=True)
    if check and names:
        raise click.exceptions.Exit(1)


@app.command(epilog="Example: longshore seed --rows 1000000")
def seed(
    rows: Annotated[int, Option(help="Ledger entries for chain 1764.", min=1)] = 1_000_000,
    into_source: Annotated[
        bool, Option("--into-source", help="Write to the database of LONGSHORE_SOURCE_URL.")
    ] = False,
) -> None:
    """Write the sample data: chain 1764, and a tenth of it for each of the chains 1765 and 9."""
    from longshore.demo.seed import seed as write
    from longshore.processes import database

    settings = load_settings()
    if settings.source_url not in ("", settings.database_url) and not into_source:
        raise LongshoreError(
            "LONGSHORE_SOURCE_URL names a database, and the sample data would be written there; "
            "give --into-source if it may be, or unset LONGSHORE_SOURCE_URL"
        )
    if into_source and not settings.source_url:
        raise LongshoreError(
            "--into-source needs LONGSHORE_SOURCE_URL, which names no database; without the option the sample data is"
            " written to the service's own"
        )
    with database(settings) as url:
        is_new = asyncio.run(write(settings.source_url or url, rows, lambda step: click.echo(step, err=True)))
    click.echo("done" if is_new else "the data is there already")


@app.command(epilog="Example: longshore demo --rows 5000000")
def demo(
    rows: Annotated[int, Option(help="Ledger entries for chain 1764.", min=1, envvar="DEMO_ROWS")] = 1_000_000,
) -> None:
    """Run the demo: write data, start the service, export, download, and check the file."""
    from longshore.demo.run import run_demo
    from longshore.processes import interrupt_on_sigterm
    from longshore.settings_sources import load

    interrupt_on_sigterm()
    run_demo(load(), rows)


@app.command(epilog="Example: longshore doctor")
def doctor() -> None:
    """Check this installation; print one line for each finding, with its remedy; exit with 1 if anything is wrong."""
    import msgspec

    from longshore.database.embedded import embedded_url
    from longshore.doctor.examine import examine
    from longshore.findings import Finding
    from longshore.processes import unmigrated_database
    from longshore.settings_sources import load
    from longshore.telemetry import logs

    broken = False

    def show(finding: Finding) -> None:
        nonlocal broken
        broken = broken or finding.level == "wrong"
        click.echo(f"{finding.level:8}{finding.where}: {finding.what}")

    async def run(url: str) -> None:
        # An error of `show` leaves the generator with an open connection, which is closed while the loop still runs.
        async with contextlib.aclosing(examine(settings, url)) as findings:
            async for finding in findings:
                show(finding)

    try:
        settings = load().settings
        logs.configure(msgspec.structs.replace(settings, log_level="error"))
    except LongshoreError as error:
        show(Finding("settings", str(error)))
        raise click.exceptions.Exit(1) from None
    try:
        if not settings.database_url:
            embedded_url(settings.data)  # raises where there is none: a check makes no database
        with unmigrated_database(settings) as url:
            asyncio.run(run(url))
    except LongshoreError as error:
        show(Finding("database", str(error)))
    if broken:
        raise click.exceptions.Exit(1)


@app.command(name="settings", epilog="Example: LONGSHORE_PORT=9000 longshore settings")
def show_settings() -> None:
    """List the settings, their values, and the origin of each."""
    from longshore.settings import NAMES, SECRETS, description
    from longshore.settings_sources import load

    loaded = load()
    for name in NAMES:
        value = getattr(loaded.settings, name)
        shown = "(set, not shown)" if name in SECRETS and value else repr(value) if isinstance(value, str) else value
        click.echo(f"LONGSHORE_{name.upper()} = {shown}  [{loaded.origin[name]}]\n    {description(name)}")
