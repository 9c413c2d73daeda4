"""A bucket of a real S3 server (moto's), and a network before it that fails."""

import socket
import threading
import time
from typing import Any

BUCKET = "longshore-results"
KEY, SECRET = "AKIDAKIDAKID", "a secret"


class Relay:
    """A TCP relay to the S3 server; drops every `fail`-th connection, or hangs."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.fail = 0
        self.hang = False
        self.seen = self.dropped = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.seen += 1
        if self.fail and self.seen % self.fail == 0:
            self.dropped += 1
            client.close()
            return
        if self.hang:
            while self.hang:
                time.sleep(0.05)
            client.close()
            return
        server = socket.create_connection(self._target)
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        _pump(server, client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


def keys(bucket: Any) -> list[str]:
    return [found["Key"] for found in bucket.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def unfinished(bucket: Any) -> list[Any]:
    found: list[Any] = bucket.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return found
