"""PgQueuer's private parts are used in two files, and are as those files expect them."""

import inspect
import re
from datetime import timedelta
from pathlib import Path

import longshore
from longshore.database.queue_schema import QUEUE_SETTINGS, queries_of_driver
from longshore.tasks.queue import Consumer, RetryingDriver

SOURCE = Path(longshore.__file__).parent
PRIVATE = re.compile(r"^(?:from|import) pgqueuer\.(?!errors\b|db\b)\S+", re.M)


def test_private_modules_of_pgqueuer_are_imported_in_two_files() -> None:
    found = {file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py") if PRIVATE.search(file.read_text())}
    assert found == {"database/queue_schema.py", "tasks/queue.py"}


def test_private_parts_of_pgqueuer_have_the_parameters_that_the_queue_passes() -> None:
    queries = queries_of_driver(RetryingDriver(None, "", timedelta(seconds=1)))  # type: ignore[arg-type]  # no statement is sent
    assert list(inspect.signature(queries.enqueue).parameters)[:5] == [
        "entrypoint", "payload", "priority", "execute_after", "dedupe_key",
    ]  # fmt: skip
    assert "on_conflict" in inspect.signature(queries.enqueue).parameters
    run = Consumer.__init__.__globals__["QueueManager"].run
    assert {"dequeue_timeout", "batch_size", "max_concurrent_tasks", "heartbeat_timeout"} <= set(
        inspect.signature(run).parameters
    )


def test_tables_of_pgqueuer_are_where_statements_of_longshore_look() -> None:
    names = QUEUE_SETTINGS.db_schema, QUEUE_SETTINGS.queue_table, QUEUE_SETTINGS.queue_table_log
    assert (*names, QUEUE_SETTINGS.statistics_table) == (
        "longshore", "pgqueuer", "pgqueuer_log", "pgqueuer_statistics",
    )  # fmt: skip
