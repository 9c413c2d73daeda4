"""One table: its version, its metadata, and the files of a version, each with a signed address."""

import re
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, PathParameter, QueryParameter, RawBody
from litestar.response import Stream

from longshore.api import download_urls
from longshore.api.bodies import BytesResponse
from longshore.api.download_urls import RunFiles
from longshore.api.guard import service_and_caller
from longshore.api.service import AnyRequest
from longshore.database.rows import MAX_BIGINT
from longshore.errors import NotFoundError
from longshore.exports.rights import may_see
from longshore.exports.target import TABLE_NAME
from longshore.sharing import protocol
from longshore.sharing.listing import PAGE_FILES, all_lines, while_valid, with_error_line
from longshore.sharing.protocol import CAPABILITIES, FILE_ID_HASH, LINES, VERSION_HEADER, VersionAnswer
from longshore.sharing.query import MAX_QUERY_BYTES, TableQuery, read_query, time_of
from longshore.sharing.shares import SchemaName, ShareName, refuse_other_schema
from longshore.tasks import shared_tables
from longshore.tasks.shared_tables import TableVersion
from longshore.validation import ValidationError, Violation

NAME = re.compile(TABLE_NAME)

TableName = Annotated[str, PathParameter(description="Name of the table: the `share_as` of a task. Case is ignored.")]
StartingTimestamp = Annotated[
    str | None,
    QueryParameter(name="startingTimestamp", description="The earliest version at this time or later, in ISO 8601."),
]
VersionNumber = Annotated[int | None, QueryParameter(ge=0, le=MAX_BIGINT, description="The version: a run's number.")]
Timestamp = Annotated[str | None, QueryParameter(description="The version of this time, in ISO 8601.")]
CapabilitiesHeader = Annotated[str, HeaderParameter(name=CAPABILITIES, description="Such as `responseformat=parquet`.")]

FileIdHash = Annotated[
    str | None, HeaderParameter(name=FILE_ID_HASH, description="`parquet` or `delta`; both have the same ids of files.")
]


class TablePath(msgspec.Struct, frozen=True):
    """A table, by the names in the path of a request."""

    share: str
    schema: str
    table: str


ONLY_VERSION = {200: ResponseSpec(None, generate_examples=False, description="The version is in the header.")}
VERSION_FIELD = ResponseHeader(name=VERSION_HEADER, documentation_only=True, description="The version: a run's number.")
CAPABILITIES_FIELD = ResponseHeader(name=CAPABILITIES, documentation_only=True, description="The form of the answer.")
FILE_IDS_FIELD = ResponseHeader(name=FILE_ID_HASH, documentation_only=True, description="As asked for.", required=False)


@get(
    "/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}",
    responses=ONLY_VERSION,
    response_headers=[VERSION_FIELD],
)
async def get_table(request: AnyRequest, share: ShareName, schema: SchemaName, table: TableName) -> Response[None]:
    """Return the version of a table in the header `Delta-Table-Version`; the protocol's former request, as HEAD."""
    found = await _version(request, TablePath(share, schema, table))
    return BytesResponse(b"", {VERSION_HEADER: str(found.run)})


@get(
    "/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}/version",
    responses=ONLY_VERSION,
    response_headers=[VERSION_FIELD],
)
async def get_table_version(
    request: AnyRequest,
    share: ShareName,
    schema: SchemaName,
    table: TableName,
    starting_timestamp: StartingTimestamp = None,
) -> Response[None]:
    """Return the version of a table in the header `Delta-Table-Version`; by a time, the earliest one since then."""
    service, caller = service_and_caller(request, allow_unknown=True)
    moment = time_of(starting_timestamp, "startingTimestamp")
    number = (await _version(request, TablePath(share, schema, table))).run
    if moment is not None:
        first = await shared_tables.first_version_from(service.pool, caller.chain, table, moment)
        if first is None:
            raise ValidationError([Violation("lies after the newest version", parameter="startingTimestamp")])
        number = (await _version(request, TablePath(share, schema, table), first)).run
    return BytesResponse(b"", {VERSION_HEADER: str(number)})


