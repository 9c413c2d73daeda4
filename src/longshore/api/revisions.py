"""Revisions of tasks in HTTP: `ETag`, `If-None-Match`, `Prefer: wait` and `Retry-After`.

A task's entity tag is strong, `"<id>-<revision>"`: all that the task object shows changes with the revision only. Pages
of the log are representations of other addresses, which may have the same tag (RFC 9110, 8.8.3).
"""

import math
import re

from longshore.tasks.model import Code
from longshore.tasks.read import Reading

LONGEST_WAIT = 60  # seconds
LEAST_PAUSE, MOST_PAUSE = 1, 30  # seconds between two polls
PAUSE = 2  # seconds, where nothing tells how long it will take

TAG = re.compile(r'(?:W/)?"(\d{1,19})-(\d{1,18})"')
PREFER_WAIT = re.compile(r'(?:^|[,\s])wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;\s])', re.IGNORECASE)


def tag(id: int, revision: int) -> str:
    """The entity tag of a task at a revision."""
    return f'"{id}-{revision}"'


def known(if_none_match: str, id: int) -> tuple[int, ...]:
    """The revisions of the task that an `If-None-Match` names; compared weakly, as RFC 9110, 13.1.2, wants it."""
    return tuple(int(revision) for task, revision in TAG.findall(if_none_match) if int(task) == id)


def preferred_wait(prefer: str) -> int | None:
    """The seconds that `Prefer: wait=…` (RFC 7240) asks for, at most LONGEST_WAIT; None where it does not."""
    match = PREFER_WAIT.search(prefer)
    return min(int(match[1]), LONGEST_WAIT) if match else None


def headers(id: int, reading: Reading) -> dict[str, str]:
    """What every answer with a task, and every 304 instead of one, says of it."""
    found = {"ETag": tag(id, reading.revision), "Cache-Control": "private, no-cache"}
    if reading.code in (Code.READY, Code.INPROGRESS):
        found["Retry-After"] = str(next_poll(reading.seconds_left))
    return found


def next_poll(seconds_left: float | None) -> int:
    """When to poll again, in seconds: when it should be over, within bounds."""
    if seconds_left is None or not math.isfinite(seconds_left):
        return PAUSE
    return math.ceil(min(max(seconds_left, LEAST_PAUSE), MOST_PAUSE))
