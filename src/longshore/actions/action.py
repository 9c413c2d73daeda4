"""What an action is made of: the target it takes, the coroutine that is a run of it, and what that is given."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator
from threading import Event
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from longshore.database.connect import Pool
from longshore.errors import LongshoreError
from longshore.results.store import Store, Writable
from longshore.tasks import attempts
from longshore.tasks.attempts import Attempt, RunResult
from longshore.validation import Violation

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_SECONDS, MOST_DAYS = 7 * 24 * 3600, 3650


class Target(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What every target may say. An action derives its own from it, with the fields that it needs."""

    action: str
    timeout_seconds: Annotated[int, Meta(ge=1, le=MOST_SECONDS)] | None = None
    """How long an attempt may take; then the run is an error."""
    result_days: Annotated[float, Meta(gt=0, le=MOST_DAYS)] | None = None
    """How long a result is kept, where that is shorter than what the service allows."""
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    """Of a chain's tasks, the one with the highest gets the next free slot."""


T = TypeVar("T", bound=Target)


class ResultWriter:
    """The result of a run being written."""

    def __init__(self, file: Writable) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append. Blocking; raises OSError."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def digest(self) -> bytes:
        """The SHA-256 of what was written."""
        return self._hash.digest()


class Context(Generic[T]):
    """One attempt of a run: what is to be done, and how to tell of it.

    An attempt that counts no more is cancelled: `asyncio.CancelledError` is raised where the coroutine waits. What
    works in a thread of its own has to look at `cancelled`.
    """

    def __init__(self, begun: Attempt, target: T, pool: Pool, store: Store) -> None:
        self.task = int(begun.message.task)
        self.chain = int(begun.chain)
        self.run = begun.run
        """Number of the run, from 1."""
        self.attempt = begun.number
        """Which attempt of the run it is, from 1."""
        self.target = target
        self.outcome = RunResult("", None, 0, 0, 0, None, None, None)
        self._begun = begun
        self._pool = pool
        self._store = store
        self._cancelled = Event()

    @property
    def cancelled(self) -> bool:
        """Whether the attempt has been cancelled. May be asked from any thread."""
        return self._cancelled.is_set()

    async def log(self, message: str) -> None:
        """Add an entry to the task's log."""
        await attempts.note(self._pool, self._begun.message, message)

    async def progress(self, done: int, expected: int | None = None) -> None:
        """Tell how many things are done, and how many there will be; at most once a second is sensible."""
        self.outcome = msgspec.structs.replace(self.outcome, total=done, success=done)
        await attempts.report(
            self._pool, self._begun.message, done, self.outcome.size, expected, exact=expected is not None
        )

    @contextlib.contextmanager
    def result(self, name: str) -> Iterator[ResultWriter]:
        """The file that the run leaves, one at most; it is seen once the run is DONE.

        Blocking. `name`: letters, digits, points, hyphens and underscores. Raises ValueError and OSError.
        """
        if not NAME.fullmatch(name) or self.outcome.result:
            raise ValueError(f"a result cannot be named {name!r}, or this is the second one")
        location = self._store.location(self._begun.chain, self._begun.message.task, self._begun.message.attempt, name)
        with self._store.create(location) as file:
            writer = ResultWriter(file)
            yield writer
            file.publish()
        self.outcome = msgspec.structs.replace(
            self.outcome, result=name, location=location, size=writer.size, sha256=writer.digest()
        )

    def cancel(self) -> None:
        """Take notice that the attempt has been cancelled."""
        self._cancelled.set()


def nothing_wrong(_target: Any) -> list[Violation]:
    """The check of an action whose targets are right if their fields are."""
    return []


class Action(msgspec.Struct, frozen=True):
    """An action."""

    target: type[Target]
    """What its tasks say in `target`."""
    run: Callable[[Context[Any]], Awaitable[None]]
    """A run. It is tried again after OSError, a lost connection to the database and TransientError; what else it raises
    ends the run, with the error's words in the task's log."""
    check: Callable[[Any], list[Violation]] = nothing_wrong
    """What is wrong with a target beyond its shape; each fault's pointer is a JSON pointer within the target."""


class Plugged:
    """An action as the worker runs it."""

    def __init__(self, action: Action, pool: Pool, store: Store) -> None:
        self._action = action
        self._pool = pool
        self._store = store

    async def run(self, begun: Attempt) -> RunResult:
        """Run one attempt. Raises what the action raises."""
        try:
            target = msgspec.json.decode(begun.target, type=self._action.target)
        except msgspec.MsgspecError as error:
            raise LongshoreError(f"this version cannot read the target: {error}") from error
        context = Context(begun, target, self._pool, self._store)
        kept = await attempts.locations(self._pool, begun.message.task)
        await asyncio.to_thread(
            self._store.remove_abandoned, begun.chain, begun.message.task, begun.message.attempt, kept
        )
        try:
            await self._action.run(context)
        except asyncio.CancelledError:
            context.cancel()
            raise
        return context.outcome
