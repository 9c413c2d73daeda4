"""Connections to addresses that users set: to public addresses, and to networks that the operator allows.

A host name is resolved once, each of its addresses is checked, and the connection goes to a checked address, so DNS
rebinding has no effect. Redirects are not followed. Proxies of the environment are not used, because they would resolve
the name themselves.
"""

import asyncio
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import httpx2
import msgspec

from longshore.errors import LongshoreError

T = TypeVar("T")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_PORT = 65_535
MAX_URL_CHARACTERS = 2000
CONNECT_TIMEOUT_SECONDS = 5.0  # for each address
ANSWER_TIMEOUT_SECONDS = 60.0  # of a `client`: until bytes are taken or come, as a server may first store a large file
RESOLVE_SECONDS = 10.0
MAX_LOOKUPS = 128  # of host names at a time; each is a thread, as the C library blocks
KNOWN_SECONDS = 10.0  # that the addresses of a name are used again
MAX_KNOWN = 1000
NO_KEEP_ALIVE = httpx2.Limits(max_keepalive_connections=0)
UNTIL_CONNECTED = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS)

NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address
UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that is in use for hosts

# Networks that are no public hosts' own: the special-purpose registries of IANA, as far as they lie within IPv4 and
# UNICAST, and addresses at which clouds serve their virtual machines. A list of our own, as `is_global` differs between
# patch releases of Python. https://www.iana.org/assignments/iana-ipv4-special-registry,
# https://www.iana.org/assignments/iana-ipv6-special-registry
REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared between a provider and its clients
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's virtual public address of its own services
        "169.254.0.0/16",  # link-local; metadata of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; metadata of a cloud at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which may lead to any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


class OutboundError(LongshoreError):
    """The request was not answered; the message says why."""


class RefusedError(OutboundError):
    """The address is not one that the service may call; the message says why."""


class Request(msgspec.Struct, frozen=True):
    """A request to an address that a user set."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes
    timeout: float
    """Seconds until the header section of the answer has arrived."""


class Answer(msgspec.Struct, frozen=True):
    """Status and header fields, by lower-case name, of an answer. Its body is not read."""

    status: int
    headers: dict[str, str]


def check_url(text: str, allow: tuple[Network, ...]) -> str | None:
    """Return why an address may not be called, without a DNS lookup; None if it may."""
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError, UnicodeError):
        return "expected an address such as https://example.com/hook"
    if len(text) > MAX_URL_CHARACTERS:
        return f"expected {MAX_URL_CHARACTERS} characters at most"
    if url.scheme not in ("http", "https") or not url.host:
        return "expected an address that begins with https:// or http:// and names a host"
    if url.port is not None and not 1 <= url.port <= MAX_PORT:
        return f"expected a port from 1 to {MAX_PORT}"
    if url.userinfo or url.fragment or "\x00" in text:
        return "expected an address without user, password and fragment"
    if "%" in url.host and ":" not in url.host:  # of characters that no name has; an IPv6 address may have a zone
        return "expected a host without spaces and other characters that names of hosts lack"
    return check_host(url.host, allow)


def check_host(host: str, allow: tuple[Network, ...]) -> str | None:
    """Return why a host may not be connected to, without a DNS lookup; None if it may."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None  # a name, which is resolved when it is called
    return None if is_allowed(_address(found[0]), allow) else f"{host} is not a public address"


async def send(request: Request, allow: tuple[Network, ...]) -> Answer:
    """Send one request and return its answer, whatever its status; redirects are not followed.

    `allow`: networks that may be called though they are not public. Raises RefusedError and OutboundError.
    """
    try:
        async with (
            asyncio.timeout(request.timeout),
            client(allow) as opened,
            opened.stream(
                request.method, request.url, headers=request.headers, content=request.content, timeout=UNTIL_CONNECTED
            ) as answer,
        ):
            return Answer(answer.status_code, dict(answer.headers))
    except TimeoutError:
        raise OutboundError(f"no answer within {request.timeout:.0f} seconds") from None
    except httpx2.LocalProtocolError:  # its text holds the header field, which may be secret
        raise OutboundError("the request is not valid HTTP") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
        raise OutboundError(str(error) or type(error).__name__) from None


