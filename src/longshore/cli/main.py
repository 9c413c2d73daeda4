"""The command line. The help of each command has an example; an error is one line on standard error."""

import asyncio
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from longshore.cli import commands as typer
from longshore.cli import remote_commands
from longshore.cli.access import client_app, token_app
from longshore.cli.completion import completion
from longshore.cli.database import database_app, existing_database
from longshore.cli.keys import keys_app
from longshore.cli.secrets import secrets_app
from longshore.cli.users import user_app
from longshore.errors import LongshoreError

if TYPE_CHECKING:
    from longshore.settings import Settings

app = typer.Typer(
    name="longshore",
    help="Longshore: a task service for data exports.",
    epilog="Example: longshore serve",
)
app.command(epilog="Example: longshore completion bash >> ~/.bashrc")(completion)
catalog_app = typer.Typer(help="The catalog: the declared export indexes.", epilog="Example: longshore catalog check")
app.add_typer(catalog_app, name="catalog")
app.add_typer(user_app, name="user")
app.add_typer(client_app, name="client")
app.add_typer(token_app, name="token")
app.add_typer(database_app, name="database")
app.add_typer(keys_app, name="keys")
app.add_typer(secrets_app, name="secrets")
remote_commands.add_to(app)


SERVER_EXTRA, ARROW_EXTRA = "longshore[server]", "longshore[arrow]"
ARROW_PACKAGES = ("pyarrow",)
READ_ONLY = "25006"  # https://www.postgresql.org/docs/current/errcodes-appendix.html


def main() -> None:
    """Run the command line; exit with 0, 1 after an error, 2 for wrong usage, 130 after Ctrl-C."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        _quit(missing_package(error), 2)
    except (ConnectionError, TimeoutError, socket.gaierror) as error:
        reason = str(error) or "no answer in time"
        _quit(f"the database cannot be reached: {reason}; check LONGSHORE_DATABASE_URL and LONGSHORE_SOURCE_URL")
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        _quit(f"TLS with the server fails: {reason}; for a database, check sslmode and sslrootcert in its address")
    except (LongshoreError, OSError) as error:
        _quit(str(error))
    except Exception as error:
        if not type(error).__module__.startswith("asyncpg"):
            raise
        if getattr(error, "sqlstate", "") == READ_ONLY:
            _quit(
                "the database is read-only, so nothing was changed: it is a standby (name the primary in"
                " LONGSHORE_DATABASE_URL), or its default_transaction_read_only is on (reset that, or wait until its"
                " maintenance ends)"
            )
        message = str(error).partition("\n")[0]  # without its DETAIL and HINT
        _quit(f"the database reports: {message}")


def missing_package(error: ModuleNotFoundError) -> str:
    """Return which extra has the package that the command needs. Raises the error if it is not of an extra."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "longshore"):
        raise error
    extra = ARROW_EXTRA if package in ARROW_PACKAGES else SERVER_EXTRA
    is_group = isinstance(app.commands.get(sys.argv[1]), typer.Group)
    command = " ".join(sys.argv[: 3 if is_group else 2][1:])
    return f"`longshore {command}` needs {package}, which is not installed: pip install '{extra}'"


def _quit(message: str, code: int = 1) -> NoReturn:
    typer.echo(f"longshore: {message}", err=True)
    sys.exit(code)


def _load() -> "Settings":
    from longshore.settings_sources import load
    from longshore.telemetry import logs

    settings = load().settings
    logs.configure(settings)
    return settings


@app.command(epilog="Example: longshore serve")
def serve() -> None:
    """Start the API and a worker, with the embedded database if none is configured."""
    from longshore.database.migrate import migrate_at
    from longshore.database.retry import when_served
    from longshore.exports import catalog
    from longshore.processes import Children, TerminatedError, database, interrupt_on_sigterm, refuse_taken_port

    settings = _load()
    interrupt_on_sigterm()
    refuse_taken_port(settings.host, settings.port)
    catalog.load(settings.catalog)  # an error is one line here, before any process starts
    try:
        with database(settings) as url:
            asyncio.run(when_served(migrate_at, url))
            with Children(settings, url) as children:
                address = children.wait_until_ready()
                typer.echo(f"Longshore answers at {address} (docs: {address}/docs). Ctrl-C stops it.")
                children.watch()
    except TerminatedError:  # a service manager takes any other exit code for a failure
        return


