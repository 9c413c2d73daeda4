"""Errors that hold a part of a secret, as those of a kind's libraries may: they are not to be logged or shown."""

import traceback
from collections.abc import Iterator
from typing import Any

import msgspec

MIN_CHARACTERS = 4  # of a secret; a shorter one is in messages by chance
MAX_CHAIN = 10


def holds_secret(error: BaseException, secret: Any) -> bool:
    """Return whether the message of an error, or of one that it follows from, holds a text of a secret.

    `secret`: the parts of it that are hidden, see `Kind.hidden`.
    """
    texts = [text for text in _texts(msgspec.to_builtins(secret)) if len(text) >= MIN_CHARACTERS]
    return any(text in message or repr(text)[1:-1] in message for message in _messages(error) for text in texts)


def _messages(error: BaseException | None) -> Iterator[str]:
    for _ in range(MAX_CHAIN):
        if error is None:
            return
        yield f"{error} {error!r}"
        error = error.__cause__ or error.__context__


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def raised_at(error: BaseException) -> str:
    """Return the type of an error and where it was raised, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
