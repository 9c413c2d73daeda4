"""The resource `indexes`: the export indexes and their fields."""

import msgspec
from litestar import get
from litestar.params import FromPath

from longshore.api.guard import service_and_caller
from longshore.api.service import AnyRequest
from longshore.api.visibility_checks import visible_catalog
from longshore.errors import NotFoundError
from longshore.exports.catalog import Field, FieldType, Index, fingerprint, shape
from longshore.validation import suggestion


class IndexField(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field of an export index."""

    name: str
    type: FieldType
    description: str
    fields: list["IndexField"] = []
    """The fields of a nested field's objects."""


class ExportIndex(msgspec.Struct, frozen=True):
    """An export index."""

    name: str
    description: str
    time: str | None
    """The field with the time of a row's creation or change; null where there is none, or the credential lacks it."""
    key: list[str]
    """The fields that are unique together within a chain; empty where there are none, or the credential lacks one."""
    schema: str
    """The fingerprint of all its fields, for `target.schema` of an export of all of them."""
    fields: list[IndexField]
    """Fields in the order of a result's columns."""


@get("/indexes")
async def list_indexes(request: AnyRequest) -> list[ExportIndex]:
    """Return the export indexes that the credential may use, with fields and types."""
    service, caller = service_and_caller(request)
    return [_index(name, index) for name, index in visible_catalog(caller, service.catalog).items()]


@get("/indexes/{name:str}")
async def get_index(request: AnyRequest, name: FromPath[str]) -> ExportIndex:
    """Return one export index, with fields and types."""
    service, caller = service_and_caller(request)
    known = visible_catalog(caller, service.catalog)
    if name not in known:
        raise NotFoundError("index-not-found", f"There is no index of this name{suggestion(name, known)}.")
    return _index(name, known[name])


def _index(name: str, index: Index) -> ExportIndex:
    schema = fingerprint(shape(index.fields.items()))
    return ExportIndex(name, index.description, index.time_field, index.key_fields, schema, _fields(index.fields))


def _fields(fields: dict[str, Field]) -> list[IndexField]:
    return [IndexField(name, field.type, field.description, _fields(field.fields)) for name, field in fields.items()]
