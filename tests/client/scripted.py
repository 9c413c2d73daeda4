"""A server whose answers are written by a test, byte by byte, with pauses and cuts."""

import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

Pieces = Iterable[bytes | float]
"""Bytes to send, and seconds to wait."""
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
HOLD = 20.0
"""Seconds for which an answer is held open, longer than any test waits."""


def json_answer(body: Any, status: int = 200) -> list[bytes]:
    """Return a whole answer with a JSON body; bytes are sent as they are."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    head = (
        f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return [head.encode() + content]


def chunk(content: str) -> bytes:
    """Return a chunk of a body of unknown length."""
    return b"%x\r\n%s\r\n" % (len(content.encode()), content.encode())


class Scripted:
    """Each request to a path is answered with the next of its answers, the last one again and again.

    An answer that ends before its body is a lost connection.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Callable[[dict[str, str]], Pieces]]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        """The path and the header fields, in lower case, of each request."""
        self.doubled: list[str] = []
        """The names of header fields that a request had twice."""
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def add(self, path: str, answer: Pieces | Callable[[dict[str, str]], Pieces]) -> None:
        """Add an answer, or a function that makes it of the header fields of the request."""
        made = answer if callable(answer) else lambda _: answer
        self.answers.setdefault(path, []).append(made)

    def paths(self) -> list[str]:
        """Return the paths of all requests, in their order."""
        return [path for path, _ in self.seen]

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                path = self.path.partition("?")[0]
                headers = {name.lower(): value for name, value in self.headers.items()}
                names = [name.lower() for name in self.headers]
                scripted.doubled += [name for name in headers if names.count(name) > 1]
                scripted.seen.append((path, headers))
                self.rfile.read(int(headers.get("content-length", 0)))
                answers = scripted.answers[path]
                for piece in (answers.pop(0) if len(answers) > 1 else answers[0])(headers):
                    if isinstance(piece, float):
                        scripted._closing.wait(piece)
                    else:
                        self.wfile.write(piece)
                self.close_connection = True

            do_GET = do_POST = do_DELETE = do  # noqa: N815  # names that the library looks for

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        return Handler
