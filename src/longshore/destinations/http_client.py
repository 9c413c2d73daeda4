"""HTTP requests to the service of a destination, such as an object store: to checked addresses, signed and retried.

Each request goes to an address that `outbound.resolve` has checked, whatever the name is by then. Redirects are not
followed, and neither proxies nor credentials of the environment are read. Plain HTTP is for networks alone that the
operator allows, as everything on the way can read it.
"""

import abc
import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from urllib.parse import quote

import httpx2
import msgspec

from longshore.database.retry import DESTINATION
from longshore.destinations.kind import DestinationError, DestinationUnavailableError, SecretStruct
from longshore.destinations.servers import checked_addresses, tls_error
from longshore.outbound import CONNECT_TIMEOUT_SECONDS, Address, CheckedTransport, Network, check_url

TIMEOUT_SECONDS = 30.0  # until the next bytes of an answer, or until bytes that are sent are taken
REQUEST_SECONDS = 900.0  # of a request with its answer: a part of an upload at 10 KB/s
MAX_TRIES = 5  # of one request
MAX_ANSWER_BYTES = 1 << 20  # of an answer that is no file
SENT_BYTES = 256 << 10  # at a time, so that TLS does not hold the event loop

RETRIED_STATUS = {408, 429, 500, 502, 503, 504}


class StoreRequest(SecretStruct, frozen=True):
    """A request that may be sent again. Once it is signed, header fields and query hold secrets."""

    method: str
    path: str
    """Percent-encoded, with `/` in front."""
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    content: bytes = b""

    @property
    def target(self) -> str:
        """Return path and query as they are sent."""
        return f"{self.path}?{encoded_query(self.query)}" if self.query else self.path

    def with_headers(self, **headers: str) -> "StoreRequest":
        """Return the request with further header fields; `_` in their names stands for `-`."""
        added = {name.replace("_", "-"): value for name, value in headers.items()}
        return msgspec.structs.replace(self, headers={**self.headers, **added})


