"""The wallet ledger of each day (UTC) as a partitioned asset, and all users as one without partitions."""

import dagster as dg

from longshore.integrations.dagster import LongshoreResource


@dg.asset(partitions_def=dg.DailyPartitionsDefinition(start_date="2026-01-01"))
def wallet_ledger(context: dg.AssetExecutionContext, longshore: LongshoreResource) -> dg.MaterializeResult:
    """The entries of one day, as a Parquet file."""
    file = f"ledger/{context.partition_key}.parquet"
    return longshore.materialize(context, "wallet-ledger", file, {"format": "parquet"}, interval_field="timestamp")


@dg.asset
def users(context: dg.AssetExecutionContext, longshore: LongshoreResource) -> dg.MaterializeResult:
    """All users, as a Parquet file."""
    return longshore.materialize(context, "users", "users.parquet", {"format": "parquet"})


defs = dg.Definitions(
    assets=[wallet_ledger, users],
    resources={
        "longshore": LongshoreResource(
            address=dg.EnvVar("LONGSHORE_ADDRESS"),
            token=dg.EnvVar("LONGSHORE_TOKEN"),
            chain=dg.EnvVar.int("LONGSHORE_CHAIN"),
        )
    },
)
