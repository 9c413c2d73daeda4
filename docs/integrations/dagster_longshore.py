"""Longshore in Dagster: the wallet ledger of a day as a partitioned asset."""

from pathlib import Path

import dagster as dg

from longshore import F, Longshore

DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01")


class LongshoreResource(dg.ConfigurableResource):
    """Where the service is, and who one is there."""

    address: str
    token: str
    chain: int

    def client(self) -> Longshore:
        """A client, to be closed after use."""
        return Longshore(self.address, self.token, chain=self.chain)


@dg.asset(partitions_def=DAYS)
def wallet_ledger(context: dg.AssetExecutionContext, longshore: LongshoreResource) -> dg.MaterializeResult:
    """The ledger's entries of one day (UTC), as a Parquet file."""
    day = context.partition_key
    with longshore.client() as client:
        task = client.exports.create("wallet-ledger", format="parquet", where=F("timestamp").on(day))
        task.wait(3600, on_log=lambda entry: context.log.info(entry.msg))
        folder = Path("ledger")
        folder.mkdir(exist_ok=True)
        file = task.download(folder / f"{day}.parquet")
        run = task.runs(limit=1)[0]
    return dg.MaterializeResult(metadata={"file": str(file), "rows": run.rows, "sha256": run.sha256 or ""})


defs = dg.Definitions(
    assets=[wallet_ledger],
    resources={
        "longshore": LongshoreResource(
            address=dg.EnvVar("EXPORTS_ADDRESS"), token=dg.EnvVar("EXPORTS_TOKEN"), chain=dg.EnvVar.int("EXPORTS_CHAIN")
        )
    },
)
