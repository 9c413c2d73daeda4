"""The root of the errors that a user or an operator can act on; each room derives its own."""


class LongshoreError(Exception):
    """Something that whoever started this can mend; the message is a sentence that says what and how."""


class PassingError(LongshoreError):
    """What kept a run from its end may pass by itself: another attempt may do better."""
