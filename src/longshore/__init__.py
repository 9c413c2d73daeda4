"""Longshore: a task service for data exports."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longshore.client import AsyncLongshore, F, Longshore

__version__ = "0.1.0"
__all__ = ["AsyncLongshore", "F", "Longshore", "__version__"]


def __getattr__(name: str) -> object:
    # Imported when it is asked for, as the service and the command line start without it.
    if name not in ("AsyncLongshore", "F", "Longshore"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from longshore import client

    return getattr(client, name)
