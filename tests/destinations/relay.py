"""A TCP port on loopback that passes connections on to a server, and can lose them at a chosen byte."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.service import free_port


class Relay:
    """Passes each connection on to a Unix socket or a port of 127.0.0.1."""

    def __init__(self, target: Path | int) -> None:
        self.port = free_port()
        self.lose_before: bytes | None = None
        """Lose a connection once its client has sent this, before the server gets it."""
        self.lose_answer_to: bytes | None = None
        """Lose a connection once its client has sent this, and before it gets an answer."""
        self.lose_after_bytes: int | None = None
        """Lose each connection once its client has sent so many bytes."""
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._target, Path):
            from_server, to_server = await asyncio.open_unix_connection(str(self._target))
        else:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        muted = asyncio.Event()
        answers = asyncio.ensure_future(self._answers(from_server, writer, muted))
        sent = 0
        try:
            while data := await reader.read(65_536):
                sent += len(data)
                if self.lose_before is not None and self.lose_before in data:
                    break
                if self.lose_answer_to is not None and self.lose_answer_to in data:
                    muted.set()
                if self.lose_after_bytes is not None and sent >= self.lose_after_bytes:
                    break
                to_server.write(data)
                await to_server.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            to_server.close()
            answers.cancel()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, muted: asyncio.Event) -> None:
        try:
            while data := await reader.read(65_536):
                if muted.is_set():
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()


@contextmanager
def relay(target: Path | int) -> Iterator[Relay]:
    """Yield a relay."""
    made = Relay(target)
    made.start()
    try:
        yield made
    finally:
        made.stop()
