"""Messages of violations are in the words of JSON, at the place of the violation, and all at once."""

import importlib
import pkgutil
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

import longshore
from longshore.validation import MAX_INVALID_ITEMS, Violation, convert, in_json
from longshore.validation_words import plain_english

Name = Annotated[str, Meta(pattern=r"^[a-z]+\Z")]


class Inner(msgspec.Struct, frozen=True):
    """An object within."""

    name: str


class Body(msgspec.Struct, frozen=True):
    """A body with a key of each kind."""

    text: str = ""
    whole: int | None = None
    share: Annotated[float, Meta(gt=0, lt=1.5)] = 1
    even: Annotated[int, Meta(multiple_of=2)] = 2
    choice: Literal["gzip", "zstd"] | None = None
    described: Annotated[Literal["verify-ca", "verify-full"], Meta(description="A setting.")] = "verify-full"
    mixed: bool | Literal["on_ack"] = False
    words: Annotated[list[str], Meta(max_length=2)] | None = None
    fields: list[str | Inner] | dict[str, list[str]] | None = None
    inner: list[Inner] | None = None
    headers: Annotated[dict[Name, str], Meta(max_length=1)] | None = None


def violations(**body: Any) -> dict[str | None, str]:
    found: list[Violation] = []
    convert(Body, body, "", found)
    return {one.pointer: one.detail for one in found}


READING_ROOMS = tuple(f"longshore.{room}" for room in ("api", "actions", "destinations", "exports.target"))


def requests(above: type[msgspec.Struct] = msgspec.Struct) -> Iterator[type[msgspec.Struct]]:
    """Yield the structs of requests in the loaded modules. Those of Delta Sharing alone may have unknown fields."""
    for kind in above.__subclasses__():
        is_body = kind.__module__.startswith(READING_ROOMS) and kind.__struct_config__.forbid_unknown_fields
        if is_body or kind.__module__.startswith("longshore.sharing"):
            yield kind
        yield from requests(kind)


def patterns_in(schema: object) -> Iterator[str]:
    """Yield the patterns in a schema, as Python has them."""
    if isinstance(schema, dict) and isinstance(pattern := schema.get("pattern"), str):
        yield pattern
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in parts:
        yield from patterns_in(part)


NUMBER = "expected a string, got a number"
CASES: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"text": 5}, {"/text": NUMBER}),
    ({"text": Decimal("5.5")}, {"/text": NUMBER}),
    ({"text": True}, {"/text": "expected a string, got a boolean"}),
    ({"text": None}, {"/text": "expected a string, got null"}),
    ({"whole": "5"}, {"/whole": "expected an integer, got a string"}),
    ({"whole": Decimal("1.50")}, {"/whole": "expected an integer, got 1.50"}),
    ({"share": 0}, {"/share": "expected a number greater than 0"}),
    ({"share": 2}, {"/share": "expected a number less than 1.5"}),
    ({"even": 3}, {"/even": "expected an integer that is a multiple of 2"}),
    ({"choice": "gz"}, {"/choice": '"gz" is not known; did you mean "gzip"?'}),
    ({"choice": 5}, {"/choice": 'expected "gzip" or "zstd"'}),
    ({"described": "verify_full"}, {"/described": '"verify_full" is not known; did you mean "verify-full"?'}),
    ({"mixed": "always"}, {"/mixed": 'expected a boolean or "on_ack"'}),
    ({"words": ["a", 1, "b", None]}, {"/words/1": NUMBER, "/words/3": "expected a string, got null"}),
    ({"words": ["a", "b", "c"]}, {"/words": "expected an array of at most 2 elements"}),
    (
        {"fields": ["a", 5, {"name": 1}]},
        {"/fields/1": "expected a string or an object, got a number", "/fields/2/name": NUMBER},
    ),
    ({"fields": {"users": ["id", 5]}}, {"/fields/users/1": NUMBER}),
    ({"fields": 5}, {"/fields": "expected an object or an array, got a number"}),
    (
        {"inner": [{"name": "a"}, {"nam": "b"}]},
        {"/inner/1/nam": 'unknown key; did you mean "name"?', "/inner/1/name": "is required"},
    ),
    ({"inner": {}}, {"/inner": "expected an array, got an object"}),
    (
        {"headers": {"A b": "x", "c": 5}},
        {"/headers/A b": "expected a string of the pattern ^[a-z]+$", "/headers/c": NUMBER},
    ),
    ({"headers": {"a": "x", "b": "y"}}, {"/headers": "expected an object of at most 1 key"}),
]


@pytest.mark.parametrize(("body", "expected"), CASES)
def test_violation_has_the_words_of_json_and_its_place(body: dict[str, Any], expected: dict[str, str]) -> None:
    assert violations(**body) == expected


def test_array_of_violations_is_answered_with_a_bounded_list() -> None:
    assert len(violations(words=[5] * 10_000)) == MAX_INVALID_ITEMS
    assert len(violations(inner=[5] * 10_000)) == MAX_INVALID_ITEMS


def test_value_is_shown_as_json_writes_it_and_cut_where_it_is_long() -> None:
    assert [in_json(value) for value in ("it's", None, True, Decimal("1.50"))] == ['"it\'s"', "null", "true", "1.50"]
    assert in_json("x" * 1000).endswith("xxx…")


def test_no_message_of_msgspec_is_left_in_its_words() -> None:
    kinds: list[Any] = [
        str, int, float, bool, list[str], dict[str, int], Name, Body, Literal["a"], Literal[1],
        Annotated[int, Meta(ge=5)], Annotated[int, Meta(le=-5)], Annotated[float, Meta(gt=9.5)],
        Annotated[str, Meta(min_length=2)], Annotated[str, Meta(max_length=0)],
        Annotated[list[int], Meta(min_length=3)],
    ]  # fmt: skip
    values: list[Any] = ["x", 5, 1.5, True, None, [], {}, Decimal("1.5"), ["x"], {"x": "y"}]
    message = set()
    for kind in kinds:
        for value in values:
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                message.add(plain_english(str(error).partition(" - at `$")[0]))
    assert len(message) > 20
    assert [text for text in message if "`" in text or "str" in text.split() or "Expected" in text] == []


def test_pattern_of_a_request_ends_where_the_text_ends_and_not_before_a_line_feed() -> None:
    for module in pkgutil.walk_packages(longshore.__path__, "longshore."):
        if not module.name.startswith(("longshore.integrations", "longshore.__main__")):  # which need extras
            importlib.import_module(module.name)
    patterns = {pattern for kind in requests() for pattern in patterns_in(msgspec.json.schema(kind))}
    assert len(patterns) > 15
    assert [pattern for pattern in patterns if not pattern.endswith(r"\Z")] == []
