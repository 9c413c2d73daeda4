"""The roots of the errors that a user or an operator can act on. Each room derives its own.

    LongshoreError         someone can act on it; the message says how
    ├── TransientError     another attempt may succeed
    └── ProblemError       a request is refused with a problem; carries its kind
        ├── NotFoundError  the chain has no such thing
        └── OverloadError  a bound that protects others is reached

A class of its own derives from ProblemError only where code catches it by name.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class LongshoreError(Exception):
    """An error that a user or operator can act on; the message is a sentence that says what is wrong and what to do."""


class TransientError(LongshoreError):
    """An error that may go away by itself, so that another attempt may succeed."""


class ProblemError(LongshoreError):
    """A request is refused; `api.problems` answers it with the problem of this kind.

    `kind`: a key of `api.problem_kinds.KINDS`, which has its status. `detail`: a sentence about this request; without
    it the kind's own. `headers`: of the answer. `violations`: the answer's `errors`, see `validation.Violation`.
    """

    def __init__(
        self, kind: str, detail: str = "", headers: Mapping[str, str] | None = None, violations: Sequence[Any] = ()
    ) -> None:
        super().__init__(detail or kind)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.violations = list(violations)


class NotFoundError(ProblemError):
    """The chain has no such thing, which is also the answer for a thing of another chain (promise 5)."""


class OverloadError(ProblemError):
    """A bound that protects others is reached; the message names it."""

    def __init__(self, message: str, seconds: int, *, waited: bool = False) -> None:
        """`seconds`: when to try again. `waited`: whether it waited and got no turn, or was refused at once."""
        super().__init__("overloaded" if waited else "too-many-requests", message, {"Retry-After": str(seconds)})
        self.seconds = seconds
        self.waited = waited


def first_line(error: BaseException) -> str:
    """Return the message of an error without its further lines, such as PostgreSQL's DETAIL and HINT."""
    return (str(error) or type(error).__name__).splitlines()[0]