def client(allow: tuple[Network, ...]) -> httpx2.AsyncClient:
    """Return a client whose connections go to checked addresses; it follows no redirects.

    It waits CONNECT_TIMEOUT_SECONDS for a connection, and ANSWER_TIMEOUT_SECONDS for the next bytes of an answer or
    until bytes that it sends are taken. `allow`: as of `send`. Its methods raise RefusedError and OutboundError beside
    the errors of httpx2, whose texts may hold header fields.
    """
    # The next request to the same address may be for another name.
    transport = CheckedTransport(lambda url: resolve(url.host, url.port, allow), NO_KEEP_ALIVE)
    # Bodies are read as they lie at the server, so they are not to be compressed on the way.
    plain = {"Accept-Encoding": "identity"}
    timeout = httpx2.Timeout(ANSWER_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
    return httpx2.AsyncClient(
        transport=transport, headers=plain, timeout=timeout, trust_env=False, follow_redirects=False
    )


class CheckedTransport(httpx2.AsyncBaseTransport):
    """Sends each request to the first of its host's addresses that can be connected to."""

    def __init__(self, addresses: Callable[[httpx2.URL], Awaitable[Sequence[Address]]], limits: httpx2.Limits) -> None:
        """`addresses`: returns the checked addresses of a URL's host."""
        self._addresses = addresses
        self._transport = httpx2.AsyncHTTPTransport(verify=tls_context(), limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        request.headers["Host"] = url.netloc.decode("ascii")
        request.extensions = {**request.extensions, "sni_hostname": url.raw_host.decode("ascii")}

        async def send_to(address: Address) -> httpx2.Response:
            request.url = url.copy_with(host=str(address))
            return await self._transport.handle_async_request(request)

        # Where no connection is made, nothing of the body has been read.
        unreachable = (httpx2.ConnectError, httpx2.ConnectTimeout)
        return await first_reachable(await self._addresses(url), send_to, unreachable)

    async def aclose(self) -> None:
        await self._transport.aclose()


async def first_reachable(
    addresses: Sequence[Address], connect: Callable[[Address], Awaitable[T]], unreachable: tuple[type[Exception], ...]
) -> T:
    """Return what `connect` returns for the first address for which it does not raise an error of `unreachable`.

    The last address's error is raised.
    """
    *others, last = addresses
    for address in others:
        try:
            return await connect(address)
        except ssl.SSLError:  # an OSError, but also an answer
            raise
        except unreachable:
            continue
    return await connect(last)


async def resolve(host: str, port: int | None, allow: tuple[Network, ...]) -> list[Address]:
    """Return the addresses of a host after checking each of them. Raises RefusedError and OutboundError."""
    lookup = _lookups.find(host, port)
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            # Others may wait for the same lookup, so that a cancelled request does not cancel it.
            addresses = await asyncio.shield(asyncio.wrap_future(lookup))
    except TimeoutError:
        lookup.cancel()  # where it still waits for a thread
        raise _unanswered(host) from None
    except asyncio.CancelledError:
        if not lookup.cancelled():
            raise
        raise _unanswered(host) from None
    except (OSError, UnicodeError):
        raise OutboundError(f"the host {host} is not known") from None
    for address in addresses:
        if not is_allowed(address, allow):
            raise RefusedError(f"the host {host} has an address that is not public")
    return addresses


def _unanswered(host: str) -> OutboundError:
    return OutboundError(f"the name server did not answer for {host} within {RESOLVE_SECONDS:.0f} seconds")


class _Lookups:
    """Lookups of host names, in threads of their own, so that a slow name server holds up nothing else.

    One name is looked up once at a time, and its addresses are used again for a while. They are checked at each use.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, "lookup")
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int | None], tuple[Future[list[Address]], float]] = {}

    def find(self, host: str, port: int | None) -> "Future[list[Address]]":
        """Return the coming addresses of a host."""
        now = time.monotonic()
        with self._lock:
            known = self._known.get((host, port))
            if known is not None and _is_usable(known[0], now - known[1]):
                return known[0]
            if len(self._known) >= MAX_KNOWN:
                self._known = {key: each for key, each in self._known.items() if _is_usable(each[0], now - each[1])}
            lookup = self._threads.submit(_looked_up, host, port)
            self._known[host, port] = lookup, now
            return lookup


def _is_usable(lookup: "Future[list[Address]]", age: float) -> bool:
    """Return whether a lookup that began `age` seconds ago is not to be repeated."""
    return not lookup.done() or (age < KNOWN_SECONDS and not lookup.cancelled() and lookup.exception() is None)


def _looked_up(host: str, port: int | None) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(_address(item) for item in found))


_lookups = _Lookups()


def _address(found: tuple[object, object, object, object, tuple[object, ...]]) -> Address:
    return ipaddress.ip_address(str(found[4][0]))


def is_allowed(address: Address, allow: tuple[Network, ...]) -> bool:
    """Return whether the service may call an address: a public host's own, or one of the networks `allow`."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return is_allowed(address.ipv4_mapped, allow)
        if address in NAT64:
            return is_allowed(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF), allow)
    if any(address in network for network in allow):
        return True
    if isinstance(address, ipaddress.IPv6Address) and address not in UNICAST:
        return False
    return not any(address in network for network in REFUSED)


@cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS context of outbound connections: the certificates of the system, none of the environment."""
    return httpx2.create_ssl_context(trust_env=False)
