"""Findings of the checks of an installation: of `longshore doctor` and `longshore catalog check`."""

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """The finding of one check."""

    where: str
    """The part that was checked, such as `database`, or an index or its field, such as `users.email`."""
    what: str
    """One line; if something is wrong, with the remedy."""
    level: Literal["ok", "warning", "wrong"] = "wrong"
    """`warning`: it works, but slowly or with a risk."""
