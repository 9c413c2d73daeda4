"""Patterns of the API's schemas mean the same to clients, whose dialect is ECMAScript's."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from longshore import destinations, web
from longshore.api import openapi
from longshore.api.json_schemas import schema_of
from longshore.settings import Settings


class Inner(msgspec.Struct):
    """An object within."""

    code: Annotated[str, Meta(pattern=r"^[a-z]+\Z")]


class Outer(msgspec.Struct):
    """An object."""

    name: Annotated[str, Meta(pattern=r"^[a-z]+\Z")]
    inner: Inner | None = None


def patterns(schema: Any) -> list[str]:
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    own = [schema["pattern"]] if isinstance(schema, dict) and isinstance(schema.get("pattern"), str) else []
    return own + [pattern for part in parts for pattern in patterns(part)]


def test_struct_is_at_the_root_of_its_schema_and_patterns_end_as_clients_read_them() -> None:
    schema = schema_of(Outer)
    assert schema["required"] == ["name"]
    assert schema["properties"]["name"]["pattern"] == "^[a-z]+$"
    assert schema["$defs"]["Inner"]["properties"]["code"]["pattern"] == "^[a-z]+$"


def test_no_schema_has_a_pattern_of_python_alone() -> None:
    kinds = destinations.load(Settings()).values()
    found = patterns([schema_of(part) for kind in kinds for part in (kind.settings, kind.secret)])
    found += patterns(openapi.document(web.build(Settings(database_url="postgresql://nobody@127.0.0.1/x"))))
    assert len(found) > 20
    assert [pattern for pattern in found if re.search(r"\\[AZz]|\(\?[P<!#]", pattern)] == []
