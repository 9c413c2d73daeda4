"""A bucket of a real S3 server (moto's), and a network before it that fails."""

import re
import socket
import threading
import time
from typing import Any

BUCKET = "longshore-results"
SIGNER = re.compile(rb"Credential=(\w+)/")
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
        self.signers: set[str] = set()
        """The access keys that requests were signed with."""
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
        threading.Thread(target=_pump, args=(client, server, self.signers), daemon=True).start()
        _pump(server, client, set())


def _pump(source: socket.socket, target: socket.socket, signers: set[str]) -> None:
    try:
        while data := source.recv(1 << 16):
            signers.update(found.decode() for found in SIGNER.findall(data))
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
