"""The client of a profile, with which commands send their requests."""

import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

from longshore.cli.output import note
from longshore.cli.wait_notice import wait_notice

if TYPE_CHECKING:
    from longshore import Longshore


class _Notes(logging.Handler):
    """Shows the warnings of the client, such as why nothing happens, where standard error is for people."""

    def emit(self, record: logging.LogRecord) -> None:
        note(f"longshore: {record.getMessage()}")


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _leave_on_signals() -> None:
    """End by an exception on SIGTERM and SIGHUP, unless it is ignored, so that temporary folders are removed."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _leave)


@contextlib.contextmanager
def client_of(profile: str | None) -> Iterator["Longshore"]:
    """Open the client of a profile. A wait of more than two seconds for the service is printed."""
    from longshore import Longshore
    from longshore.client.profiles import file_that_others_read

    _leave_on_signals()
    logger = logging.getLogger("longshore.client")
    logger.handlers = [_Notes()]
    if (file := file_that_others_read()) is not None:
        note(f"longshore: other users can read the tokens in {file}; `chmod 600` it")
    with Longshore.from_profile(profile) as client, wait_notice(client.address):
        yield client
