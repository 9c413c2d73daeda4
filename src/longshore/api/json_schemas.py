"""JSON schemas as clients read them: patterns in the dialect of ECMAScript, and a struct at the root of its schema."""

from functools import cache
from typing import Any

import msgspec

# How a pattern says "the end" to Python, whose `$` matches before a line feed, too.
ENDS = (r"\Z", r"$(?!\n)")


@cache
def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON schema of a struct, with the struct itself at its root."""
    schema: dict[str, Any] = portable(msgspec.json.schema(kind))
    definitions = schema.pop("$defs")
    root = definitions.pop(schema.pop("$ref").rpartition("/")[2])
    return {**root, **({"$defs": definitions} if definitions else {})}


def portable(schema: Any) -> Any:
    """Return a schema with patterns that mean the same in ECMAScript, as JSON Schema has them.

    https://json-schema.org/draft/2020-12/json-schema-core#name-regular-expressions
    """
    if isinstance(schema, list):
        return [portable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: portable(part) for key, part in schema.items()}
    if isinstance(pattern := found.get("pattern"), str):
        for end in ENDS:
            if pattern.endswith(end):
                found["pattern"] = f"{pattern.removesuffix(end)}$"
    return found
