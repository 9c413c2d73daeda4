"""Batched reads: one statement reads the status of the tasks of all polls that arrive at the same time.

Polls that arrive while a statement runs are collected for the next one. Each answer is as fresh as that of a statement
of its own, because its statement begins after the poll has arrived; a busy process needs few round trips.

A row has the same small size for every task, so no poll waits for the long log of another.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextvars import Context

from longshore.database.connect import Pool
from longshore.errors import NotFoundError
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.queries import POLL, PolledStatus, polled_status

MAX_WAIT_SECONDS = 0.05  # for a statement, before the next one begins beside it

Gathered = defaultdict[tuple[ChainId, TaskId], list[asyncio.Future[PolledStatus]]]


class BatchedReads:
    """Reads the status of tasks in batches. Create one for each process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._gathered: Gathered = defaultdict(list)
        self._sending: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[None]] = set()

    async def status(self, chain: ChainId, task: TaskId) -> PolledStatus:
        """Return the status of a task, without the task object. Raises NotFoundError."""
        answer: asyncio.Future[PolledStatus] = asyncio.get_running_loop().create_future()
        self._gathered[chain, task].append(answer)
        if self._sending is None:
            # An empty context: the statement serves more chains than that of the first poll.
            self._sending = asyncio.create_task(self._send(), name="polls", context=Context())
        return await answer

    async def _send(self) -> None:
        try:
            while self._gathered:
                gathered, self._gathered = self._gathered, defaultdict(list)
                reading = asyncio.create_task(self._read(gathered))
                self._reading.add(reading)
                reading.add_done_callback(self._reading.discard)
                await asyncio.wait({reading}, timeout=MAX_WAIT_SECONDS)
        finally:
            self._sending = None

    async def _read(self, gathered: Gathered) -> None:
        try:
            rows = await self._pool.fetch(POLL, [task for _, task in gathered], [chain for chain, _ in gathered])
        except Exception as error:  # each poll of the batch raises it
            for answer in _still_wanted(gathered.values()):
                answer.set_exception(error)
            return
        found = {(row["chain_id"], row["id"]): row for row in rows}
        for key, answers in gathered.items():
            for answer in _still_wanted([answers]):
                if key not in found:
                    answer.set_exception(NotFoundError("task-not-found"))
                    continue
                try:
                    answer.set_result(polled_status(found[key]))
                except Exception as error:  # an unreadable row fails the polls of its own task alone
                    answer.set_exception(error)


def _still_wanted(answers: Iterable[list[asyncio.Future[PolledStatus]]]) -> Iterator[asyncio.Future[PolledStatus]]:
    """Yield the futures whose poll has not been cancelled."""
    return (answer for each in answers for answer in each if not answer.done())
