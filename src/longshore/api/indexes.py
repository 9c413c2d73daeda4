"""The resource `indexes`: what can be exported, and what the fields of each hold."""

import msgspec
from litestar import get

from longshore.access.tokens import Level
from longshore.api.access import SECURITY, AnyRequest, admitted
from longshore.api.documentation import problems
from longshore.api.problems import ProblemError
from longshore.exports.catalog import Field, FieldType, Index, fingerprint, shape
from longshore.faults import suggestion


class IndexField(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field of an export index."""

    name: str
    type: FieldType
    description: str
    fields: list["IndexField"] = []
    """Of a nested field: the fields of the objects inside."""


class ExportIndex(msgspec.Struct, frozen=True):
    """A data set that can be exported."""

    name: str
    description: str
    time: str
    """The field that tells when a row came to be or changed."""
    schema: str
    """The fingerprint of all its fields, for `target.schema` of an export of all of them."""
    fields: list[IndexField]
    """In the order in which they are written."""


@get("/indexes", opt={"level": Level.READ}, security=SECURITY, responses=problems(400))
async def list_indexes(request: AnyRequest) -> list[ExportIndex]:
    """What can be exported, with the fields and their types."""
    service, _ = admitted(request)
    return [_index(name, index) for name, index in service.catalog.items()]


@get("/indexes/{name:str}", opt={"level": Level.READ}, security=SECURITY, responses=problems(400, 404))
async def get_index(request: AnyRequest, name: str) -> ExportIndex:
    """One export index, with its fields and their types."""
    service, _ = admitted(request)
    if name not in service.catalog:
        hint = suggestion(name, service.catalog)
        raise ProblemError("index-not-found", f"There is no index of this name{hint}.")
    return _index(name, service.catalog[name])


def _index(name: str, index: Index) -> ExportIndex:
    schema = fingerprint(shape(index.fields.items()))
    return ExportIndex(name, index.description, index.time, schema, _fields(index.fields))


def _fields(fields: dict[str, Field]) -> list[IndexField]:
    return [IndexField(name, field.type, field.description, _fields(field.fields)) for name, field in fields.items()]
