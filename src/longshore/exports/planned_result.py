"""The result that an attempt of an export is to write."""

import msgspec

from longshore.exports.signatures import SigningKey
from longshore.tasks.attempts import Attempt


class PlannedResult(msgspec.Struct, frozen=True):
    """The name and the place of an attempt's result."""

    attempt: Attempt
    name: str
    location: str
    previous: str | None
    """Hash of the manifest of the task's last run that left a result; None for the first one."""
    key: SigningKey
    """The key that its manifest is signed with."""
