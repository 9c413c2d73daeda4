"""Fields of a target whose values are secrets: taken out of it before it is stored, and put back for a run."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from longshore.errors import LongshoreError
from longshore.tasks.task_secrets import Secrets
from longshore.validation import Violation, pointer

GivenSecrets = Mapping[str, Mapping[str, str | None]]
"""Secrets of a body; null keeps the value that is stored."""

T = TypeVar("T", bound=msgspec.Struct)


def without_secrets(fields: Sequence[str], target: T) -> tuple[T, GivenSecrets]:
    """Return a target with null in place of its secrets, and these."""
    given = {name: dict(values) for name in fields if (values := getattr(target, name))}
    shown: dict[str, Any] = {name: dict.fromkeys(values) for name, values in given.items()}
    return msgspec.structs.replace(target, **shown), given


def with_secrets(fields: Sequence[str], target: T, secrets: Secrets) -> T:
    """Return a stored target with its secrets in their places. Raises LongshoreError where one is missing."""
    whole: dict[str, Any] = {}
    for field in fields:
        stored = secrets.get(field, {})
        names = getattr(target, field)
        if missing := [name for name in names if name not in stored]:
            raise LongshoreError(f"the value of {missing[0]!r} in {field} is not stored: change the task to set it")
        whole[field] = {name: stored[name] for name in names}
    return msgspec.structs.replace(target, **whole)


def merged(given: GivenSecrets, stored: Secrets, *, moved: bool) -> tuple[Secrets, list[Violation]]:
    """Return the secrets of a body with those that it keeps, and its violations, with pointers into the target.

    `moved`: whether the target sends its secrets elsewhere than the one that was stored.
    """
    violations: list[Violation] = []
    secrets: dict[str, dict[str, str]] = {}
    for field, values in given.items():
        secrets[field] = {}
        for name, value in values.items():
            kept = stored.get(field, {}).get(name)
            if value is not None:
                secrets[field][name] = value
            elif kept is None:
                violations.append(Violation("expected a string, as no value is stored", pointer(f"/{field}", name)))
            elif moved:
                because = "is required, because the target would send it elsewhere than before"
                violations.append(Violation(because, pointer(f"/{field}", name)))
            else:
                secrets[field][name] = kept
    return secrets, violations
