"""An HTTP server that keeps the requests that it gets, and answers with the statuses that a test has chosen."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

PORT_IN_NAMESPACE = 8080  # of `python -m tests.receiver`, which is run in a network namespace of its own


class Received(msgspec.Struct, frozen=True):
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    """When it came, in seconds since 1970."""


class Receiver:
    """Requests, oldest first in `received`, and the statuses to answer with; 204 when there are none left."""

    def __init__(self) -> None:
        self.received: queue.Queue[Received] = queue.Queue()
        self.answers: queue.Queue[int] = queue.Queue()
        self.retry_after = ""
        """The `Retry-After` of answers other than 2xx; none where it is empty."""
        self.seconds = 0.0
        """Before each answer."""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next(self) -> Received:
        """The next request that comes, or has come."""
        return self.received.get(timeout=30)


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            at = time.time()
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = 204 if receiver.answers.empty() else receiver.answers.get()
            receiver.received.put(Received(self.path, headers, body, at))
            time.sleep(receiver.seconds)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{receiver.url}/elsewhere")
            if status >= 400 and receiver.retry_after:
                self.send_header("Retry-After", receiver.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def receive_for_ever() -> None:
    """Print the path of each request that comes, at any address of the network namespace."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            print(self.path, flush=True)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(204)
            self.end_headers()

    with ThreadingHTTPServer(("0.0.0.0", PORT_IN_NAMESPACE), Handler) as server:  # it has only lo
        print("listens", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    receive_for_ever()
