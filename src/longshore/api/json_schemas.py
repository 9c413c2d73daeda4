"""JSON schemas as clients read them: patterns in the dialect of ECMAScript, and a struct at the root of its schema.

The schemas of the OpenAPI document are made for programs that generate code: a key that may be left out has no
`default`, which generators take for "always there", and a key that every answer has is required.
"""

import ast
import inspect
import itertools
import json
import sys
from collections.abc import Collection, Iterator
from datetime import datetime
from functools import cache
from typing import Any, get_args

import msgspec

from longshore.validation_words import portable_pattern


@cache
def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the JSON schema of a struct, with the struct itself at its root."""
    schema = msgspec.json.schema(kind)
    make_portable(schema)
    definitions = schema.pop("$defs")
    root = definitions.pop(schema.pop("$ref").rpartition("/")[2])
    return {**root, **({"$defs": definitions} if definitions else {})}


def make_portable(schema: dict[str, Any]) -> None:
    """Replace the patterns in a schema by those that mean the same in ECMAScript, as JSON Schema has them."""
    for part in _parts(schema):
        if isinstance(pattern := part.get("pattern"), str):
            part["pattern"] = portable_pattern(pattern)


def structs_in(kinds: Collection[Any]) -> set[type[msgspec.Struct]]:
    """Return the structs in types, and those that they are made of."""
    found = set[type[msgspec.Struct]]()
    rest = list(kinds)
    while rest:
        kind = rest.pop()
        rest += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in found:
            found.add(kind)
            rest += [field.type for field in msgspec.structs.fields(kind)]
    return found


def complete_schema(schema: dict[str, Any], kind: type[msgspec.Struct], *, is_answer: bool) -> None:
    """Complete the schema of a struct in the document, in place. `is_answer`: whether only answers have it."""
    docs = attribute_docs(kind)
    properties = schema.get("properties", {})
    for field in msgspec.structs.fields(kind):
        one = properties[field.encode_name]
        if docs.get(field.name):
            one.setdefault("description", docs[field.name])
        default = one.pop("default", None)
        if default not in (None, "", [], {}) and not is_answer:
            text = f"Default: `{json.dumps(default)}`."
            one["description"] = f"{one['description']} {text}" if "description" in one else text
        if datetime in _types_in(field.type):
            for part in _parts(one):
                if part.get("type") == "string":
                    part.setdefault("format", "date-time")
    if is_answer and not kind.__struct_config__.omit_defaults:
        schema["required"] = list(properties)


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the schemas that a schema is made of, itself first."""
    if isinstance(schema, list):
        for part in schema:
            yield from _parts(part)
    elif isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from _parts(part)


def add_types(schema: dict[str, Any]) -> None:
    """Say what generators do not take for granted: any keys of an object, any items of an array, texts of an enum."""
    for part in _parts(schema):
        kind = part.get("type")
        if kind == "object" and not {"properties", "additionalProperties", "anyOf"} & set(part):
            part["additionalProperties"] = True
        elif kind == "array":
            part.setdefault("items", {})
        elif isinstance(names := part.get("enum"), list) and all(isinstance(name, str) for name in names):
            part["type"] = "string"


def _types_in(kind: Any) -> Iterator[Any]:
    """Yield a type and the types that it is made of."""
    yield kind
    for part in get_args(kind):
        yield from _types_in(part)


def attribute_docs(kind: type) -> dict[str, str]:
    """Return the docstrings of a class's attributes, those that it inherits included, by their names."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if one.__module__.partition(".")[0] != "builtins" and issubclass(one, msgspec.Struct):
            found |= _docs_of_module(one.__module__).get(one.__name__, {})
    return found


@cache
def _docs_of_module(name: str) -> dict[str, dict[str, str]]:
    """Return the docstrings of the attributes of each class in a module; none where its source is not there."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, TypeError):
        return {}
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = dict(_docs_of_class(node))
    return found


def _docs_of_class(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for attribute, text in itertools.pairwise(node.body):
        match attribute, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                yield name, inspect.cleandoc(doc).replace("\n", " ")
