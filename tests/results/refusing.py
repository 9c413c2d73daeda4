"""A server that gives every request of S3 the same answer, and one that gives out the credentials of a role."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>of the bucket secret-bucket</Message></Error>"


class Server:
    """Answers every request with one status and one body, until it is closed."""

    def __init__(self) -> None:
        self.status, self.body, self.media_type = 200, b"", "application/xml"
        self.requests = 0
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answers.requests += 1
                self.send_response(answers.status)
                self.send_header("Content-Type", answers.media_type)
                self.send_header("x-amz-bucket-region", "eu-west-1")
                self.send_header("Content-Length", str(len(answers.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answers.body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815  # names of the library

            def log_message(self, *_: object) -> None:
                """Say nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def refuse(self, status: int, code: str) -> None:
        """Answer with an error of S3."""
        self.status, self.body = status, ERROR.format(code).encode()

    def give_role(self, key: str, minutes: int = 60) -> None:
        """Answer with credentials that end in so many minutes, as a container is given those of its role."""
        ends = datetime.now(UTC) + timedelta(minutes=minutes)
        answer = {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}
        self.status, self.body, self.media_type = 200, json.dumps(answer).encode(), "application/json"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
