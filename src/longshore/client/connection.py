"""The address of a service with the token and the chain that requests to it carry, and the errors of connections."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from longshore.client.errors import ArgumentError, ClientError, LostError, NoAnswerError, NotSentError
from longshore.client.requests import Request, check_headers

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

DEADLINE_SLACK_SECONDS = 2.0  # so that an answer that is held back until the deadline arrives
TRANSIENT_PROXY_ANSWER = re.compile(r"50[234]\b")
BAD_RECORD = "BAD_RECORD_MAC"  # of bytes that the network has changed
ADDRESS, TOKEN, CHAIN = "LONGSHORE_ADDRESS", "LONGSHORE_TOKEN", "LONGSHORE_CHAIN"  # variables' names


def _plain(value: Any) -> Any:
    """Return a value of a class that JSON does not know, such as NumPy's, as one that it knows. Raises TypeError."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Integral):
        return int(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain)


class _WithoutSignatures(logging.Filter):
    """Leaves the query of signed addresses out of the HTTP library's log, as it is a credential of the download."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True: every record is kept."""
        if isinstance(record.args, tuple):
            record.args = tuple(_shown(each) if type(each).__name__ == "URL" else each for each in record.args)
        return True


def _shown(url: Any) -> str:
    path, _, query = str(url).partition("?")
    return f"{path}?…" if "sig" in query.lower() else str(url)


HTTP_LOG_FILTER = _WithoutSignatures()


class Connection(msgspec.Struct, frozen=True):
    """The settings of the requests of a client."""

    address: str
    token: str
    chain: int
    timeout: float
    retry_for: float

    def __repr__(self) -> str:
        return f"{self.address} chain {self.chain}"

    def httpx_arguments(self, request: Request) -> dict[str, Any]:
        """Return the arguments of httpx2's `build_request`.

        Every request to the service has the token and names the chain; a store of results gets neither.
        """
        import httpx2  # when a request is sent, so that the package is imported quickly

        own = request.url.startswith("/")
        check_headers(request.headers)
        headers = httpx2.Headers({"Accept-Encoding": "identity"})
        content = None
        if own:
            headers.update({"Authorization": f"Bearer {self.token}", "X-Session-Chain-Id": str(self.chain)})
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            content = _encoded(request.body)
        headers.update(request.headers)
        left = max(request.deadline - time.monotonic(), 0) + DEADLINE_SLACK_SECONDS
        read_timeout = min(self.timeout + request.extra_seconds, left)
        url = httpx2.URL(self.address + request.url if own else request.url)
        return {
            "method": request.method,
            "url": url.copy_merge_params(request.params) if request.params else url,
            "headers": headers,
            "content": content,
            "timeout": httpx2.Timeout(min(self.timeout, left), read=read_timeout),
        }

    @contextmanager
    def translated_errors(self, request: Request) -> Iterator[None]:
        """Raise the client's errors in place of those of HTTP, TLS, host names, and a closed event loop."""
        import ssl

        import httpx2

        try:
            yield
        except (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError, ssl.SSLError, UnicodeError) as error:
            raise self.client_error(error, request) from None

    def client_error(self, error: Exception, request: Request) -> ClientError:
        """Return the client's error for one of the HTTP library's or of TLS. Its message has no credential."""
        import ssl

        import httpx2

        if isinstance(error, UnicodeEncodeError) and error.encoding != "idna":
            return ArgumentError("an argument is no text in UTF-8")
        if isinstance(error, RuntimeError):  # of httpx2, or of the event loop that a client was made in
            return ClientError(f"the client is closed, or belongs to an event loop that is: {error}")
        reason = str(error) or type(error).__name__
        to = self.address if request.url.startswith("/") else _origin(request.url)
        if isinstance(error, UnicodeError):  # of a host name with an empty part, or with one of over 63 characters
            return NoAnswerError(f"cannot connect to {to}: no such host name")
        is_new = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError))
        permanent = _permanent_reason(error, is_new=is_new)
        if permanent is not None:
            return NoAnswerError(f"cannot connect to {to}: {permanent}")
        if is_new:
            return NotSentError(f"cannot connect to {to}: {reason}")
        if isinstance(error, httpx2.SSEError):
            return NoAnswerError(f"the stream of events is not Longshore's: {reason}")
        if isinstance(error, httpx2.TransportError | ssl.SSLError) and not isinstance(
            error, httpx2.UnsupportedProtocol
        ):
            return LostError(f"the connection to {to} was lost: {reason}")
        return NoAnswerError(f"the request to {to} cannot be made: {reason}")


