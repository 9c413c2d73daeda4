"""A DAG that exports the ledger of each day in Amsterdam, in the night after it."""

from typing import Any

import pendulum
from airflow.sdk import dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

from longshore.integrations.airflow import LongshoreExportOperator

ZONE = "Europe/Amsterdam"


@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone=ZONE),
    start_date=pendulum.datetime(2026, 1, 1, tz=ZONE),
    catchup=False,
)
def nightly_ledger() -> None:
    """Export, then load the file."""
    exported = LongshoreExportOperator(
        task_id="export",
        index="wallet-ledger",
        export={"format": "parquet"},
        interval_field="timestamp",
        path=f"/data/ledger/{{{{ data_interval_start.in_timezone('{ZONE}') | ds }}}}.parquet",
        retries=2,
    )

    @task
    def load(result: dict[str, Any]) -> None:
        print(result["rows"], "rows of task", result["task"], "in", result["file"])

    load(exported.output)


nightly_ledger()
