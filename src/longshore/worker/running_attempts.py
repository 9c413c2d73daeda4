"""The attempts that a worker runs: each is cancelled once it is outdated, or at the end of the grace time.

Only the work of an attempt is cancelled, so that its begin and its end are written as usual: an attempt that is handed
back counts as no failure.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import structlog

from longshore.database.connect import Pool
from longshore.database.retry import DATABASE_ERRORS
from longshore.errors import LongshoreError
from longshore.tasks import attempts, deliveries
from longshore.tasks.queue import DeliveryMessage, Message
from longshore.worker import malloc

log = structlog.get_logger()

# After the grace time, for writing the ends of the attempts; less than `parent_process.STOP_TIMEOUT_SECONDS`.
END_SECONDS = 5.0


# Errors that end an attempt and not the worker. Signals have handlers, so `sys.exit` and a KeyboardInterrupt are of the
# work.
WORK_ERRORS = (Exception, SystemExit, KeyboardInterrupt)


class CancelledWorkError(LongshoreError):
    """The work of an attempt was cancelled; where it is no subclass, by the work itself."""


class SupersededError(CancelledWorkError):
    """The message of the attempt is outdated: a newer attempt exists, or the run or delivery has ended."""


class StoppedError(CancelledWorkError):
    """The worker stops, and the grace time is over."""


@contextlib.contextmanager
def without_panics() -> Iterator[None]:
    """Raise LongshoreError for a panic of a package's code: libraries in Rust raise it beside WORK_ERRORS."""
    try:
        yield
    except (*WORK_ERRORS, asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        raise LongshoreError(f"{type(error).__name__}: {error}") from error


class RunningAttempts:
    """The attempts that a worker runs. Create one for each process."""

    def __init__(self, pool: Pool, grace: float) -> None:
        """`grace`: seconds that they have to end when the worker stops."""
        self._pool = pool
        self._grace = grace
        self._counted: set[asyncio.Task[Any]] = set()
        self._cancellable: dict[asyncio.Task[Any], Message | DeliveryMessage] = {}
        self._cancelled: dict[asyncio.Task[Any], type[CancelledWorkError]] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._grace_is_over = False
        self._all_are_cancelled = False

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count the current asyncio task among those that a stop ends, while the context is open."""
        current = _current()
        self._counted.add(current)
        try:
            if self._all_are_cancelled:
                raise asyncio.CancelledError
            yield
        finally:
            self._counted.discard(current)
            malloc.release_free_memory()

    @contextlib.contextmanager
    def cancellable(self, message: Message | DeliveryMessage, actor_name: str) -> Iterator[None]:
        """Cancel the current asyncio task when its message is outdated or the grace time over, in the open context.

        Raises SupersededError or StoppedError then, however the work ends, as what it returns may be a part;
        CancelledWorkError where it cancels itself; else one of WORK_ERRORS. `actor_name`: what works, for the error of
        a cancel, such as `the action`.
        """
        if self._grace_is_over:
            raise StoppedError
        current = _current()
        self._cancellable[current] = message
        self.check_all()  # the notification of a cancel since the claim has found nothing to stop
        try:
            with without_panics():
                yield
        except asyncio.CancelledError:
            if current.cancelling() or self._grace_is_over:
                self._cancelled.setdefault(current, StoppedError)
            self._refuse_cancelled(current)
            raise CancelledWorkError(f"{actor_name} cancelled itself") from None
        except WORK_ERRORS:
            self._refuse_cancelled(current)
            raise
        else:
            self._refuse_cancelled(current)
        finally:
            del self._cancellable[current]
            self._cancelled.pop(current, None)

    def _refuse_cancelled(self, current: asyncio.Task[Any]) -> None:
        if (reason := self._cancelled.get(current)) is not None:
            while current.cancelling():
                current.uncancel()
            raise reason from None

    def on_task_change(self, payload: str) -> None:
        """Handle the notification of a changed task, which may have been cancelled."""
        task, _, revision = payload.partition(" ")
        if revision and any(message.task == int(task) for message in self._cancellable.values()):
            self.check_all()

    def check_all(self) -> None:
        """Start a check of all messages that are worked on, which cancels the work for those that are outdated."""
        check = asyncio.create_task(self._check())
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    async def _check(self) -> None:
        checked = dict(self._cancellable)  # a copy, because work that begins meanwhile is not in the answer
        tasks = [message.task for message in checked.values()]
        try:
            of_runs = await attempts.current_attempts(self._pool, tasks)
            current = {*of_runs, *await deliveries.current_attempts(self._pool, tasks)}
        except DATABASE_ERRORS as error:
            # Those that are outdated go on until the next check; what they write then is refused.
            log.warning("running attempts cannot be checked", error=str(error))
            return
        for task, message in checked.items():
            if task in self._cancellable and message not in current and task not in self._cancelled:
                self._cancelled[task] = SupersededError
                task.cancel()

    def stop(self) -> None:
        """Cancel after the grace time what is still worked on, and from then on what begins.

        A message that was being taken when the worker was told to stop is handled, too.
        """
        if not self._is_stopping:  # each signal asks again, and what cleans up is cancelled once
            self._is_stopping = True
            asyncio.get_running_loop().call_later(self._grace, self._cancel_work)

    def _cancel_work(self) -> None:
        self._grace_is_over = True
        for task in self._cancellable:
            self._cancelled.setdefault(task, StoppedError)
            task.cancel()
        asyncio.get_running_loop().call_later(END_SECONDS, self._cancel_all)

    def _cancel_all(self) -> None:
        """Cancel also what writes its begin or end, as the database may be away for long."""
        self._all_are_cancelled = True
        for task in self._counted:
            task.cancel()


def _current() -> asyncio.Task[Any]:
    current = asyncio.current_task()
    assert current is not None
    return current