@app.command(epilog="Example: LONGSHORE_DATABASE_URL=postgresql://longshore@db/longshore longshore api")
def api() -> None:
    """Start the API alone."""
    from longshore.database.migrate import check_at
    from longshore.database.retry import when_served
    from longshore.exports import catalog
    from longshore.processes import PORT_TIMEOUT_SECONDS, database, refuse_taken_port, run_api

    settings = _load()
    refuse_taken_port(settings.host, settings.port, PORT_TIMEOUT_SECONDS)
    catalog.load(settings.catalog)
    with database(settings) as url:
        asyncio.run(when_served(check_at, url))
        run_api(settings, url)


@app.command(epilog="Example: LONGSHORE_DATABASE_URL=postgresql://longshore@db/longshore longshore worker")
def worker() -> None:
    """Start a worker alone; any number may share a database."""
    import uvloop

    from longshore.processes import database
    from longshore.worker.process import run_worker

    settings = _load()
    with database(settings) as url:
        uvloop.run(run_worker(settings, url))


@app.command(epilog="Example: longshore migrate")
def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Only list pending migrations; exit with 1 if there are any.")
    ] = False,
) -> None:
    """Migrate the schema of the database to this version."""
    from longshore.database.export_role import why_unused_at
    from longshore.database.migrate import migrate_at, pending_at
    from longshore.processes import database_as_it_is

    with database_as_it_is(_load()) as url:
        if check:
            missing = asyncio.run(pending_at(url))
            for name in missing or ["the schema is this version's"]:
                typer.echo(name)
            raise typer.Exit(1 if missing else 0)
        for name in asyncio.run(migrate_at(url)) or ["nothing to do"]:
            typer.echo(name)
        if (problem := asyncio.run(why_unused_at(url))) is not None:
            typer.echo(f"warning: {problem}", err=True)


@app.command(epilog="Example: longshore seed --rows 1000000")
def seed(rows: Annotated[int, typer.Option(help="Ledger entries for chain 1764.", min=1)] = 1_000_000) -> None:
    """Write the sample data: chain 1764, and a tenth of it for each of the chains 1765 and 9."""
    from longshore.demo.seed import seed as write
    from longshore.processes import database

    settings = _load()
    with database(settings) as url:
        is_new = asyncio.run(write(settings.source_url or url, rows, lambda step: typer.echo(step, err=True)))
    typer.echo("done" if is_new else "the data is there already")


@app.command(epilog="Example: longshore demo --rows 5000000")
def demo(
    rows: Annotated[int, typer.Option(help="Ledger entries for chain 1764.", min=1, envvar="DEMO_ROWS")] = 1_000_000,
) -> None:
    """Run the demo: write data, start the service, export, download, and check the file."""
    from longshore.demo.run import run_demo
    from longshore.processes import interrupt_on_sigterm
    from longshore.settings_sources import load

    interrupt_on_sigterm()
    run_demo(load(), rows)


@app.command(epilog="Example: longshore verify --keys longshore-keys.json Wallet_Export-12345.csv")
def verify(
    files: Annotated[
        list[Path], typer.Argument(help="Results, each beside its manifest; of many files, the manifest.")
    ],
    keys: Annotated[
        Path | None, typer.Option(help="The service's JWK Set: checks the signatures beside the manifests too.")
    ] = None,
) -> None:
    """Check result files against their manifests, and that no run between them is missing."""
    from longshore.exports.manifest import Manifest
    from longshore.exports.verify import verify as check

    for manifest in check(files, keys):
        what = f"{manifest.file}: run" if isinstance(manifest, Manifest) else f"{len(manifest.files):,} files of run"
        sha256 = f", SHA-256 {manifest.sha256}" if isinstance(manifest, Manifest) else ""
        signed = ", signed" if keys else ""
        typer.echo(f"{what} {manifest.run}, {manifest.rows:,} rows{sha256}{signed}: good")


