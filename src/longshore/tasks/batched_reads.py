"""Polls: how a task stands, read by one statement for all who ask at the same time.

While a statement is on its way, those who ask meanwhile gather for the next one. So an answer is as true as if it had
been read for its asker alone: the statement began after they had asked. But a busy process pays for few round trips.

What is read has the same small size for every task, so nobody waits for another's long log.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextvars import Context

from longshore.database.connect import Pool
from longshore.tasks.model import ChainId, TaskId
from longshore.tasks.reads import STANDING, PolledTask, TaskNotFoundError, standing_in

PATIENCE = 0.05  # seconds; for a statement that takes longer, the next one waits no more

Gathered = defaultdict[tuple[ChainId, TaskId], list[asyncio.Future[PolledTask]]]


class Polls:
    """Reads how tasks stand. To be made once in a process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._gathered: Gathered = defaultdict(list)
        self._sending: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[None]] = set()

    async def standing(self, chain: ChainId, task: TaskId) -> PolledTask:
        """How a task stands now; the task itself is left out. Raises TaskNotFoundError."""
        answer: asyncio.Future[PolledTask] = asyncio.get_running_loop().create_future()
        self._gathered[chain, task].append(answer)
        if self._sending is None:
            # In a context of its own, as it is not of the first asker's chain.
            self._sending = asyncio.create_task(self._send(), name="polls", context=Context())
        return await answer

    async def _send(self) -> None:
        try:
            while self._gathered:
                gathered, self._gathered = self._gathered, defaultdict(list)
                reading = asyncio.create_task(self._read(gathered))
                self._reading.add(reading)
                reading.add_done_callback(self._reading.discard)
                await asyncio.wait({reading}, timeout=PATIENCE)
        finally:
            self._sending = None

    async def _read(self, gathered: Gathered) -> None:
        try:
            rows = await self._pool.fetch(STANDING, [task for _, task in gathered], [chain for chain, _ in gathered])
        except Exception as error:  # is theirs who asked
            for answer in _still_wanted(gathered.values()):
                answer.set_exception(error)
            return
        found = {(row["chain_id"], row["id"]): row for row in rows}
        for key, answers in gathered.items():
            for answer in _still_wanted([answers]):
                if key not in found:
                    answer.set_exception(TaskNotFoundError())
                    continue
                try:
                    answer.set_result(standing_in(found[key]))
                except Exception as error:  # a row that this version cannot read is for its own askers alone
                    answer.set_exception(error)


def _still_wanted(answers: Iterable[list[asyncio.Future[PolledTask]]]) -> Iterator[asyncio.Future[PolledTask]]:
    """Those whose asker has not gone meanwhile."""
    return (answer for each in answers for answer in each if not answer.done())
