"""Longshore in Airflow 3: an operator that exports, waits in the triggerer, and downloads the result.

An Airflow connection holds the service's address as its host (`https://exports.example.com`), the token (`id:secret`)
as its password, and the chain in its extra (`{"chain": 1764}`).
"""

from collections.abc import AsyncIterator
from typing import Any

from longshore.client import AsyncLongshore, ClientError, Longshore
from longshore.client.download_paths import download_path
from longshore.integrations.exports import export_once, of_interval, result_of

try:
    from airflow.sdk import BaseOperator, Connection
    from airflow.triggers.base import BaseTrigger, TriggerEvent
    from asgiref.sync import sync_to_async
except ImportError as error:
    raise ImportError("longshore.integrations.airflow needs Airflow 3: pip install 'longshore[airflow]'") from error


def connection(conn_id: str) -> dict[str, Any]:
    """Return the arguments of a client from an Airflow connection."""
    found = Connection.get(conn_id)
    return {"address": found.host, "token": found.password, "chain": found.extra_dejson.get("chain")}


class LongshoreExportOperator(BaseOperator):
    """Exports an index, and returns `{"task", "run", "rows", "bytes", "sha256", "file"}` to the tasks that follow.

    `export`: the other arguments of `client.exports.create`, such as `{"format": "parquet"}`.
    `interval_field`: a date of the index; only rows of the DAG run's data interval are exported, from its start on and
    before its end.
    `path`: where the result is downloaded to, such as `/data/ledger/{{ ds }}.parquet`. Its folder must exist, which is
    checked before anything is exported. Without a path nothing is downloaded.
    `conn_id`: the Airflow connection.

    A retry follows the export of the try before, and so does a task that is cleared within 24 hours: nothing is
    exported twice. An export that has failed or whose result is gone runs again; one that was deleted is created anew.
    """

    template_fields = ("index", "export", "path")

    def __init__(
        self,
        *,
        index: str,
        export: dict[str, Any] | None = None,
        interval_field: str | None = None,
        path: str | None = None,
        conn_id: str = "longshore",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.index = index
        self.export = export or {}
        self.interval_field = interval_field
        self.path = path
        self.conn_id = conn_id

    def execute(self, context: Any) -> dict[str, Any]:
        """Create the export, or find that of an earlier try, and wait for it in the triggerer."""
        if self.path is not None:
            download_path(self.path)
        options = self.export if self.interval_field is None else self._of_interval(self.interval_field, context)
        with Longshore(**connection(self.conn_id)) as client:
            task = export_once(client, self.index, _step(context), options)
            self.log.info("task %s of %s is %s", task.id, client.address, task.state.code)
            if task.state.code == "DONE":
                return result_of(task, self.path)
        self.defer(
            trigger=LongshoreTrigger(task.id, self.conn_id), method_name="finish", timeout=self.execution_timeout
        )
        raise AssertionError("a deferred task does not go on here")

    def finish(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 (Airflow passes it by name)
        """Download the result once the export has ended."""
        if event["error"]:
            raise RuntimeError(event["error"])
        with Longshore(**connection(self.conn_id)) as client:
            return result_of(client.tasks.get(event["task"]), self.path)

    def _of_interval(self, field: str, context: Any) -> dict[str, Any]:
        start, end = context.get("data_interval_start"), context.get("data_interval_end")
        if start is None or end is None or start >= end:
            raise ValueError(
                "this DAG run has no data interval, which interval_field needs; give the DAG a timetable that has one, "
                "such as CronDataIntervalTimetable"
            )
        zone = context["dag"].timezone  # the interval is in UTC
        return of_interval(self.export, field, start.astimezone(zone), end.astimezone(zone))


class LongshoreTrigger(BaseTrigger):
    """Waits in the triggerer, by long poll, until a task has ended."""

    def __init__(self, longshore_task: int, conn_id: str) -> None:
        super().__init__()
        self.longshore_task = longshore_task
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments of which Airflow makes the trigger again."""
        return f"{__name__}.LongshoreTrigger", {"longshore_task": self.longshore_task, "conn_id": self.conn_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the task has ended."""
        arguments = await sync_to_async(connection)(self.conn_id)
        error = ""
        try:
            async with AsyncLongshore(**arguments) as client:
                await (await client.tasks.get(self.longshore_task)).wait()
        except ClientError as failure:
            error = str(failure)
        yield TriggerEvent({"task": self.longshore_task, "error": error})


def _step(context: Any) -> str:
    """Return the identity of a task instance, which is the same in all tries and after clearing."""
    instance = context["ti"]
    dag_run = context.get("logical_date") or instance.run_id  # one that an asset or the API began has no date
    return f"airflow/{instance.dag_id}/{dag_run}/{instance.task_id}/{instance.map_index}"
