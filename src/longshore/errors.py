"""The base classes of errors that a user or an operator can act on; each room derives its own."""


class LongshoreError(Exception):
    """An error that a user or an operator can correct; the message says what is wrong and how to correct it."""


class TransientError(LongshoreError):
    """A transient error: another attempt may succeed."""


class OverloadError(LongshoreError):
    """A bound that keeps one from harming others is reached; the message names it."""

    def __init__(self, message: str, seconds: int, *, waited: bool = False) -> None:
        """`seconds`: when to try again. `waited`: whether the request timed out in the queue, not refused at once."""
        super().__init__(message)
        self.seconds = seconds
        self.waited = waited
