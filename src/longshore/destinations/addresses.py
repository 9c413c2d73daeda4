"""The addresses of a destination's host, checked against the networks that the operator allows."""

from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.outbound import Address, Network, OutboundError, RefusedError, resolve


async def checked_addresses(host: str, port: int | None, allow: tuple[Network, ...]) -> list[Address]:
    """Return the addresses of a host. Raises DestinationError and DestinationUnavailableError."""
    try:
        return await resolve(host, port, allow)
    except RefusedError as error:
        raise DestinationError(f"{error}; the operator can allow its network (LONGSHORE_OUTBOUND_ALLOW)") from None
    except OutboundError as error:
        raise DestinationUnavailableError(str(error)) from None
