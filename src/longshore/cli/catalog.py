"""The commands `longshore catalog …`: the declared export indexes."""

import asyncio

import click

from longshore.cli.app import app
from longshore.cli.database import existing_database, load_settings

catalog_app = app.add_group(
    "catalog", help="The catalog: the declared export indexes.", epilog="Example: longshore catalog check"
)


@catalog_app.command("check", epilog="Example: LONGSHORE_CATALOG=shop.toml longshore catalog check")
def catalog_check() -> None:
    """Check the catalog against the source; exit with 1 if something is wrong, with 0 if there are only warnings."""
    from longshore.database.connect import connected_to_read
    from longshore.database.embedded import has_database
    from longshore.exports import catalog
    from longshore.exports.catalog_check import check, check_tokens

    settings = load_settings()
    whole = known = catalog.load(settings.catalog)

    if settings.source_url:  # the service's own tables are in another database, and are not the user's to check
        known = {name: index for name, index in known.items() if not index.in_service_database}

    async def run(source: str, url: str | None) -> bool:
        async with connected_to_read(source, "longshore catalog check") as connection:
            findings = await check(connection, known)
        if url is not None:
            async with connected_to_read(url, "longshore catalog check") as connection:
                findings += await check_tokens(connection, whole)
        for finding in findings:
            click.echo(f"{'warning: ' if finding.level == 'warning' else ''}{finding.where}: {finding.what}")
        fields = sum(len(index.fields) for index in known.values())
        wrong = sum(finding.level == "wrong" for finding in findings)
        summary = f"{len(known)} indexes, {fields} fields: {wrong} wrong, {len(findings) - wrong} warnings"
        click.echo(summary, err=True)
        return wrong == 0

    if settings.source_url and not settings.database_url and not has_database(settings.data):
        click.echo(f"no tokens were checked: the service has no database in {settings.data} yet", err=True)
        good = asyncio.run(run(settings.source_url, None))
    else:
        with existing_database(settings) as url:
            good = asyncio.run(run(settings.source_url or url, url))
    if not good:
        raise click.exceptions.Exit(1)


@catalog_app.command("docs", epilog="Example: longshore catalog docs > docs/indexes.md")
def catalog_docs() -> None:
    """Print a Markdown page of the indexes with their fields."""
    from longshore.exports import catalog
    from longshore.exports.catalog_page import page

    click.echo(page(catalog.load(load_settings().catalog)), nl=False)
