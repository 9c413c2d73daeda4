"""Notifications of PostgreSQL, over a connection that is opened again when it is lost (promise 7)."""

import asyncio
from collections.abc import Callable
from typing import Any

from longshore.database.connect import connect, is_read_only
from longshore.database.retry import LISTENER, end_process_if_failed, loop_step


class Listener:
    """Listens on a channel while the context is open.

    `on_payload`: called with the payload of each notification. `on_gap`: called after each connection and
    reconnection, as notifications before it are lost and the state has to be read.
    """

    def __init__(self, url: str, channel: str, on_payload: Callable[[str], None], on_gap: Callable[[], None]) -> None:
        self._url = url
        self._channel = channel
        self._on_payload = on_payload
        self._on_gap = on_gap
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()

    async def __aenter__(self) -> "Listener":
        self._task = asyncio.create_task(self._run(), name=f"listen {self._channel}")
        self._task.add_done_callback(end_process_if_failed)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        pauses = iter(LISTENER)
        while True:
            with loop_step("listener", channel=self._channel):
                await self._listen()
                pauses = iter(LISTENER)
            await asyncio.sleep(next(pauses))

    async def _listen(self) -> None:
        connection = await connect(self._url, f"longshore {self._channel}", seconds=5)
        try:
            self._lost.clear()
            connection.add_termination_listener(lambda *_: self._lost.set())
            await connection.add_listener(self._channel, self._receive)
            self.connected.set()
            self._on_gap()
            while not self._lost.is_set():
                try:
                    await asyncio.wait_for(self._lost.wait(), 10)
                except TimeoutError:
                    # Only a query finds out that a peer has vanished.
                    await connection.execute("select 1", timeout=5)
                    if is_read_only(connection):  # after a failover another server may be the primary
                        return
        finally:
            self.connected.clear()
            connection.terminate()

    def _receive(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        self._on_payload(str(payload))
