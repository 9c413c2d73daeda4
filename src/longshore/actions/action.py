"""The parts of an action: its target, the coroutine that runs it, and the context of a run."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from longshore.actions.secret_fields import with_secrets
from longshore.database.connect import Pool
from longshore.database.retry import ignore_outage, retry_until_available
from longshore.errors import LongshoreError
from longshore.plugins import PluginLoadError, load_plugins
from longshore.results.own_thread import opened_in_thread
from longshore.results.store import AttemptFiles, Store, StoreUnavailableError, Writable, remove_unneeded
from longshore.settings import Settings
from longshore.tasks import attempts, task_secrets
from longshore.tasks.attempts import Attempt, RunResult
from longshore.tasks.model import Target
from longshore.validation import Violation
from longshore.vault import Vault

GROUP = "longshore.actions"
BUILT_IN = ("export", "cleanup")  # names of actions that no package may have
ActionLoadError = PluginLoadError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MANIFEST_NAME = re.compile(r".*\.manifest\.json(\.jws)?")  # clients would look for the files that it lists
MAX_COUNT = 2**63 - 1


T = TypeVar("T", bound=Target)


class ResultFile:
    """The result of a run while it is written."""

    def __init__(self, file: Writable) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append. Raises OSError and StoreError.

        It waits for the disk or the bucket, so call it in a thread, and in one at a time.
        """
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def digest(self) -> bytes:
        """Return the SHA-256 of the written bytes."""
        return self._hash.digest()


class Context(Generic[T]):
    """One attempt of a run: its target, and methods for log, progress and result.

    When an attempt is cancelled or replaced, `asyncio.CancelledError` is raised where the coroutine waits. Code in a
    thread has to check `cancelled`.
    """

    def __init__(self, attempt: Attempt, target: T, pool: Pool, store: Store) -> None:
        self.task = int(attempt.message.task)
        self.chain = int(attempt.chain)
        self.run = attempt.run
        """Number of the run, from 1."""
        self.interval = attempt.interval
        """Data interval of the run: `start` (None: no bound) and `end`."""
        self.attempt = attempt.number
        """Number of the attempt within the run, from 1."""
        self.target = target
        self._result = RunResult()
        self._attempt = attempt
        self._pool = pool
        self._store = store
        self._result_begun = ""
        self._running = asyncio.current_task()
        self._has_ended = False

    @property
    def cancelled(self) -> bool:
        """Return whether the attempt was cancelled, or has ended. For any thread."""
        return self._has_ended or (self._running is not None and self._running.cancelling() > 0)

    async def log(self, message: str) -> None:
        """Add an entry to the task's log, however long the service's database is away."""
        await retry_until_available(attempts.add_log_entry, self._pool, self._attempt.message, message)

    async def progress(self, done: int, expected: int | None = None) -> None:
        """Report how many items are done, and how many are expected. Call it once a second at most.

        Raises ValueError for numbers below 0 or from 2**63 on.
        """
        done = _count(done)
        expected = None if expected is None else _count(expected)
        self._result = msgspec.structs.replace(self._result, total=done, success=done)
        message, is_exact = self._attempt.message, expected is not None
        with ignore_outage("progress not reported", task=self.task):
            await attempts.report(self._pool, message, done, self._result.size, expected, exact=is_exact)

    @contextlib.asynccontextmanager
    async def result(self, name: str) -> AsyncIterator[ResultFile]:
        """The result file of the run, one at most; it is visible once the run is DONE, and removed after an error.

        `name`: 1 to 100 ASCII letters, digits, points, hyphens and underscores, of which the first is a letter or a
        digit; it does not end like the name of a manifest. Raises ValueError, OSError and StoreError.
        """
        if not NAME.fullmatch(name):
            raise ValueError(
                f"a result cannot be named {name!r}; expected 1 to 100 letters, digits, points, hyphens and"
                " underscores, beginning with a letter or a digit"
            )
        if MANIFEST_NAME.fullmatch(name):
            raise ValueError(f"a result cannot be named {name!r}: names that end so are those of manifests")
        if self._result_begun:
            raise ValueError(f"a run has one result, which is {self._result_begun!r}; {name!r} is the second one")
        self._result_begun = name
        location = AttemptFiles.of(self._attempt).location(name)
        try:
            async with opened_in_thread(self._store.create, location) as (file, thread):
                writer = ResultFile(file)
                yield writer
                await asyncio.get_running_loop().run_in_executor(thread, file.publish)
        except BaseException:
            self._result_begun = ""
            raise
        self._result = msgspec.structs.replace(
            self._result, result=str(name), location=location, size=writer.size, sha256=writer.digest()
        )

    async def _remove_result(self) -> None:
        """Remove the files of a failed attempt; where the store is out of reach, the next one or cleanup does."""
        if self._result.location is not None:
            with contextlib.suppress(StoreUnavailableError, OSError):
                await asyncio.to_thread(remove_unneeded, self._store, self._result.location)


def _count(number: int) -> int:
    """Return a number of items, also where it is one of numpy. Raises ValueError if it cannot be stored."""
    try:
        count = int(number)
    except (TypeError, ValueError, OverflowError):
        count = -1
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"progress takes whole numbers from 0 to 2**63 - 1, not {number!r}")
    return count


class Action(msgspec.Struct, frozen=True):
    """An action: the work of a task."""

    target: type[Target]
    """The type of `target` of its tasks."""
    run: Callable[[Context[Any]], Awaitable[None]]
    """Runs one attempt. After OSError, a lost connection to the database and TransientError the run is retried; any
    other error ends the run, with the error's message in the task's log."""
    check: Callable[[Any, int], list[Violation]] = lambda _target, _chain: []
    """`check(target, chain)` returns the violations beyond the types of a target; each pointer is within the target."""
    secret_fields: tuple[str, ...] = ()
    """Names of fields whose values are secrets: objects of strings or nulls. The values are stored in the vault, and
    shown as null; the target of a run has them."""
    sends_to: Callable[[Any], str] = lambda _target: ""
    """Returns where a target sends its secrets, such as the origin of an address. A change of it is refused unless the
    secrets are sent with it."""


def load(settings: Settings) -> Mapping[str, Action]:
    """Return the actions of all packages by name. Raises ActionLoadError."""
    return load_plugins(GROUP, Action, settings, BUILT_IN)


def attempt_runner(action: Action, pool: Pool, store: Store, vault: Vault) -> Callable[[Attempt], Awaitable[RunResult]]:
    """Return what a worker runs for each attempt of an action; it raises the errors of the action."""

    async def run(attempt: Attempt) -> RunResult:
        try:
            target = msgspec.json.decode(attempt.target, type=action.target)
        except msgspec.MsgspecError as error:
            raise LongshoreError(f"this version cannot read the target: {error}") from error
        if action.secret_fields:
            stored = await task_secrets.load(pool, vault, attempt.chain, attempt.message.task)
            target = with_secrets(action.secret_fields, target, stored)
        context = Context(attempt, target, pool, store)
        kept = await attempts.locations(pool, attempt.message.task)
        await asyncio.to_thread(store.remove_abandoned, AttemptFiles.of(attempt), kept)
        try:
            try:
                await action.run(context)
            finally:
                context._has_ended = True  # for threads that still run
        except BaseException:
            await context._remove_result()
            raise
        return context._result

    return run
