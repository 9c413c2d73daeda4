"""One table: its version, its metadata, and the files of a version, each with a signed address."""

import asyncio
import hashlib
import re
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi import ResponseSpec
from litestar.params import HeaderParameter, PathParameter, QueryParameter, RawBody

from longshore.api import addresses
from longshore.api.addresses import RunFiles
from longshore.api.bodies import Encoded
from longshore.api.guard import reader
from longshore.api.service import AnyRequest, Service
from longshore.database.rows import MAX_BIGINT
from longshore.errors import NotFoundError
from longshore.exports.export import TABLE_NAME
from longshore.exports.rights import sees
from longshore.sharing import protocol
from longshore.sharing.protocol import CAPABILITIES, FILE_ID_HASH, LINES, VERSION_HEADER, Capabilities, FileUrl
from longshore.sharing.query import TableQuery, moment_of, read_query
from longshore.sharing.shares import SchemaName, ShareName, refuse_other_schema
from longshore.tasks import shared_tables
from longshore.tasks.shared_tables import TableFile, Version
from longshore.validation import ValidationError, Violation

PAGE = 1000  # files of a statement

NAME = re.compile(TABLE_NAME)

TableName = Annotated[str, PathParameter(description="Name of the table: the `share_as` of a task. Case is ignored.")]
StartingTimestamp = Annotated[
    str | None,
    QueryParameter(name="startingTimestamp", description="The earliest version at this time or later, in ISO 8601."),
]
VersionNumber = Annotated[int | None, QueryParameter(ge=0, le=MAX_BIGINT, description="The version: a run's number.")]
Timestamp = Annotated[str | None, QueryParameter(description="The version of this time, in ISO 8601.")]
Wishes = Annotated[str, HeaderParameter(name=CAPABILITIES, description="Such as `responseformat=parquet`.")]


class Place(msgspec.Struct, frozen=True):
    """The names of a table in a path."""

    share: str
    schema: str
    table: str


ONLY_VERSION = {200: ResponseSpec(None, generate_examples=False, description="The version is in the header.")}
NUMBER = ResponseHeader(name=VERSION_HEADER, documentation_only=True, description="The version: a run's number.")


@get(
    "/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}",
    responses=ONLY_VERSION,
    response_headers=[NUMBER],
)
async def get_table(request: AnyRequest, share: ShareName, schema: SchemaName, table: TableName) -> Response[None]:
    """Return the version of a table in the header `Delta-Table-Version`; the protocol's former request, as HEAD."""
    found = await _version(request, Place(share, schema, table))
    return Encoded(b"", {VERSION_HEADER: str(found.run)})


@get(
    "/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}/version",
    responses=ONLY_VERSION,
    response_headers=[NUMBER],
)
async def get_table_version(
    request: AnyRequest,
    share: ShareName,
    schema: SchemaName,
    table: TableName,
    starting_timestamp: StartingTimestamp = None,
) -> Response[None]:
    """Return the version of a table in the header `Delta-Table-Version`; by a time, the earliest one since then."""
    service, caller = reader(request)
    moment = moment_of(starting_timestamp, "startingTimestamp")
    number = (await _version(request, Place(share, schema, table))).run
    if moment is not None:
        first = await shared_tables.first_version_from(service.pool, caller.chain, table, moment)
        if first is None:
            raise ValidationError([Violation("lies after the newest version", parameter="startingTimestamp")])
        number = (await _version(request, Place(share, schema, table), first)).run
    return Encoded(b"", {VERSION_HEADER: str(number)})


@get(
    "/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}/metadata",
    media_type=LINES,
    response_headers=[NUMBER],
)
async def get_table_metadata(  # noqa: PLR0913 (the parameters of the query)
    request: AnyRequest,
    share: ShareName,
    schema: SchemaName,
    table: TableName,
    version: VersionNumber = None,
    timestamp: Timestamp = None,
    wishes: Wishes = "",
) -> Response[bytes]:
    """Return two lines of JSON: the protocol, and the schema of the table in a version, by default that of now."""
    moment = moment_of(timestamp, "timestamp")
    if version is not None and moment is not None:
        raise ValidationError([Violation("expected either `version` or `timestamp`, got both", parameter="timestamp")])
    found = await _version(request, Place(share, schema, table), version, moment)
    wanted = msgspec.structs.replace(protocol.capabilities(wishes), end_action=False)
    travels = version is not None or moment is not None
    return _answer(found, wanted, protocol.lines(protocol.head(found, wanted, travels=travels)), {})


