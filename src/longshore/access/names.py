"""Names of users and service clients."""

import re

NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?")
EXPECTED = "expected {} of 1 to 200 characters, without spaces around it or control characters"


def violation(name: str, what: str = "a name") -> str | None:
    """Return what was expected instead of this name; None if the name is valid."""
    return None if NAME.fullmatch(name) else EXPECTED.format(what)
