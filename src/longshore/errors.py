"""The root of the errors that a user or an operator can act on; each room derives its own."""


class LongshoreError(Exception):
    """Something that whoever started this can mend; the message is a sentence that says what and how."""


class TransientError(LongshoreError):
    """What kept a run from its end may pass by itself: another attempt may do better."""


class OverloadError(LongshoreError):
    """A bound that keeps one from harming others is reached; the message names it."""

    def __init__(self, message: str, seconds: int, *, waited: bool = False) -> None:
        """`seconds`: when to try again. `waited`: whether the request waited in vain rather than being one too many."""
        super().__init__(message)
        self.seconds = seconds
        self.waited = waited
