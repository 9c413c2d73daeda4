"""Longshore in Dagster: a resource by which assets export."""

from pathlib import Path
from typing import Any

from longshore.client import Longshore
from longshore.client.download_paths import download_path
from longshore.integrations.exports import export_once, of_interval, result_of

try:
    import dagster as dg
except ImportError as error:
    raise ImportError("longshore.integrations.dagster needs Dagster: pip install 'longshore[dagster]'") from error


class LongshoreResource(dg.ConfigurableResource):
    """The address of the service, and the token and chain to use there."""

    address: str
    token: str
    chain: int

    def client(self) -> Longshore:
        """Return a client, to be closed after use."""
        return Longshore(self.address, self.token, chain=self.chain)

    def materialize(
        self,
        context: dg.AssetExecutionContext,
        index: str,
        file: str | Path,
        export: dict[str, Any] | None = None,
        interval_field: str | None = None,
    ) -> dg.MaterializeResult[Any]:
        """Export an index to a file, and return the figures for the asset's page: rows, bytes, SHA-256, task, run.

        `file`: its folder must exist. `export`: the other arguments of `client.exports.create`, such as
        `{"format": "parquet"}`. `interval_field`: a date of the index; only rows of the partition are exported, from
        its start on and before its end. Entries of the task's log go to the log of the run. A retry of the step follows
        the export of the try before. Raises ClientError.
        """
        to = download_path(file)
        options = export or {}
        if interval_field is not None:
            window = context.partition_time_window
            options = of_interval(options, interval_field, window.start, window.end)
        with self.client() as client:
            task = export_once(client, index, _step(context), options)
            context.log.info(f"task {task.id} of {client.address} is {task.state.code}")
            task.wait(on_log=lambda entry: context.log.info(entry.msg))
            result = result_of(task, to)
        metadata = {
            "dagster/row_count": result["rows"],
            "bytes": result["bytes"],
            "sha256": result["sha256"],
            "file": dg.MetadataValue.path(result["file"]),
            "task": result["task"],
            "run": result["run"],
        }
        return dg.MaterializeResult(metadata=metadata)


def _step(context: dg.AssetExecutionContext) -> str:
    """Return the identity of a step of a run, which is the same in all its tries."""
    partition = context.partition_key_range if context.has_partition_key else ""
    return f"dagster/{context.run_id}/{context.asset_key.to_user_string()}/{partition}"