@post(
    "/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}/query",
    status_code=200,
    media_type=LINES,
    response_headers=[NUMBER],
    opt={"optional_body": True},
)
async def query_table(  # noqa: PLR0913 (the parameters of the query)
    request: AnyRequest,
    share: ShareName,
    schema: SchemaName,
    table: TableName,
    body: Annotated[RawBody, TableQuery],
    wishes: Wishes = "",
) -> Response[bytes]:
    """Return the files of a version, by default that of now, as lines of JSON, each with a signed address.

    `limitHint` leaves out files that are not needed for so many rows. Predicates are hints, and are not used.
    """
    service, _ = reader(request)
    query, headers = read_query(body), _id_scheme(request)
    found = await _version(request, Place(share, schema, table), query.version, query.moment)
    wanted, travels = protocol.capabilities(wishes), query.travels
    files = await _files(service, found, query.limit_hint)
    urls = await _with_urls(request, found, files)

    def written() -> bytes:
        last = [protocol.end_line(urls[0].expires if urls else None)] if wanted.end_action else []
        of_files = (protocol.file_line(found, each, wanted, travels=travels) for each in urls)
        return protocol.lines([*protocol.head(found, wanted, travels=travels), *of_files, *last])

    return _answer(found, wanted, await asyncio.to_thread(written), headers)


@get("/delta-sharing/shares/{share:str}/schemas/{schema:str}/tables/{table:str}/changes")
async def get_table_changes(request: AnyRequest, share: ShareName, schema: SchemaName, table: TableName) -> None:
    """Answer the error of tables without a change data feed: a version has all rows, and no changes."""
    found = await _version(request, Place(share, schema, table))
    said = f"the change data feed is not enabled on table {share}.{schema}.{table}; read version {found.run} as a whole"
    raise ValidationError([Violation(said)])


async def _version(
    request: AnyRequest, place: Place, number: int | None = None, moment: datetime | None = None
) -> Version:
    """Return a version of a table that the caller may see. Raises NotFoundError.

    A table whose version of now is hidden has no other version either.
    """
    service, caller = reader(request)
    refuse_other_schema(place.schema)
    absent = NotFoundError(
        "table-not-found",
        f"There is no table {place.share}.{place.schema}.{place.table}, or no such version of it, "
        "or the token may not see all of it.",
    )
    if not NAME.fullmatch(place.table):
        raise absent
    found = await shared_tables.version(service.pool, caller.chain, place.table)
    shown = found is None or sees(caller, found.reads, service.catalog)
    if shown and (number is not None or moment is not None):
        found = await shared_tables.version(service.pool, caller.chain, place.table, number, moment)
    if not shown or found is None or not sees(caller, found.reads, service.catalog):
        raise absent
    return found


async def _files(service: Service, version: Version, limit: int | None) -> list[TableFile]:
    """Return the files of a version, or as many of the first ones as have `limit` rows."""
    found: list[TableFile] = []
    left = version.rows if limit is None else limit
    while left > 0 or limit is None:
        page = await shared_tables.files(service.pool, version.task, version.run, len(found), PAGE)
        for file in page:
            if limit is not None and left <= 0:
                return found
            found.append(file)
            left -= file.rows
        if len(page) < PAGE:
            return found
    return found


async def _with_urls(request: AnyRequest, version: Version, files: list[TableFile]) -> list[FileUrl]:
    """Return files with their addresses. Raises ProblemError where the result is gone."""
    if not files:
        return []
    folder = version.location.rpartition("/")[0]
    locations = [f"{folder}/{file.path}" for file in files]
    run = RunFiles(
        f"run {version.run} of task {version.task}", version.task, version.run, version.location, version.reads
    )
    found = await addresses.of_files(request, run, locations)
    return [
        FileUrl(file, _id(location, file), url, found.expires)
        for file, location, url in zip(files, locations, found.urls, strict=True)
    ]


def _id(location: str, file: TableFile) -> str:
    """Return the id of a file, the same in every answer: of its place and its bytes."""
    return hashlib.sha256(location.encode() + file.sha256).hexdigest()[:32]


def _id_scheme(request: AnyRequest) -> dict[str, str]:
    """Return the header field of the scheme of ids that a client asks for; both have the same. Raises ValidationError.

    https://github.com/delta-io/delta-sharing/blob/main/PROTOCOL.md#file-id-hash-header
    """
    scheme = request.headers.get(FILE_ID_HASH)
    if scheme is None:
        return {}
    if scheme.lower() not in ("parquet", "delta"):
        raise ValidationError([Violation("expected parquet or delta", parameter=FILE_ID_HASH)])
    return {FILE_ID_HASH: scheme.lower()}


def _answer(version: Version, wanted: Capabilities, body: bytes, headers: dict[str, str]) -> Response[bytes]:
    fields = {VERSION_HEADER: str(version.run), CAPABILITIES: wanted.header}
    return Response(body, headers={**headers, **fields}, media_type=LINES)
