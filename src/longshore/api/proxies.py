"""Middleware that takes the client's address and scheme from the proxies in front of the service.

`X-Forwarded-For` is read from its end, as each proxy appends the address of its client: the first address that is not a
trusted proxy's is the client's. The client can have written everything before it.
"""

import ipaddress
import re
from collections.abc import Sequence

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from longshore.settings import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# An address as proxies write it: with a port or without, an IPv6 one in brackets or bare.
NODE = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d{1,5})?|(?P<v4>[0-9.]+)(?::\d{1,5})?|(?P<bare>[0-9A-Fa-f:.]+)")
SCHEMES = ("http", "https")
MAX_ENTRIES = 100  # that are read: the client can name trusted proxies, too


def behind_proxies(app: ASGIApp, trusted: Sequence[Network]) -> ASGIApp:
    """Return the application behind trusted proxies."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["client"] and _is_in(node(scope["client"][0]), trusted):
            client = forwarded_peer(_lines(scope, b"x-forwarded-for"), trusted)
            if client is not None:
                scope["client"] = (str(client), 0)
            scheme = next(iter(_lines(scope, b"x-forwarded-proto")), "").strip().lower()
            if scheme in SCHEMES:
                scope["scheme"] = scheme
        await app(scope, receive, send)

    return wrapped


def forwarded_peer(lines: Sequence[str], trusted: Sequence[Network]) -> Address | None:
    """Return the client in lines of `X-Forwarded-For`; None where its entry is not an address.

    Where all entries are trusted proxies it is the first of them. Of more than MAX_ENTRIES the last ones are read.
    """
    address = None
    for entry in reversed(",".join(lines).split(",")[-MAX_ENTRIES:]):
        if entry.strip():
            address = node(entry)
            if not _is_in(address, trusted):
                break
    return address


def node(text: str) -> Address | None:
    """Return the address in an entry of `X-Forwarded-For`, such as `[2001:db8::1]:443`; None where it has none."""
    match = NODE.fullmatch(text.strip())
    if match is None:
        return None
    try:
        address = ipaddress.ip_address(match["v6"] or match["v4"] or match["bare"])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_in(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def _lines(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