class StoreAnswer(msgspec.Struct, frozen=True):
    """An answer: header fields by lower-case name, and its body up to MAX_ANSWER_BYTES."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_transient_error(self) -> bool:
        """Whether the same request may succeed later, by the status alone."""
        return self.status >= 500 or self.status in (408, 429)


class Signer(abc.ABC):
    """Signatures of requests: each is of its moment."""

    @abc.abstractmethod
    async def sign(self, request: StoreRequest) -> StoreRequest:
        """Return a request, which has its `Host`, with what proves who sends it."""

    def renew(self, answer: StoreAnswer) -> bool:  # noqa: ARG002  # most cannot
        """Return whether a new signature may be accepted where an answer has refused the last one."""
        return False


class HttpClient(contextlib.AbstractAsyncContextManager["HttpClient"]):
    """Requests to the origin of an address, such as `https://bucket.s3.eu-west-1.amazonaws.com`."""

    def __init__(self, address: str, allow: tuple[Network, ...], signer: Signer) -> None:
        """`allow`: networks that may be reached though they are not public. Raises DestinationError."""
        try:
            self._origin = httpx2.URL(address)
        except (httpx2.InvalidURL, ValueError, UnicodeError):
            raise DestinationError(f"{address} is not an address such as https://storage.example.com") from None
        self.path = encoded(self._origin.path, safe="/")
        """The path of the address as requests have it: percent-encoded, with `/` in front."""
        self._allow = allow
        self._signer = signer
        self._client = httpx2.AsyncClient(
            transport=CheckedTransport(lambda _: self.resolve(), httpx2.Limits()),
            timeout=httpx2.Timeout(TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            trust_env=False,
            follow_redirects=False,
        )

    @property
    def netloc(self) -> str:
        """Return host and port; the port only where it is not that of the scheme."""
        return self._origin.netloc.decode("ascii")

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def resolve(self) -> list[Address]:
        """Return the checked addresses of the host. Raises DestinationError and DestinationUnavailableError."""
        host = self._origin.host
        found = await checked_addresses(host, self._origin.port, self._allow)
        if self._origin.scheme == "http" and not all(any(one in each for each in self._allow) for one in found):
            raise DestinationError(
                f"use https:// for {host}: plain HTTP is for networks alone that the operator allows"
            )
        return found

    async def connect(self) -> None:
        """Connect, and wait for any answer to a request without credentials. Raises as `send`."""
        async with self._open(StoreRequest("HEAD", "/")):
            pass

    async def send(self, request: StoreRequest, tries: int = MAX_TRIES) -> StoreAnswer:
        """Send a request and return its answer, after retries where those may help.

        `tries`: how often it may be sent.
        Raises DestinationError where the address is refused, DestinationUnavailableError where there is no answer.
        """
        is_renewed = False
        for number, pause in enumerate(DESTINATION, 1):
            try:
                signed = await self._signed(request)
                async with asyncio.timeout(REQUEST_SECONDS), self._open(signed) as response:
                    answer = StoreAnswer(response.status_code, dict(response.headers), await self._body(response))
                if not is_renewed and self._signer.renew(answer):
                    is_renewed = True
                elif answer.status not in RETRIED_STATUS or number >= tries:
                    return answer
            except TimeoutError:
                raise DestinationUnavailableError(f"{self.netloc} answers too slowly") from None
            except DestinationUnavailableError:
                if number >= tries:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def read(
        self, request: StoreRequest, error_of: Callable[[StoreAnswer], Exception]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body of an answer. Where it breaks off, go on from there, as long as its strong tag is the same.

        `error_of`: returns the error of an answer other than 200 and 206. Raises it, and as `send`.
        """
        offset, tag, tries, is_renewed = 0, "", 0, False
        while True:
            ranged = request.with_headers(Range=f"bytes={offset}-", If_Match=tag) if tag and offset else request
            try:
                async with self._open(await self._signed(ranged)) as response:
                    status, found = response.status_code, strong_tag(response.headers)
                    if ranged is not request and (status == 412 or (status == 200 and found != tag)):
                        raise DestinationUnavailableError("the file was replaced while it was read")
                    if status != 200 and (status != 206 or ranged is request):
                        answer = StoreAnswer(status, dict(response.headers), await self._body(response))
                        if is_renewed or not self._signer.renew(answer):
                            raise error_of(answer)
                        is_renewed = True
                        continue
                    tag = tag or found
                    # A server may answer with the whole file (RFC 9110, section 14.2).
                    skipped = offset if status == 200 else 0
                    async for chunk in self._chunks(response):
                        new = chunk[skipped:]
                        skipped -= len(chunk) - len(new)
                        if new:
                            offset, tries = offset + len(new), 0
                            yield new
                    return
            except DestinationUnavailableError:
                tries += 1
                if tries == MAX_TRIES or (offset and not tag):
                    raise
            await asyncio.sleep(DESTINATION.first)

    async def _signed(self, request: StoreRequest) -> StoreRequest:
        return await self._signer.sign(request.with_headers(Host=self.netloc))

    @contextlib.asynccontextmanager
    async def _open(self, request: StoreRequest) -> AsyncIterator[httpx2.Response]:
        """Send a request once and yield the open answer."""
        length = {"Content-Length": str(len(request.content))} if request.method in ("PUT", "POST") else {}
        # The bytes of a file count as they lie there, so no compression on the way.
        built = self._client.build_request(
            request.method,
            self._origin.copy_with(raw_path=request.target.encode("ascii")),
            headers={"User-Agent": "longshore", "Accept-Encoding": "identity", **length, **request.headers},
            content=_slices(request.content) if request.content else None,
        )
        try:
            response = await self._client.send(built, stream=True)
        except httpx2.HTTPError as error:
            raise self._error(error) from None
        try:
            yield response
        finally:
            await response.aclose()

    async def _chunks(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx2.HTTPError as error:
            raise self._error(error) from None

    async def _body(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in self._chunks(response):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise DestinationUnavailableError(f"{self.netloc} answers with more than {MAX_ANSWER_BYTES} bytes")
        return bytes(body)

    def _error(self, error: httpx2.HTTPError) -> Exception:
        """Return the error for one of httpx2, without its text, which may hold what was sent."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return DestinationError(f"the certificate of {self.netloc} is not valid: {cause.verify_message}")
            if isinstance(cause, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(cause):
                return DestinationError(f"{self.netloc} does not speak TLS; is it http:// or another port?")
            if isinstance(cause, ssl.SSLError):
                return tls_error(cause, self.netloc)
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            return DestinationUnavailableError(f"cannot connect to {self.netloc}")
        if isinstance(error, httpx2.TimeoutException):
            return DestinationUnavailableError(f"{self.netloc} does not answer within {TIMEOUT_SECONDS:.0f} seconds")
        return DestinationUnavailableError(f"the connection to {self.netloc} broke")


def check_endpoint(endpoint: str, allow: tuple[Network, ...]) -> str | None:
    """Return why an address cannot be a service's, without a DNS lookup; None if it can."""
    if "?" in endpoint:
        return "expected an address without a query"
    return check_url(endpoint, allow)


def strong_tag(headers: Mapping[str, str]) -> str:
    """Return the entity tag of an answer; empty for a weak one, as `If-Match` holds for none (RFC 9110, 13.1.1)."""
    tag = headers.get("etag", "")
    return "" if tag.startswith("W/") else tag


async def _slices(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), SENT_BYTES):
        yield content[start : start + SENT_BYTES]


def encoded_query(query: Mapping[str, str]) -> str:
    """Return a query string, sorted and encoded as signatures need it."""
    return "&".join(f"{encoded(name)}={encoded(value)}" for name, value in sorted(query.items()))


def encoded(text: str, safe: str = "") -> str:
    """Return a text percent-encoded, all but ASCII letters, digits and `-_.~`. `safe`: further ones."""
    return quote(text, safe="-_.~" + safe)
