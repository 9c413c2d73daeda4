"""A gateway in front of a service that fails as it is told to, and passes on all else."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2


class Gateway:
    """Each request takes the next of `faults`, or none.

    `refuse`: 503 with Retry-After, the service sees nothing. `silent`: the connection ends, the service sees nothing.
    `lose`: the service answers, its answer is lost. `garble`: something that is no Longshore answers. `hang`: nothing
    answers, and the connection stays.
    """

    def __init__(self, address: str) -> None:
        self.faults: list[str] = []
        self.seen: list[str] = []
        """Each request that came in: its method and path."""
        self._closing = threading.Event()
        self._service = httpx2.Client(base_url=address, timeout=60)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._service.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                gateway.seen.append(f"{self.command} {self.path}")
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = gateway.faults.pop(0) if gateway.faults else ""
                if fault == "refuse":
                    self.answer(503, {"Retry-After": "1", "Content-Type": "application/problem+json"},
                                b'{"type": "/problems/unavailable", "title": "Away", "status": 503, "detail": "",'
                                b' "request_id": "gateway"}')  # fmt: skip
                elif fault == "garble":
                    self.answer(200, {"Content-Type": "text/html"}, b"<h1>Welcome to nginx</h1>")
                elif fault == "hang":
                    gateway._closing.wait(60)
                elif fault != "silent":
                    headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                    passed = gateway._service.request(self.command, self.path, headers=headers, content=body)
                    if fault != "lose":
                        self.answer(passed.status_code, dict(passed.headers), passed.content)

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = do  # noqa: N815  # names that the library looks for

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        return Handler
