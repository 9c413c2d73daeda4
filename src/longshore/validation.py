"""Violations of a request: `check` converts a JSON value into a struct, or names all its violations."""

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from longshore.errors import ProblemError

# Finding a similar name takes 0.1 ms and more, so its use is bounded for each request.
MAX_SUGGESTED_CHARACTERS = 50
MAX_SUGGESTIONS = 20

EXPECTED = re.compile(
    r"Expected `(?P<types>[^`]+)`"
    r"(?:, got `(?P<given>[^`]+)`| (?:of length )?(?P<sign>[<>]=) (?:(?<=of length .. )(?P<length>\d+)|(?P<bound>.+))"
    r"| matching regex (?P<pattern>.+))"
)
PATTERN = "matching regex"
TYPES = {
    "int": "an integer", "float": "a number", "bool": "a boolean", "str": "a string", "array": "an array",
    "object": "an object", "datetime": "a time with an offset, such as 2026-05-26T12:00:00Z", "uuid": "a UUID",
}  # fmt: skip
PARTS = {"array": "elements", "object": "keys"}
MESSAGES = {
    "Invalid RFC3339 encoded datetime": "expected a time of RFC 3339 with an offset, such as 2026-05-26T12:00:00Z",
    "Expected `datetime` with a timezone component": "expected an offset, such as Z or +02:00",
    "Invalid UUID": "expected a UUID",
    "Integer value out of range": "expected an integer of 64 bits",
}

T = TypeVar("T", bound=msgspec.Struct)


class Violation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One violation: its place (a JSON pointer into the body, or a parameter's name), and what was expected."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ValidationError(ProblemError):
    """A request with violations; carries all that were found."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        count = "one fault" if len(violations) == 1 else f"{len(violations)} faults"
        super().__init__("bad-request", f"The request has {count}.", violations=violations)


def pointer(base: str, key: str | int) -> str:
    """Return the JSON pointer of a member (RFC 6901)."""
    return f"{base}/{str(key).replace('~', '~0').replace('/', '~1')}"


def suggestion(name: str, names: Iterable[str], violations: Sequence[Violation] = ()) -> str:
    """Return `; did you mean …?` where one of `names` is similar, else an empty string.

    `violations`: those found so far; after MAX_SUGGESTIONS there are no further suggestions.
    """
    if len(name) > MAX_SUGGESTED_CHARACTERS or len(violations) >= MAX_SUGGESTIONS:
        return ""
    near = difflib.get_close_matches(name, list(names), 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def with_nul(value: Any, at: str) -> Iterator[str]:
    """Yield the pointers of the strings and keys in a JSON value that PostgreSQL cannot read."""
    stack = [(value, at)]  # recursion could exceed Python's limit
    while stack:
        value, at = stack.pop()
        if isinstance(value, str) and "\x00" in value:
            yield at
        elif isinstance(value, dict):
            yield from (pointer(at, key) for key in value if "\x00" in key)
            stack += [(part, pointer(at, key)) for key, part in value.items()]
        elif isinstance(value, list):
            stack += [(part, pointer(at, number)) for number, part in enumerate(value)]


def check(kind: type[T], value: Any, at: str, violations: list[Violation]) -> T | None:
    """Return a JSON value as a struct; or None, with its violations added to `violations`.

    `at`: the JSON pointer of the value, "" for the whole body.
    """
    if not isinstance(value, dict):
        violations.append(Violation(f"expected an object, got {_named(value)}", at))
        return None
    before = len(violations)
    fields = _fields(kind)
    for key in value:
        if key not in fields:
            violations.append(Violation(f"unknown key{suggestion(key, fields, violations)}", pointer(at, key)))
    values = {}
    for name, field in fields.items():
        if name in value:
            values[field.name] = _check_value(field.type, value[name], pointer(at, name), violations)
        elif field.required:
            violations.append(Violation("is required", pointer(at, name)))
    return kind(**values) if len(violations) == before else None


@cache  # msgspec evaluates the annotations in each call: 15 ms for a segment of 100 rules
def _fields(kind: type[msgspec.Struct]) -> dict[str, FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _check_value(kind: Any, value: Any, at: str, violations: list[Violation]) -> Any:
    struct = _struct_in(kind)
    if struct is not None and value is not None:
        return check(struct, value, at, violations)
    if get_origin(kind) is list and (inner := _struct_in(get_args(kind)[0])):
        if not isinstance(value, list):
            violations.append(Violation(f"expected an array, got {_named(value)}", at))
            return None
        return [check(inner, item, pointer(at, index), violations) for index, item in enumerate(value)]
    if (names := _names(kind)) and value not in names:
        violations.append(Violation(_not_one_of(value, [name for name in names if name is not None]), at))
        return None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        below = "".join(f"/{step}" for step in re.findall(r"[^.\[\]`]+", path))
        words = _pattern_words(kind) if PATTERN in message and not below else None
        violations.append(Violation(f"expected {words}" if words else plain_english(message), at + below))
        return None


def _pattern_words(kind: Any) -> str | None:
    """Return the words for the pattern of a type: the `expected` in the `extra` of its `Meta`; None without any."""
    for part in get_args(kind):
        if isinstance(part, msgspec.Meta) and part.extra and (words := part.extra.get("expected")):
            return str(words)
        if get_origin(part) is Annotated and (inner := _pattern_words(part)):
            return inner
    return None


def plain_english(message: str) -> str:
    """Return a message of msgspec's, such as "Expected `int`, got `str`", in words that need no knowledge of Python."""
    match = EXPECTED.fullmatch(message)
    if match is None:
        return MESSAGES.get(message, message[:1].lower() + message[1:])
    expected = " or ".join(TYPES.get(name, name) for name in match["types"].split(" | "))
    if match["given"]:
        return f"expected {expected}, got {TYPES.get(match['given'], match['given'])}"
    bound = "at least" if match["sign"] == ">=" else "at most"
    if match["bound"]:
        return f"expected {expected} of {bound} {match['bound']}"
    if match["length"]:
        return f"expected {expected} of {bound} {match['length']} {PARTS.get(match['types'], 'characters')}"
    return f"expected {expected} of the pattern {match['pattern']}"


def _names(kind: Any) -> tuple[str | None, ...]:
    """Return the values of a Literal or of an enumeration of strings, and None where it may be that too."""
    if get_origin(kind) in (Union, types.UnionType):
        first, *others = get_args(kind)
        return (*_names(first), None) if others == [types.NoneType] and _names(first) else ()
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(one.value for one in kind)
    return get_args(kind) if get_origin(kind) is Literal else ()


def _not_one_of(value: Any, names: Sequence[str]) -> str:
    if isinstance(value, str) and (hint := suggestion(value, names)):
        return f"{value!r} is not known{hint}"
    return f"expected {' or '.join(map(repr, names))}"


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, msgspec.Struct)), None)


def _named(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
