"""Servers of destinations, as all kinds reach them: by addresses that the operator allows, and by TLS."""

import re
import ssl

from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.outbound import Address, Network, OutboundError, RefusedError, resolve

# Reasons of OpenSSL for a handshake that ends in the same way each time: no common version, cipher or length of keys,
# or a certificate that the server asks for.
FINAL_REASON = re.compile(
    "PROTOCOL(?!_IS_SHUTDOWN)|VERSION|HANDSHAKE_FAILURE|CIPHER|TOO_SMALL|LEGACY|CERTIFICATE_REQUIRED"
)


async def checked_addresses(host: str, port: int | None, allow: tuple[Network, ...]) -> list[Address]:
    """Return the addresses of a host. Raises DestinationError and DestinationUnavailableError."""
    try:
        return await resolve(host, port, allow)
    except RefusedError as error:
        raise DestinationError(f"{error}; the operator can allow its network (LONGSHORE_OUTBOUND_ALLOW)") from None
    except OutboundError as error:
        raise DestinationUnavailableError(str(error)) from None


def tls_error(error: ssl.SSLError, server: str) -> DestinationError | DestinationUnavailableError:
    """Return the error of a connection whose TLS failed. `server`: begins the message."""
    reason = error.reason or str(error)
    if FINAL_REASON.search(reason):
        return DestinationError(f"{server}: no TLS with the server: {reason}; it needs TLS 1.2 or later")
    return DestinationUnavailableError(f"{server}: TLS with the server failed: {reason}")
