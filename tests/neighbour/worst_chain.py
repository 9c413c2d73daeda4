"""The chain that does its worst: its credentials, its stored tasks, and the process that sends its requests."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec

from longshore.access.tokens import Level
from tests.access.users import new_user
from tests.neighbour.worst import Client
from tests.service import Longshore

TOKENS = 2
LARGE_TASK_BYTES = 50_000
STOP_SECONDS = 30

# Parked, as tasks are whose chain has no slot free, or due in the future.
FILL = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, parked, due_at)
select $1, 'stored', 'export', '{"once":"2026-05-26T12:00:00Z"}',
       '{"action":"export","export_index":"wallet-ledger","export_format":"csv"}', repeat('x', $3), $4,
       case when not $4 then timestamptz '2126-05-26' end
from generate_series(1, $2)
"""


class StoredTasks(msgspec.Struct, frozen=True):
    """Tasks that the chain has before it does its worst: how many are due at once, and how many are large."""

    due: int = 0
    large: int = 0


class WorstChain:
    """A chain that does its worst, one behavior at a time."""

    def __init__(self, service: Longshore, chain: int, stored: dict[str, StoredTasks], opened: int) -> None:
        """`stored`: by behavior; `opened`: streams and long polls that each token tries to open."""
        self._service = service
        self._stored = stored
        levels: dict[str, Any] = {f"_{chain}": Level.READ}
        user = new_user(service, **levels)
        tokens = [service.token(Level.WRITE, chain) for _ in range(TOKENS)]
        self.client = Client(service.address, chain, tokens, user.name, user.password, opened)

    @contextlib.contextmanager
    def doing(self, behavior: str) -> Iterator[dict[str, int]]:
        """Keep up a behavior while the context is open; afterwards the dictionary has the answers by status."""
        stored = self._stored.get(behavior, StoredTasks())
        for count, size, due in ((stored.due, 0, True), (stored.large, LARGE_TASK_BYTES, False)):
            self._service.sql(FILL, self.client.chain, count, size, due)
        command = [sys.executable, "-m", "tests.neighbour.worst", behavior]
        answers: dict[str, int] = {}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin and process.stdout
            try:
                process.stdin.write(msgspec.json.encode(self.client) + b"\n")
                process.stdin.flush()
                assert process.stdout.readline() == b"at work\n"
                yield answers
                process.stdin.close()
                answers.update(msgspec.json.decode(process.stdout.readline()))
                process.wait(STOP_SECONDS)
            finally:
                process.kill()
                self._clear()

    def _clear(self) -> None:
        """Delete what the chain has, whose runs end with that."""
        chain = self.client.chain
        self._service.sql("delete from longshore.webhooks where chain_id = $1", chain)
        self._service.sql("delete from longshore.sign_in_failures")
        deadline = time.monotonic() + STOP_SECONDS
        while self._service.sql("select from longshore.tasks where chain_id = $1 limit 1", chain):
            assert time.monotonic() < deadline, "tasks cannot be deleted"
            # A run that ends meanwhile holds its task and waits for the row of usage, which this statement holds.
            with contextlib.suppress(asyncpg.DeadlockDetectedError):
                self._service.sql("delete from longshore.tasks where chain_id = $1", chain)
