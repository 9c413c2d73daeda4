"""A relay of TCP connections on loopback that cuts them, or holds them back."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable


class Wire:
    """Passes connections on to a server, each until `limit()` bytes of the client have passed; -1 is no limit."""

    def __init__(self, port: int, limit: Callable[[], int] = lambda: -1) -> None:
        self._target = port
        self.limit = limit
        self.bytes_per_second = 0
        """Of the client's bytes; 0 is without a bound."""
        self.connections = self.passed = 0
        self.stopped = threading.Event()
        """Set: nothing passes any more, and nothing is closed."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            threading.Thread(target=self._pass_on, args=(far, near, -1), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(near, far, self.limit()), daemon=True).start()

    def _pass_on(self, origin: socket.socket, target: socket.socket, limit: int) -> None:
        from_client = limit >= 0 or self.bytes_per_second
        with contextlib.suppress(OSError):
            while data := origin.recv(1 << 16):
                while self.stopped.is_set():
                    time.sleep(0.05)
                if limit >= 0:
                    data = data[:limit]
                    limit -= len(data)
                if from_client:
                    self.passed += len(data)
                    if self.bytes_per_second:
                        time.sleep(len(data) / self.bytes_per_second)
                target.sendall(data)
                if limit == 0:
                    break
        for end in (origin, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # close alone would not wake the other direction
