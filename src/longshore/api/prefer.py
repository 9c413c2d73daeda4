"""The preferences of a request: `Prefer` (RFC 7240), a list that several field lines may hold (section 2)."""

import re

from longshore.api.service import AnyRequest

MAX_WAIT_SECONDS = 60

SECONDS = re.compile(r"[0-9]{1,9}")


def preferences(request: AnyRequest) -> dict[str, str]:
    """Return the values of the preferences by their name in lower case; of a repeated one the first value."""
    found: dict[str, str] = {}
    for part in ",".join(request.headers.getall("prefer", [])).split(","):
        name, _, value = part.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def preferred_wait(request: AnyRequest) -> int | None:
    """Return the seconds that `wait=…` asks for, at most MAX_WAIT_SECONDS; None without it."""
    seconds = preferences(request).get("wait", "")
    return min(int(seconds), MAX_WAIT_SECONDS) if SECONDS.fullmatch(seconds) else None