def _encoded(body: Any) -> bytes:
    """Return a body as JSON. Raises ArgumentError, and UnicodeEncodeError for text that is not UTF-8."""
    try:
        return ENCODER.encode(body)
    except (TypeError, OverflowError, RecursionError) as error:
        raise ArgumentError(f"the body of the request cannot be JSON: {error}") from None


def _origin(url: str) -> str:
    """Return the scheme, host and port of an address, such as that of a store of results."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _permanent_reason(error: BaseException, *, is_new: bool) -> str | None:
    """Return why a connection can never be used; None where another try may succeed.

    `is_new`: whether it was still being made. Servers of TLS 1.3 refuse a client after that, by an alert.
    """
    import socket
    import ssl

    import httpx2

    unknown_name = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
    if isinstance(error, httpx2.ProxyError):
        return None if TRANSIENT_PROXY_ANSWER.match(str(error)) else f"the proxy refuses: {error}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate does not verify: {cause.verify_message}; name the file of its authority in"
                " SSL_CERT_FILE, or by `verify` of the client"
            )
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return None  # cut in the handshake, as by a server that restarts
        if isinstance(cause, ssl.SSLError) and not is_new:
            if "ALERT" not in (cause.reason or "") or BAD_RECORD in cause.reason:
                return None
            return f"it refuses the client: {cause.reason}; a certificate for it is part of the SSLContext of `verify`"
        if isinstance(cause, ssl.SSLError):
            return f"it does not speak TLS as expected: {cause.reason or cause}; check http:// and https://"
        if isinstance(cause, socket.gaierror) and cause.errno in unknown_name:
            return "no such host name"
        cause = cause.__cause__ or cause.__context__
    return None


def new_http_client(kind: Callable[..., T], verify: "bool | str | ssl.SSLContext", proxy: str | None) -> T:
    """Return a client of httpx2, of the class `kind`. Raises ClientError."""
    import ssl

    import httpx2

    if isinstance(verify, str):
        try:
            verify = ssl.create_default_context(cafile=verify)
        except OSError as error:  # also ssl.SSLError, for a file without a certificate
            raise ClientError(f"the certificates of `verify`, {verify}, cannot be read: {error}") from None
    try:
        return kind(verify=verify, proxy=proxy)
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        which = "the proxy" if proxy else "the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
        raise ClientError(f"{which} cannot be used: {error}") from None


def resolve_connection(
    address: str | None, token: str | None, chain: int | None, seconds: tuple[float, float]
) -> Connection:
    """Return the connection of a client; what is None comes from the environment.

    `seconds`: `timeout` and `retry_for`. Raises ClientError, which never quotes a token.
    """
    address = _given(address, ADDRESS, "the address of the service").strip()
    token = _given(token, TOKEN, "a token, id:secret").strip()
    number = _given(None if chain is None else str(chain), CHAIN, "the chain")
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:  # a bracket of an IPv6 address that is not closed, or a port above 65,535
        raise ClientError(f"the address {address!r} cannot be read: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ClientError("the address has a user name or a password; take them out, the token is sent instead")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClientError(f"the address {address!r} does not begin with http:// or https:// and a host name")
    if parts.query or parts.fragment:
        raise ClientError("the address has a query or a fragment; it ends with the path, if there is one")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ClientError("the token has characters that no token has; expected id:secret, as it was printed")
    if not (number.isascii() and number.isdigit()):
        raise ClientError(f"the chain {number!r} is not a number such as 1764")
    return Connection(address.rstrip("/"), token, int(number), *seconds)


def _given(value: str | None, variable: str, what: str) -> str:
    found = value if value is not None else os.environ.get(variable)
    if not found:
        raise ClientError(f"{what} is missing: pass it, or set {variable}")
    return found
