"""`longshore verify`: check result files without a service."""

from pathlib import Path
from typing import Annotated

import click

from longshore.cli.commands import Argument, Option


def verify(
    files: Annotated[list[Path], Argument(help="Results, each beside its manifest; of many files, the manifest.")],
    keys: Annotated[
        Path | None, Option(help="The service's JWK Set: checks the signatures beside the manifests too.")
    ] = None,
) -> None:
    """Check result files against their manifests, and that no run between them is missing."""
    from longshore.exports.manifest import Manifest
    from longshore.exports.verify import verify as check

    for manifest in check(files, keys):
        what = f"{manifest.file}: run" if isinstance(manifest, Manifest) else f"{len(manifest.files):,} files of run"
        sha256 = f", SHA-256 {manifest.sha256}" if isinstance(manifest, Manifest) else ""
        signed = ", signed" if keys else ""
        click.echo(f"{what} {manifest.run}, {manifest.rows:,} rows{sha256}{signed}: good")
