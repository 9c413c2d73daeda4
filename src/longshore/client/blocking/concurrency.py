"""Pauses and blocking calls of the client that blocks; `asynchronous.concurrency` has those of the other."""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

sleep = time.sleep


def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function here, as a client that blocks may block."""
    return function(*args, **kwargs)
