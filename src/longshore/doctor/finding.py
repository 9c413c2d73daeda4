"""The answer to one question about an installation."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """The answer to one question about an installation; `what` names the remedy where something is wrong."""

    area: str
    what: str
    level: str = "ok"
    """`ok`, `warning`, or `wrong`."""


def wrong(area: str, what: str) -> Finding:
    """A finding that has to be mended."""
    return Finding(area, what, "wrong")


def first_line(error: BaseException) -> str:
    """The message of an error as a part of a finding, which is one line."""
    return (str(error) or type(error).__name__).splitlines()[0]