@app.command(epilog="Example: longshore doctor")
def doctor() -> None:
    """Check this installation; print one line for each finding, with its remedy; exit with 1 if anything is wrong."""
    import msgspec

    from longshore.database.embedded import embedded_url
    from longshore.doctor.examine import examine
    from longshore.doctor.finding import Finding, wrong
    from longshore.processes import database_as_it_is
    from longshore.settings_sources import load
    from longshore.telemetry import logs

    broken = False

    def show(finding: Finding) -> None:
        nonlocal broken
        broken = broken or finding.level == "wrong"
        typer.echo(f"{finding.level:8}{finding.area}: {finding.what}")

    async def run(url: str) -> None:
        async for finding in examine(settings, url):
            show(finding)

    try:
        settings = load().settings
        logs.configure(msgspec.structs.replace(settings, log_level="error"))
    except LongshoreError as error:
        show(wrong("settings", str(error)))
        raise typer.Exit(1) from None
    try:
        if not settings.database_url:
            embedded_url(settings.data)  # raises where there is none: a check makes no database
        with database_as_it_is(settings) as url:
            asyncio.run(run(url))
    except LongshoreError as error:
        show(wrong("database", str(error)))
    if broken:
        raise typer.Exit(1)


@app.command(name="settings", epilog="Example: LONGSHORE_PORT=9000 longshore settings")
def show_settings() -> None:
    """List the settings, their values, and the origin of each."""
    from longshore.settings import NAMES, SECRETS, description
    from longshore.settings_sources import load

    loaded = load()
    for name in NAMES:
        value = getattr(loaded.settings, name)
        shown = "(set, not shown)" if name in SECRETS and value else repr(value) if isinstance(value, str) else value
        typer.echo(f"LONGSHORE_{name.upper()} = {shown}  [{loaded.origin[name]}]\n    {description(name)}")


@catalog_app.command("check", epilog="Example: LONGSHORE_CATALOG=shop.toml longshore catalog check")
def catalog_check() -> None:
    """Check the catalog against the source; exit with 1 if something is wrong, with 0 if there are only warnings."""
    from longshore.database.connect import connected_to_read
    from longshore.exports import catalog
    from longshore.exports.catalog_check import check, check_tokens

    settings = _load()
    whole = known = catalog.load(settings.catalog)

    if settings.source_url:  # the service's own tables are in another database, and are not the user's to check
        known = {name: index for name, index in known.items() if not index.own}

    async def run(url: str) -> bool:
        async with connected_to_read(url, "longshore catalog check") as connection:
            findings = await check(connection, known)
        if settings.database_url or not settings.source_url:
            async with connected_to_read(settings.database_url or url, "longshore catalog check") as connection:
                findings += await check_tokens(connection, whole)
        for finding in findings:
            typer.echo(f"{'warning: ' if finding.warning else ''}{finding.where}: {finding.what}")
        fields = sum(len(index.fields) for index in known.values())
        wrong = sum(not finding.warning for finding in findings)
        summary = f"{len(known)} indexes, {fields} fields: {wrong} wrong, {len(findings) - wrong} warnings"
        typer.echo(summary, err=True)
        return wrong == 0

    if settings.source_url:
        good = asyncio.run(run(settings.source_url))
    else:
        with existing_database(settings) as url:
            good = asyncio.run(run(url))
    if not good:
        raise typer.Exit(1)


@catalog_app.command("docs", epilog="Example: longshore catalog docs > docs/indexes.md")
def catalog_docs() -> None:
    """Print a Markdown page of the indexes with their fields."""
    from longshore.exports import catalog
    from longshore.exports.catalog_page import page

    typer.echo(page(catalog.load(_load().catalog)), nl=False)
