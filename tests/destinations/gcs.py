"""An emulator of Google Cloud Storage, and the service that gives out access tokens, on loopback."""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from longshore.destinations.gs import gs_kind
from tests.destinations.servers import SampleDestination, process
from tests.service import free_port

BUCKET = "exports"
EMAIL = "exports@project.iam.gserviceaccount.com"


class TokenService:
    """Gives a token for an assertion that is signed by the key of the service account."""

    def __init__(self) -> None:
        self.key = _pem()
        self.given = 0
        self.claims: dict[str, Any] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                status, answer = service.answer(form["assertion"][0], form["grant_type"][0])
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing on stderr."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, assertion: str, grant: str) -> tuple[int, dict[str, Any]]:
        try:
            token = jwt.decode(assertion, RSAKey.import_key(self.key), algorithms=["RS256"])
        except JoseError:
            return 400, {"error": "invalid_grant", "error_description": f"of {assertion}"}
        if grant != "urn:ietf:params:oauth:grant-type:jwt-bearer" or token.claims["iss"] != EMAIL:
            return 400, {"error": "invalid_request"}
        self.given += 1
        self.claims = dict(token.claims)
        return 200, {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"}

    def account(self, key: str = "") -> dict[str, str]:
        """The key file of the service account."""
        return {
            "type": "service_account", "client_email": EMAIL, "private_key": key or self.key, "private_key_id": "k1",
            "token_uri": self.address, "project_id": "project",
        }  # fmt: skip

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _pem() -> str:
    key = generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@contextlib.contextmanager
def gcs() -> Iterator[tuple[str, TokenService]]:
    """The address of the emulator, with an empty bucket, and the token service."""
    port = free_port()
    program = Path(sys.executable).parent / "gcp-storage-emulator"
    options = ["--host=127.0.0.1", f"--port={port}", f"--default-bucket={BUCKET}", "--in-memory", "--quiet"]
    tokens = TokenService()
    try:
        with process([program, "start", *options], port):
            yield f"http://127.0.0.1:{port}", tokens
    finally:
        tokens.close()


def place_of(server: tuple[str, TokenService]) -> SampleDestination:
    address, tokens = server
    return SampleDestination(
        gs_kind(address), {"bucket": BUCKET, "prefix": "in"}, {"service_account": tokens.account()}
    )
