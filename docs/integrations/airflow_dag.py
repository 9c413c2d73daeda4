"""A DAG that loads yesterday's ledger every night."""

import pendulum
from airflow.sdk import dag, task
from airflow_longshore import LongshoreExportOperator, LongshoreSensor, connection

from longshore import Longshore

YESTERDAY = {
    "entity": "people",
    "index": "wallet-ledger",
    "join": "all",
    "chain_id": 1764,
    "rules": [
        {
            "field_name": "timestamp",
            "field_type": "date",
            "operator": "is_in_window",
            "window": "yesterday",
            "timezone": "Europe/Amsterdam",
        }
    ],
}


@dag(schedule="30 0 * * *", start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Amsterdam"), catchup=False)
def nightly_ledger() -> None:
    """Create, wait, fetch."""
    created = LongshoreExportOperator(
        task_id="create", index="wallet-ledger", export={"format": "parquet", "where": YESTERDAY}
    )
    ready = LongshoreSensor(task_id="wait", longshore_task=created.output, timeout=3600)

    @task
    def fetch(number: int) -> str:
        with Longshore(**connection("longshore")) as client:
            return str(client.tasks.get(number).download("/data/ledger"))

    ready >> fetch(created.output)


nightly_ledger()
