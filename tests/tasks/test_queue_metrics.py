"""Metrics of running attempts, read from the database."""

from typing import Any

from longshore.database.connect import Pool
from longshore.tasks import attempts
from longshore.tasks.model import TaskId
from longshore.tasks.queue import Message
from longshore.tasks.queue_metrics import QueueMetricsCollector

TASK = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug)
values (501, '', 'wait', '{}', '{}', '') returning id
"""
AN_HOUR_AGO = """
update longshore.runs
set attempt_began_at = now() - interval '1 hour', progress_at = now() - interval '1 hour'
where task_id = $1
"""


async def silent_seconds(pool: Pool) -> float:
    collector = QueueMetricsCollector(pool)
    await collector.refresh()
    [value] = [
        sample.value
        for metric in collector.collect()
        for sample in metric.samples
        if sample.name == "longshore_run_silent_seconds"
    ]
    return float(value)


def test_pause_between_two_attempts_is_no_silence_of_a_run(run: Any) -> None:
    async def test(pool: Pool) -> None:
        message = Message(TaskId(await pool.fetchval(TASK)), 1)
        assert await attempts.begin(pool, message)
        await pool.execute(AN_HOUR_AGO, message.task)
        assert await silent_seconds(pool) >= 3600
        await attempts.retry(pool, message, "it failed", 5.0, counts_as_failure=True)
        assert await silent_seconds(pool) < 3600

    run(test)
