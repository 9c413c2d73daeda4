"""Outages of the service's database: what is transient, and how each part of the service waits, retries or continues.

All retries of the service and their pauses are in the tables of this module, except those of webhooks, which follow
what their receivers expect (`webhooks.retries`).
"""

import asyncio
import contextlib
import errno
import itertools
import math
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, ParamSpec, TypeVar

import asyncpg
import msgspec
import structlog

log = structlog.get_logger()

DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""The errors of a statement: refused by the server, on a closed connection, and of the network."""

# Classes and codes of transient errors; see
# https://www.postgresql.org/docs/current/errcodes-appendix.html
TRANSIENT_CLASSES = ("08", "53", "57", "58")
# A database is read-only (25006) while it fails over, is maintained, or has a full disk.
TRANSIENT_CODES = ("40001", "40P01", "25006", "25P03", "55P03")
# A cancelled statement (57014); a recovery conflict on a standby has the code 40001.
PERMANENT_CODES = ("57014",)

# Errors of the kernel for an unreachable host or network; Python has no classes for them.
UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)

MAX_DOUBLINGS = 100  # of a pause; it is the longest one by then

LOG_AGAIN_SECONDS = 60.0  # while an outage or an error stays the same

MAX_END_SECONDS = 60.0  # of a process that has to be started again, until it is killed

T = TypeVar("T")
P = ParamSpec("P")


class Pauses(msgspec.Struct, frozen=True):
    """The pauses between tries, in seconds: each is twice the one before."""

    first: float
    longest: float

    def __iter__(self) -> Iterator[float]:
        pause = self.first
        while True:
            yield pause
            pause = min(pause * 2, self.longest)

    def after(self, failures: int) -> float:
        """Return the pause after so many failures, at least one."""
        return next(itertools.islice(self, min(failures, MAX_DOUBLINGS) - 1, None))


START = Pauses(1.0, 1.0)  # of a process, while the server refuses connections
DATABASE = Pauses(0.1, 5.0)  # of a step that has to be done
QUEUE = Pauses(0.1, 2.0)  # of a statement of the queue, whose heartbeat has to go on
LISTENER = Pauses(0.1, 2.0)  # of the connection for notifications
STORE = Pauses(0.1, 5.0)  # of a request to a bucket
DESTINATION = Pauses(0.2, 5.0)  # of a request to a chain's destination
DELIVERY = Pauses(2.0, 600.0)  # of a delivery, between its attempts
DELIVERY_TURN = Pauses(1.0, 10.0)  # of one whose chain leaves room for others; each is a row of the queue's log

MAX_FAILURES = 3  # attempts of a run that may fail or be lost; then the run is an error
ATTEMPT_PAUSES_SECONDS = (1.0, 5.0)  # after the first failed attempt of a run, and after the second

DELIVERY_SECONDS = 6 * 3600.0  # for which a delivery is tried, from the beginning of its first attempt
MAX_LOST_DELIVERIES = 20  # attempts of a delivery whose worker may be lost; then it has failed

SHARD_PAUSE_SECONDS = 0.3  # until a released shard is offered again, times the number of its trials
MAX_SHARD_PAUSE_SECONDS = 5.0
MAX_SHARD_TRIALS = 100  # after these, a shard that no worker is able to write has failed too: seven minutes


def is_transient(error: BaseException) -> bool:
    """Return whether an error of the database is transient: lost connection, deadlock, restart, no room."""
    # A prepared statement of a column whose type has changed; asyncpg has dropped it, so the next try prepares anew.
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        return True
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        return code not in PERMANENT_CODES and (code in TRANSIENT_CODES or code.startswith(TRANSIENT_CLASSES))
    # Wrong values and arguments are InterfaceErrors, too.
    if isinstance(error, asyncpg.DataError | asyncpg.ClientConfigurationError):
        return False
    if isinstance(error, OSError) and error.errno in UNREACHABLE:
        return True
    # FileNotFoundError: the server is down, and its Unix socket is gone.
    # asyncpg raises InterfaceError on a connection that was closed, and InternalClientError ("another operation is in
    # progress") on one that the server ends in the middle of an exchange. The pool closes both.
    kinds = (asyncpg.InterfaceError, asyncpg.InternalClientError)
    return isinstance(error, (*kinds, ConnectionError, TimeoutError, FileNotFoundError, socket.gaierror))


async def retry_until_available(step: Callable[P, Awaitable[T]], *args: P.args, **options: P.kwargs) -> T:
    """Run a step in the database and retry it after transient errors. Raises permanent errors."""
    return await retry(partial(step, *args, **options), DATABASE)


async def retry_while_refused(step: Callable[P, Awaitable[T]], *args: P.args, **options: P.kwargs) -> T:
    """Run a step in the service's database at the start of a process; retry it while the server refuses it temporarily.

    Such refusals are: too many connections, starting up, shutting down, read-only. All other errors are raised at once,
    also those of a server that does not answer, as LONGSHORE_DATABASE_URL may be wrong.
    """
    return await retry(partial(step, *args, **options), START, asyncpg.PostgresError)


async def retry(
    step: Callable[[], Awaitable[T]],
    pauses: Pauses,
    errors: type[Exception] | tuple[type[Exception], ...] = DATABASE_ERRORS,
    *,
    ended: Callable[[], bool] = lambda: False,
) -> T:
    """Run a step and retry it after those transient errors that are `errors`, until `ended`. Raises other errors.

    Each reason is logged once, and again every LOG_AGAIN_SECONDS.
    """
    reason, logged_at = "", -math.inf
    for pause in pauses:
        try:
            return await step()
        except errors as error:
            if not is_transient(error) or ended():
                raise
            now = str(error) or type(error).__name__
            if now != reason or time.monotonic() - logged_at > LOG_AGAIN_SECONDS:
                reason, logged_at = now, time.monotonic()
                log.warning("waiting for the database", reason=reason)
        await asyncio.sleep(pause)
    raise AssertionError("pauses never end")


@contextlib.contextmanager
def ignore_outage(event: str, **facts: object) -> Iterator[None]:
    """Log `event` and continue after a transient error, for data that is written again later. Raises other errors."""
    try:
        yield
    except DATABASE_ERRORS as error:
        if not is_transient(error):
            raise
        log.warning(event, error=str(error), **facts)


@contextlib.contextmanager
def isolated(event: str, **facts: object) -> Iterator[None]:
    """Log `event` and continue after an error of one item of several. Raises transient errors, which all would meet.

    An error of the same kind is logged again after LOG_AGAIN_SECONDS, as an item may fail in each step of a loop.
    """
    try:
        yield
    except Exception as error:
        if is_transient(error):
            raise
        if _is_to_be_logged(event, facts, error):
            log.error(event, exc_info=error, **facts)


@contextlib.contextmanager
def loop_step(loop: str, **facts: object) -> Iterator[None]:
    """Log every error and continue, for a step that a loop repeats anyway. `loop`: its name in the log.

    An error of the same kind is logged again after LOG_AGAIN_SECONDS.
    """
    try:
        yield
    except Exception as error:
        if not _is_to_be_logged(loop, facts, error):
            return
        if is_transient(error):
            log.warning(f"{loop} cannot reach the database", error=str(error), **facts)
        else:
            log.error(f"{loop} failed", exc_info=error, **facts)


_logged_at: dict[Hashable, float] = {}
"""When each error was logged, oldest first, of the last LOG_AGAIN_SECONDS."""


def _is_to_be_logged(event: str, facts: Mapping[str, object], error: Exception) -> bool:
    """Return whether no such error was logged within LOG_AGAIN_SECONDS, and note that this one is."""
    now = time.monotonic()
    for old in list(itertools.takewhile(lambda key: now - _logged_at[key] > LOG_AGAIN_SECONDS, _logged_at)):
        del _logged_at[old]
    key = (event, tuple(facts.items()), type(error))
    if key in _logged_at:
        return False
    _logged_at[key] = now
    return True


@contextlib.asynccontextmanager
async def repeating(loop: str, seconds: float, step: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run a step now and every so many seconds while the context is open, as a `loop_step`."""

    async def run() -> None:
        while True:
            with loop_step(loop):
                await step()
            await asyncio.sleep(seconds)

    running = asyncio.create_task(run(), name=loop)
    running.add_done_callback(end_process_if_failed)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


def end_process_if_failed(task: asyncio.Task[Any]) -> None:
    """End this process if a task that runs for as long as the process has failed; for `add_done_callback`.

    The process would go on without what the task does, such as the recheck of credentials. It is started again by its
    parent, or by what runs it.
    """
    if task.cancelled() or not isinstance(error := task.exception(), Exception):
        return
    log.critical("a background task has failed, ending", task=task.get_name(), exc_info=error)
    os.kill(os.getpid(), signal.SIGTERM)
    killing = threading.Timer(MAX_END_SECONDS, os.kill, (os.getpid(), signal.SIGKILL))
    killing.daemon = True
    killing.start()
