"""The finding of one check."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """The finding of one check; if something is wrong, `what` has the remedy."""

    area: str
    what: str
    level: str = "ok"
    """`ok`, `warning`, or `wrong`."""


def wrong(area: str, what: str) -> Finding:
    """Return a finding of the level `wrong`."""
    return Finding(area, what, "wrong")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, as a finding is one line."""
    return (str(error) or type(error).__name__).splitlines()[0]
