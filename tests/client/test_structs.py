"""The client's structs have the fields of the service's answers, as the OpenAPI document of the service names them."""

import inspect

import msgspec
import pytest

from longshore.api.openapi import document
from longshore.cli.login import Credential
from longshore.client import api_types, destinations, model, shares, webhooks
from longshore.settings import Settings
from longshore.web import build

OTHER_NAMES = {
    "CsvDialect": "CsvOptions",
    "Delivery": "RunDelivery",
    "DestinationStep": "Step",
    "Field": "IndexField",
    "Index": "ExportIndex",
    "SegmentRule": "Rule",
    "ShareProfile": "Profile",
    "SharedTables": "Items",
    "TaskData": "Task",
}
"""The names of schemas that differ from those of the client."""
WITHOUT_SCHEMA = {"SharedTable"}
"""Entries of lists of the Delta Sharing protocol, whose schema is any object."""


def structs() -> list[type]:
    """The public structs and typed dictionaries of the client that are bodies of requests or answers."""
    return [
        each
        for module in (api_types, destinations, model, shares, webhooks)
        for name, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and not name.startswith("_") and name not in WITHOUT_SCHEMA
    ] + [Credential]


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = document(build(Settings()))["components"]["schemas"]
    return found


@pytest.mark.parametrize("struct", structs(), ids=lambda struct: struct.__name__)
def test_struct_of_the_client_has_all_fields_of_the_schema_of_the_service(
    struct: type, schemas: dict[str, dict[str, dict[str, object]]]
) -> None:
    schema = schemas[OTHER_NAMES.get(struct.__name__, struct.__name__)]
    if issubclass(struct, msgspec.Struct):
        fields = {field.encode_name for field in msgspec.structs.fields(struct)}
    else:
        fields = set(inspect.get_annotations(struct))
    assert fields == set(schema["properties"])
