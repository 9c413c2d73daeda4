"""The preferences of a request: `Prefer` (RFC 7240), a list that several field lines may hold (section 2)."""

import re

from longshore.api.service import AnyRequest

MAX_WAIT_SECONDS = 60

WAIT = re.compile(r'(?:^|[,\s])wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;\s])', re.IGNORECASE)


def preferences(request: AnyRequest) -> set[str]:
    """Return the names of the preferences, without their values."""
    return {part.split(";")[0].split("=")[0].strip().lower() for part in _text(request).split(",")}


def preferred_wait(request: AnyRequest) -> int | None:
    """Return the seconds that `wait=…` asks for, at most MAX_WAIT_SECONDS; None without it."""
    match = WAIT.search(_text(request))
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else None


def _text(request: AnyRequest) -> str:
    return ",".join(request.headers.getall("prefer", []))
