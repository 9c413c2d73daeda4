"""An HTTP server before another one, which answers some requests itself, loses connections or hangs."""

import contextlib
import http.client
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec


class ProxiedRequest(msgspec.Struct, frozen=True):
    """A request."""

    method: str
    target: str
    headers: dict[str, str]
    """By lower-case name."""


class ProxyReply(msgspec.Struct, frozen=True):
    """The fate of a request: an answer of the front itself, or a fault of the connection."""

    status: int = 0
    headers: dict[str, str] = {}
    body: bytes = b""
    passes_on: bool = False
    """Whether the server gets the request all the same."""
    cuts_after: int = -1
    """Bytes of the answer's body after which the connection is closed; -1 for none."""
    drops: bool = False
    """Whether the connection is closed without an answer."""
    hangs: bool = False
    """Whether there is no answer until `release` is set."""


Rule = Callable[[ProxiedRequest], ProxyReply | None]


class Front:
    """Passes requests on, but those that `rule` has a reply for."""

    def __init__(self, target: tuple[str, int], rule: Rule = lambda _: None) -> None:
        self.rule = rule
        self.release = threading.Event()
        self.damage: Callable[[ProxiedRequest, bytes], bytes] = lambda _, body: body
        """Returns what the server gets in place of a body."""
        self.seen: list[ProxiedRequest] = []
        self.succeeded: list[ProxiedRequest] = []
        """Requests that the server answered with success, whether or not the client got the answer."""
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen = ProxiedRequest(
                    self.command, self.path, {name.lower(): value for name, value in self.headers.items()}
                )
                front.seen.append(seen)
                reply = front.rule(seen)
                if reply is not None and reply.hangs:
                    front.release.wait(60)
                    self.close_connection = True
                    return
                if reply is None or reply.passes_on or reply.cuts_after >= 0:
                    status, headers, content = front.pass_on(target, seen, body)
                    if reply is None or not reply.status:
                        reply = ProxyReply(
                            status,
                            headers,
                            content,
                            drops=bool(reply and reply.drops),
                            cuts_after=reply.cuts_after if reply else -1,
                        )
                if reply.drops:
                    self.close_connection = True
                    return
                self.send(reply)

            def send(self, reply: ProxyReply) -> None:
                self.send_response_only(reply.status)
                for name, value in reply.headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                length = reply.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(reply.body))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    cut = reply.cuts_after >= 0
                    self.wfile.write(reply.body[: reply.cuts_after] if cut else reply.body)
                    self.close_connection = self.close_connection or cut

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815  # names of the library

            def log_message(self, *_: object) -> None:
                """Say nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def pass_on(self, target: tuple[str, int], seen: ProxiedRequest, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*target, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(seen.method, seen.target, skip_host=True, skip_accept_encoding=True)
            for name, value in seen.headers.items():
                if name != "connection":
                    connection.putheader(name, value)
            connection.endheaders(self.damage(seen, body))
            answer = connection.getresponse()
            if answer.status < 300:
                self.succeeded.append(seen)
            headers = {name.title(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()

    def use_tls(self, certificate: Path, key: Path) -> None:
        """Speak TLS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = self.address.replace("http://127.0.0.1", "https://localhost")

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


def s3_error(status: int, code: str, **headers: str) -> ProxyReply:
    """An answer of S3 that refuses a request, whose text holds what no message may show."""
    body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>StringToSign AKID {code}</Message></Error>"
    return ProxyReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body.encode())


def once(matches: Callable[[ProxiedRequest], bool], reply: ProxyReply) -> Rule:
    """A rule for the first request that matches."""
    left = [reply]

    def rule(seen: ProxiedRequest) -> ProxyReply | None:
        return left.pop() if left and matches(seen) else None

    return rule
