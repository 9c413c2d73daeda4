"""Names of people and of service clients: what they may be like."""

import re

from longshore.errors import LongshoreError

NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?")
EXPECTED = "expected {} of 1 to 200 characters, without spaces around it or control characters"


class NameTakenError(LongshoreError):
    """Another one has this name, in whatever case."""


def violation(name: str, what: str = "a name") -> str | None:
    """What was expected instead of this name, if it is not a good one."""
    return None if NAME.fullmatch(name) else EXPECTED.format(what)
