"""`longshore verify`: check result files without a service."""

from pathlib import Path
from typing import Annotated

import click

from longshore.cli.app import app
from longshore.cli.commands import Argument, Option


@app.command(epilog="Example: longshore verify --keys longshore-keys.json Wallet_Export-12345.csv")
def verify(
    files: Annotated[list[Path], Argument(help="Results, each beside its manifest; of many files, the manifest.")],
    keys: Annotated[
        Path | None, Option(help="The service's JWK Set: checks the signatures beside the manifests too.")
    ] = None,
) -> None:
    """Check result files against their manifests, and that no run between them is missing.

    Bytes and SHA-256 are always checked; --keys needs `pip install 'longshore[verify]'`. Rows and control totals are
    counted too, where the packages that read the format are installed: the line of a result says if one is missing.
    """
    from longshore.cli.errors import VERIFY_EXTRAS
    from longshore.exports.manifest import Manifest
    from longshore.exports.verify import missing_package
    from longshore.exports.verify import verify as check

    for manifest in check(files, keys):
        what = f"{manifest.file}: run" if isinstance(manifest, Manifest) else f"{len(manifest.files):,} files of run"
        sha256 = f", SHA-256 {manifest.sha256}" if isinstance(manifest, Manifest) else ""
        signed = ", signed" if keys else ""
        missing = missing_package(manifest)
        note = (
            f", rows not counted without {missing} (pip install 'longshore[{VERIFY_EXTRAS[missing]}]')"
            if missing
            else ""
        )
        click.echo(f"{what} {manifest.run}, {manifest.rows:,} rows{sha256}{signed}: good{note}")
