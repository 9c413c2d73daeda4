"""Violations of a request: `convert` converts a JSON value into a struct, or names all its violations."""

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
from longshore.validation_words import PATTERN, TYPES, plain_english

# Finding a similar name takes 0.1 ms and more, so its use is bounded for each request.
MAX_SUGGESTED_CHARACTERS = 50
MAX_SUGGESTIONS = 20

# Of a list and of a request, so that a body of 64 KiB gets no answer of megabytes.
MAX_INVALID_ITEMS = 100
MAX_VIOLATIONS = 200
MAX_SHOWN_CHARACTERS = 100

WRONG_LENGTH = re.compile(r"Expected `array` of length [<>]= \d+$")
UNIONS = (Union, types.UnionType)

SHOWN = msgspec.json.Encoder(decimal_format="number")

T = TypeVar("T", bound=msgspec.Struct)


class Violation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One violation: its place (a JSON pointer into the body, or a parameter's name), and what was expected."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ValidationError(ProblemError):
    """A request with violations; carries the first MAX_VIOLATIONS that were found."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        count = "one violation" if len(violations) == 1 else f"{len(violations)} violations"
        cut = f"; `errors` has the first {MAX_VIOLATIONS}" if len(violations) > MAX_VIOLATIONS else ""
        super().__init__("bad-request", f"The request has {count}{cut}.", violations=violations[:MAX_VIOLATIONS])


def pointer(base: str, key: str | int) -> str:
    """Return the JSON pointer of a member (RFC 6901)."""
    return f"{base}/{str(key).replace('~', '~0').replace('/', '~1')}"


def suggestion(name: str, names: Iterable[str], violations: Sequence[Violation] = ()) -> str:
    """Return `; did you mean …?`, to be added to a message, where one of `names` is similar; else an empty string.

    `violations`: those found so far; after MAX_SUGGESTIONS there are no further suggestions.
    """
    if len(name) > MAX_SUGGESTED_CHARACTERS or len(violations) >= MAX_SUGGESTIONS:
        return ""
    near = difflib.get_close_matches(name, list(names), 1, 0.6)
    return f"; did you mean {in_json(near[0])}?" if near else ""


def in_json(value: Any) -> str:
    """Return a value as JSON writes it, for a message: `"wallet"`, `null`, `1.5`; cut where it is long."""
    return shortened(SHOWN.encode(value).decode())


def shortened(text: str, characters: int = MAX_SHOWN_CHARACTERS) -> str:
    """Return a text for a message or a page: its first characters, where it has more."""
    return text if len(text) <= characters else f"{text[:characters]}…"


def nul_pointers(value: Any, at: str) -> Iterator[str]:
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


def check_nuls(value: Any, at: str, violations: list[Violation]) -> None:
    """Add a violation for each string and key in a JSON value with U+0000, which PostgreSQL does not take.

    A place that has a violation gets no second one. `at`: the JSON pointer of the value.
    """
    named = {violation.pointer for violation in violations}
    nuls = [each for each in nul_pointers(value, at) if each not in named]
    violations += [Violation("expected a string without U+0000", each) for each in nuls]


def convert(kind: type[T], value: Any, at: str, violations: list[Violation]) -> T | None:
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
            values[field.name] = _convert_value(field.type, value[name], pointer(at, name), violations)
        elif field.required:
            violations.append(Violation("is required", pointer(at, name)))
    return kind(**values) if len(violations) == before else None


@cache  # msgspec evaluates the annotations in each call: 15 ms for a segment of 100 rules
def _fields(kind: type[msgspec.Struct]) -> dict[str, FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _convert_value(kind: Any, value: Any, at: str, violations: list[Violation]) -> Any:
    options = _options(kind)
    struct = _struct_in(options)
    if struct is not None and (isinstance(value, dict) or (value is not None and _are_one(options))):
        return convert(struct, value, at, violations)
    if (
        value is not None
        and _are_one(options)
        and (inner := _items_of(options, list))
        and _struct_in(_options(inner[0]))
    ):
        try:
            msgspec.convert(value, kind)  # for its length: `_convert_structs` names what is wrong within it
        except msgspec.ValidationError as error:
            if WRONG_LENGTH.match(str(error)):
                violations.append(Violation(_message(str(error), kind, value), at))
                return None
        return _convert_structs(inner[0], value, at, violations)
    if (names := _names(kind)) and value not in names:
        violations.append(Violation(_not_one_of(value, [name for name in names if name is not None]), at))
        return None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        before = len(violations)
        _check_items(options, value, at, violations)
        if len(violations) == before:
            violations.append(Violation(_message(str(error), kind, value), at))
        return None


def _convert_structs(inner: Any, value: Any, at: str, violations: list[Violation]) -> list[Any] | None:
    """Return a JSON value as a list of structs; or None, with its violations added to `violations`."""
    if not isinstance(value, list):
        violations.append(Violation(f"expected an array, got {_named(value)}", at))
        return None
    items: list[Any] = []
    invalid = 0
    for index, item in enumerate(value):
        before = len(violations)
        items.append(_convert_value(inner, item, pointer(at, index), violations))
        invalid += len(violations) > before
        if invalid == MAX_INVALID_ITEMS:
            return None
    return items


def _check_items(options: Sequence[Any], value: Any, at: str, violations: list[Violation]) -> None:
    """Add the violations of the parts of an array or object, each at its own place."""
    if not isinstance(value, list | dict) or not (inner := _items_of(options, type(value))):
        return
    invalid = 0
    for key, item in _maybe_invalid(value, inner[0]) if isinstance(value, list) else value.items():
        before = len(violations)
        if isinstance(key, str):  # of an object: a name may be restricted too
            _convert_value(inner[0], key, pointer(at, key), violations)
        _convert_value(inner[-1], item, pointer(at, key), violations)
        invalid += len(violations) > before
        if invalid == MAX_INVALID_ITEMS:
            return


def _maybe_invalid(items: list[Any], kind: Any) -> Iterator[tuple[int, Any]]:
    """Yield index and value of the elements that may be invalid: to convert many of the type at once takes no time."""
    for start in range(0, len(items), MAX_INVALID_ITEMS):
        some = items[start : start + MAX_INVALID_ITEMS]
        try:
            msgspec.convert(some, list[kind])
        except msgspec.ValidationError:
            yield from enumerate(some, start)


def _message(message: str, kind: Any, value: Any) -> str:
    """Return a message of msgspec's about a whole value in plain English."""
    if message.startswith("Invalid enum value"):
        return f"expected {_alternatives(kind)}"
    words = _pattern_words(kind) if PATTERN in message else None
    text = f"expected {words}" if words else plain_english(message)
    # A number can only be wrong as a number where an integer is expected.
    return text.replace("got a number", f"got {in_json(value)}") if "an integer" in text else text


def _pattern_words(kind: Any) -> str | None:
    """Return the words for the pattern of a type: the `expected` in the `extra` of its `Meta`; None without any."""
    for part in get_args(kind):
        if isinstance(part, msgspec.Meta) and part.extra and (words := part.extra.get("expected")):
            return str(words)
        if get_origin(part) is Annotated and (inner := _pattern_words(part)):
            return inner
    return None


@cache  # as `_fields`
def _names(kind: Any) -> tuple[str | None, ...]:
    """Return the values of a Literal or of an enumeration of strings, and None where it may be that too."""
    if get_origin(kind) is Annotated:
        return _names(get_args(kind)[0])
    if get_origin(kind) in UNIONS:
        first, *others = get_args(kind)
        return (*_names(first), None) if others == [types.NoneType] and _names(first) else ()
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(one.value for one in kind)
    return get_args(kind) if get_origin(kind) is Literal else ()


def _not_one_of(value: Any, names: Sequence[str]) -> str:
    if isinstance(value, str) and (hint := suggestion(value, names)):
        return f"{in_json(value)} is not known{hint}"
    return f"expected {' or '.join(map(in_json, names))}"


def _alternatives(kind: Any) -> str:
    """Return the values that a type with a Literal allows, in words: `a boolean or "on_ack"`."""
    words = []
    for option in _options(kind):
        words += [in_json(name) for name in _names(option)] or [TYPES.get(getattr(option, "__name__", ""), "null")]
    return " or ".join(words)


@cache  # as `_fields`
def _options(kind: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type, without what `Annotated` adds."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in UNIONS:
        return tuple(option for one in get_args(kind) for option in _options(one))
    return (kind,)


@cache  # as `_fields`
def _are_one(options: tuple[Any, ...]) -> bool:
    """Whether there is one type beside null."""
    return len([option for option in options if option is not types.NoneType]) == 1


def _items_of(options: Sequence[Any], kind: type) -> tuple[Any, ...]:
    """Return the types within the `list` or `dict` among types: of its items, or of its keys and values."""
    return next((get_args(option) for option in options if get_origin(option) is kind), ())


@cache  # as `_fields`
def _struct_in(options: tuple[Any, ...]) -> type[msgspec.Struct] | None:
    return next((o for o in options if isinstance(o, type) and issubclass(o, msgspec.Struct)), None)


def _named(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