@get(
    "/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}/metadata",
    media_type=LINES,
    response_headers=[VERSION_FIELD, CAPABILITIES_FIELD],
)
async def get_table_metadata(  # noqa: PLR0913 (the parameters of the query)
    request: AnyRequest,
    share: ShareName,
    schema: SchemaName,
    table: TableName,
    version: VersionNumber = None,
    timestamp: Timestamp = None,
    capabilities: CapabilitiesHeader = "",
) -> Response[bytes] | Stream:
    """Return two lines of JSON: the protocol, and the schema of the table in a version, by default that of now."""
    moment = time_of(timestamp, "timestamp")
    if version is not None and moment is not None:
        raise ValidationError([Violation("expected either `version` or `timestamp`, got both", parameter="timestamp")])
    found = await _version(request, TablePath(share, schema, table), version, moment)
    wanted = msgspec.structs.replace(protocol.read_capabilities(capabilities), end_action=False)
    answer = VersionAnswer(found, wanted, names_version=version is not None or moment is not None)
    return Response(protocol.lines(answer.head()), headers=_headers(answer), media_type=LINES)


@post(
    "/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}/query",
    status_code=200,
    media_type=LINES,
    response_headers=[VERSION_FIELD, CAPABILITIES_FIELD, FILE_IDS_FIELD],
    opt={"optional_body": True},
    request_max_body_size=MAX_QUERY_BYTES,
)
async def query_table(  # noqa: PLR0913 (the parameters of the query)
    request: AnyRequest,
    share: ShareName,
    schema: SchemaName,
    table: TableName,
    body: Annotated[RawBody, TableQuery],
    capabilities: CapabilitiesHeader = "",
    file_id_hash: FileIdHash = None,
) -> Response[bytes] | Stream:
    """Return the files of a version, by default that of now, as lines of JSON, each with a signed address.

    `limitHint` leaves out files that are not needed for so many rows. Predicates are hints, and are not used. A client
    that reads for longer than the addresses last asks with the `refreshToken` of the last line.
    """
    service, caller = service_and_caller(request, allow_unknown=True)
    query, id_scheme = read_query(body), _id_scheme(file_id_hash)
    found = await _version(request, TablePath(share, schema, table), query.number, query.moment)
    answer = VersionAnswer(found, protocol.read_capabilities(capabilities), query.names_version)
    files = RunFiles(f"run {found.run} of task {found.task}", found.task, found.run, found.location, found.reads)
    signer = None if query.limit_hint == 0 else await download_urls.open_signer(request, files)
    authorization = request.headers.get("authorization")
    lines = while_valid(service.token_auth, authorization, caller, all_lines(service.pool, answer, query, signer))
    headers = {**_headers(answer), **id_scheme}
    if (found.files or 1) > PAGE_FILES:
        return Stream(with_error_line(lines), headers=headers, media_type=LINES)
    return Response(b"".join([part async for part in lines]), headers=headers, media_type=LINES)


@get("/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}/changes")
async def get_table_changes(request: AnyRequest, share: ShareName, schema: SchemaName, table: TableName) -> None:
    """Answer the error of tables without a change data feed: a version has all rows, and no changes."""
    found = await _version(request, TablePath(share, schema, table))
    name = f"{share}.{schema}.{table}"
    message = f"the change data feed is not enabled on table {name}; read version {found.run} as a whole"
    raise ValidationError([Violation(message)])


async def _version(
    request: AnyRequest, path: TablePath, number: int | None = None, moment: datetime | None = None
) -> TableVersion:
    """Return a version of a table that the caller may see. Raises NotFoundError.

    A table whose version of now is hidden has no other version either.
    """
    service, caller = service_and_caller(request, allow_unknown=True)
    refuse_other_schema(path.schema)
    absent = NotFoundError(
        "table-not-found",
        f"There is no table {path.share}.{path.schema}.{path.table}, or no such version of it, "
        "or the token may not see all of it.",
    )
    if not NAME.fullmatch(path.table):
        raise absent
    found = await shared_tables.version(service.pool, caller.chain, path.table)
    shown = found is None or may_see(caller, found.reads, service.catalog)
    if shown and (number is not None or moment is not None):
        found = await shared_tables.version(service.pool, caller.chain, path.table, number, moment)
    if not shown or found is None or not may_see(caller, found.reads, service.catalog):
        raise absent
    return found


def _id_scheme(scheme: str | None) -> dict[str, str]:
    """Return the header field of the scheme of ids that a client asks for; both have the same. Raises ValidationError.

    https://github.com/delta-io/delta-sharing/blob/main/PROTOCOL.md#file-id-hash-header
    """
    if scheme is None:
        return {}
    if scheme.lower() not in ("parquet", "delta"):
        raise ValidationError([Violation("expected parquet or delta", parameter=FILE_ID_HASH)])
    return {FILE_ID_HASH: scheme.lower()}


def _headers(answer: VersionAnswer) -> dict[str, str]:
    return {VERSION_HEADER: str(answer.version.run), CAPABILITIES: answer.capabilities.header}
