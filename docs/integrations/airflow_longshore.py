"""Longshore in Airflow 3: an operator that creates an export, and a sensor that waits for it without taking a worker.

Put this file where your DAGs can import it. The connection `longshore` has the service's address as its host
(`https://exports.example.com`), the token as its password, and the chain in its extras (`{"chain": 1764}`).
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from longshore import AsyncLongshore, Longshore
from longshore.client import NoAnswerError, TaskFailedError


def connection(conn_id: str) -> dict[str, Any]:
    """The arguments of a client from an Airflow connection."""
    found = BaseHook.get_connection(conn_id)
    return {"address": found.host, "token": found.password, "chain": found.extra_dejson["chain"]}


class LongshoreExportOperator(BaseOperator):
    """Creates an export and gives its task's number. `export`: the other arguments of `client.exports.create`."""

    template_fields = ("index", "export")

    def __init__(
        self, *, index: str, export: dict[str, Any] | None = None, conn_id: str = "longshore", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.index = index
        self.export = export or {}
        self.conn_id = conn_id

    def execute(self, context: Any) -> int:
        """Create it; a retry of the same DAG run names the same key, so it is created once."""
        instance = context["ti"]
        key = f"{instance.dag_id}/{instance.task_id}/{instance.run_id}/{instance.map_index}"
        with Longshore(**connection(self.conn_id)) as client:
            return client.exports.create(self.index, idempotency_key=key, **self.export).id


class LongshoreSensor(BaseSensorOperator):
    """Waits until a task is DONE; deferred, so that it takes no worker meanwhile."""

    template_fields = ("longshore_task",)

    def __init__(self, *, longshore_task: Any, conn_id: str = "longshore", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longshore_task = longshore_task
        self.conn_id = conn_id

    def execute(self, context: Any) -> None:
        """Hand over to the triggerer."""
        self.defer(
            trigger=LongshoreTrigger(int(self.longshore_task), self.conn_id),
            method_name="ended",
            timeout=timedelta(seconds=self.timeout),
        )

    def ended(self, context: Any, event: dict[str, str]) -> None:
        """Go on when the task has ended."""
        if event["error"]:
            raise RuntimeError(event["error"])


class LongshoreTrigger(BaseTrigger):
    """Waits in the triggerer, by long poll."""

    def __init__(self, longshore_task: int, conn_id: str) -> None:
        super().__init__()
        self.longshore_task = longshore_task
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How Airflow makes it again."""
        return f"{__name__}.LongshoreTrigger", {"longshore_task": self.longshore_task, "conn_id": self.conn_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the end."""
        from asgiref.sync import sync_to_async

        arguments = await sync_to_async(connection)(self.conn_id)
        async with AsyncLongshore(**arguments) as client:
            try:
                await (await client.tasks.get(self.longshore_task)).wait()
                error = ""
            except (TaskFailedError, NoAnswerError) as failure:
                error = str(failure)
        yield TriggerEvent({"error": error})
