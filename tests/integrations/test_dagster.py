"""The assets of the docs, materialized by Dagster."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.integrations.programs import EXAMPLES, Program, connection_of, tasks_created
from tests.service import CHAIN, Longshore

# Materializes an asset, and prints its metadata as JSON.
MATERIALIZE = """
import json, sys
import dagster as dg
import assets

name, partition = sys.argv[1:]
made = dg.materialize(
    [getattr(assets, name)], resources=assets.defs.resources, partition_key=partition or None, raise_on_error=False
)
assert made.success
[materialization] = made.asset_materializations_for_node(name)
print(json.dumps({key: value.value for key, value in materialization.metadata.items()}))
"""
FAILS_ONCE = """\
    made = longshore.materialize(\\1)
    if context.op_execution_context.retry_number == 0:
        raise RuntimeError("the first try fails")
    return made
"""


class Dagster(Program):
    """Python with Dagster, in a folder with assets."""

    def __init__(self, service: Longshore, folder: Path) -> None:
        super().__init__("dagster", "python", folder, **connection_of(service), DAGSTER_DISABLE_TELEMETRY="1")
        (folder / "ledger").mkdir()
        (folder / "materialize.py").write_text(MATERIALIZE)

    def materialize(self, assets: str, name: str, partition: str = "") -> dict[str, Any]:
        """Return the metadata of an asset of this text once it is materialized."""
        (self.folder / "assets.py").write_text(assets)
        made: dict[str, Any] = json.loads(self.run("materialize.py", name, partition).splitlines()[-1])
        return made


@pytest.fixture
def dagster(service: Longshore, tmp_path: Path) -> Dagster:
    return Dagster(service, tmp_path)


EXAMPLE = (EXAMPLES / "dagster_assets.py").read_text()


def test_partition_has_the_rows_of_its_day_and_the_metadata_of_its_file(service: Longshore, dagster: Dagster) -> None:
    newest = service.sql("select max(timestamp) as at from loyalty.wallet_ledger where chain_id = $1", CHAIN)[0]["at"]
    day = datetime(newest.year, newest.month, newest.day, tzinfo=UTC) - timedelta(days=1)
    expected = service.sql(
        "select id from loyalty.wallet_ledger where chain_id = $1 and timestamp >= $2 and timestamp < $3 order by id",
        CHAIN, day, day + timedelta(days=1),
    )  # fmt: skip
    metadata = dagster.materialize(EXAMPLE, "wallet_ledger", f"{day:%Y-%m-%d}")
    file = dagster.folder / metadata["file"]
    assert file == dagster.folder / "ledger" / f"{day:%Y-%m-%d}.parquet"
    assert pq.read_table(file)["id"].to_pylist() == [row["id"] for row in expected]
    assert metadata["dagster/row_count"] == len(expected) > 0
    assert metadata["bytes"] == file.stat().st_size
    assert metadata["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_retried_step_follows_its_export_and_a_new_materialization_exports_again(
    service: Longshore, dagster: Dagster
) -> None:
    head, _, returned = EXAMPLE.partition("@dg.asset\ndef users")
    body, _, tail = returned.partition("    return longshore.materialize(")
    arguments, _, tail = tail.partition(")\n")
    failing = FAILS_ONCE.replace("\\1", arguments)
    assets = f"{head}@dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))\ndef users{body}{failing}{tail}"
    before = len(tasks_created(service))
    first = dagster.materialize(assets, "users")
    assert len(tasks_created(service)) == before + 1
    second = dagster.materialize(EXAMPLE, "users")
    assert len(tasks_created(service)) == before + 2
    assert second["task"] > first["task"]
    assert second["dagster/row_count"] == first["dagster/row_count"] > 0


def test_missing_folder_fails_before_anything_is_exported(service: Longshore, dagster: Dagster) -> None:
    before = tasks_created(service)
    (dagster.folder / "assets.py").write_text(EXAMPLE.replace('"users.parquet"', '"missing/users.parquet"'))
    assert "'missing' does not exist; make the folder first" in dagster.run("materialize.py", "users", "", fails=True)
    assert tasks_created(service) == before
