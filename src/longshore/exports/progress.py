"""Progress reports of an export to its task."""

from collections.abc import Callable

from longshore.database.connect import Pool
from longshore.database.retry import ignore_outage
from longshore.exports.copy import Report
from longshore.tasks import attempts
from longshore.tasks.queue import Message


def progress_report(pool: Pool, message: Message, expected: Callable[[], tuple[int | None, bool]]) -> Report:
    """Return the report of an attempt's progress.

    `pool`: of the service's database. `expected`: returns the rows to export, None where the number is not known, and
    whether they were counted.
    """

    async def report(rows: int, size: int) -> None:
        rows_expected, exact = expected()
        # A report that is lost does no harm: the state of the task is written when the copy has ended.
        with ignore_outage("progress not reported", task=message.task):
            await attempts.report(pool, message, rows, size, rows_expected, exact=exact)

    return report
