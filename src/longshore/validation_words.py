"""The words of violations: messages of msgspec in words that need no knowledge of Python."""

import ast
import re

EXPECTED = re.compile(
    r"Expected `(?P<types>[^`]+)`"
    r"(?:, got `(?P<given>[^`]+)`| of length (?P<end>[<>]=) (?P<length>\d+)| (?P<sign>[<>]=?) (?P<bound>.+)"
    r"| matching regex (?P<pattern>.+)| that's a multiple of (?P<factor>.+))"
)
PATTERN = "matching regex"
TYPES = {
    "int": "an integer", "float": "a number", "decimal": "a number", "bool": "a boolean", "str": "a string",
    "array": "an array", "object": "an object", "uuid": "a UUID",
    "datetime": "a time with an offset, such as 2026-05-26T12:00:00Z",
}  # fmt: skip
PARTS = {"array": "element", "object": "key"}
BOUNDS = {">=": "of at least", "<=": "of at most", ">": "greater than", "<": "less than"}
END = r"\Z"  # of a pattern in Python, whose `$` matches before a line feed, too
MESSAGES = {
    "Invalid RFC3339 encoded datetime": "expected a time of RFC 3339 with an offset, such as 2026-05-26T12:00:00Z",
    "Expected `datetime` with a timezone component": "expected an offset, such as Z or +02:00",
    "Invalid UUID": "expected a UUID",
    "Integer value out of range": "expected an integer of 64 bits",
}


def plain_english(message: str) -> str:
    """Return a message of msgspec's, such as "Expected `int`, got `str`", in words that need no knowledge of Python."""
    match = EXPECTED.fullmatch(message)
    if match is None:
        return MESSAGES.get(message, message[:1].lower() + message[1:])
    names = match["types"].split(" | ")
    expected = " or ".join(TYPES.get(name, name) for name in names if name != "null" or len(names) == 1)
    if match["given"]:
        given = "a number" if match["given"] == "int" else TYPES.get(match["given"], match["given"])
        return f"expected {expected}, got {given}"
    if match["bound"]:
        return f"expected {expected} {BOUNDS[match['sign']]} {match['bound'].removesuffix('.0')}"
    if match["length"]:
        part = PARTS.get(names[0], "character")
        return f"expected {expected} {BOUNDS[match['end']]} {match['length']} {part}{'s' * (match['length'] != '1')}"
    if match["factor"]:
        return f"expected {expected} that is a multiple of {match['factor']}"
    pattern = portable_pattern(ast.literal_eval(match["pattern"]))  # msgspec writes it as Python does
    return f"expected {expected} of the pattern {pattern}"


def portable_pattern(pattern: str) -> str:
    """Return a regular expression in the dialect of ECMAScript, as JSON Schema has them.

    https://json-schema.org/draft/2020-12/json-schema-core#name-regular-expressions
    """
    return f"{pattern.removesuffix(END)}$" if pattern.endswith(END) else pattern
