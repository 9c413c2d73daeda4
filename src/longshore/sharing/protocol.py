"""The messages of the protocol: items of lists, and the lines of a table's metadata and files, in both formats.

The format `parquet` describes files; `delta` has the actions of a Delta Lake log, which clients write to a log of their
own. Tables have no advanced features, so a client that takes both gets `parquet`.
"""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

import msgspec

from longshore.tasks.shared_tables import Table, TableFile, TableVersion

CAPABILITIES = "delta-sharing-capabilities"
FILE_ID_HASH = "fileidhash"
VERSION_HEADER = "Delta-Table-Version"
LINES = "application/x-ndjson; charset=utf-8"
JSON = "application/json; charset=utf-8"
ACCESS_MODES = ["url"]

TABLE_NAMESPACE = uuid.UUID("5d4bb6a1-6e8f-4f5c-9a52-3f1d6d0f6a10")
"""The namespace of the ids of tables."""

Format = Literal["parquet", "delta"]


class Share(msgspec.Struct, frozen=True):
    """A share: a chain in the scope of the token."""

    name: str
    """Number of the chain."""


class Schema(msgspec.Struct, frozen=True):
    """The schema of a share."""

    name: str
    share: str


class ListedTable(msgspec.Struct, frozen=True, rename="camel"):
    """A table of a share."""

    name: str
    schema: str
    share: str
    id: str
    access_modes: list[str]


class Capabilities(msgspec.Struct, frozen=True):
    """The form of an answer that a client asks for."""

    format: Format
    end_action: bool
    """Whether the last line is to be an action that ends the answer."""

    @property
    def header(self) -> str:
        """Return the header field with the capabilities of the answer."""
        return f"responseformat={self.format}" + (";includeendstreamaction=true" if self.end_action else "")


def read_capabilities(header: str) -> Capabilities:
    """Return the capabilities in a header field, such as `responseformat=delta,parquet;includeendstreamaction=true`."""
    found: dict[str, set[str]] = {}
    for part in header.lower().split(";"):
        key, _, values = part.partition("=")
        found[key.strip()] = {value.strip() for value in values.split(",")}
    formats = found.get("responseformat", set())
    only_delta = "delta" in formats and "parquet" not in formats
    return Capabilities("delta" if only_delta else "parquet", "true" in found.get("includeendstreamaction", ()))


def table_id(table: Table | TableVersion) -> str:
    """Return the id of a table: another one where a task of the same name replaced it."""
    return str(uuid.uuid5(TABLE_NAMESPACE, f"{table.task} {table.created.isoformat()}"))


def error_line(message: str) -> dict[str, Any]:
    """Return the line that ends an answer with an error."""
    return {"endStreamAction": {"errorMessage": message}}


def lines(values: Iterable[Any]) -> bytes:
    """Return values as lines of JSON."""
    return msgspec.json.Encoder().encode_lines(values)


class VersionAnswer(msgspec.Struct, frozen=True):
    """The answer about a version of a table, by its lines."""

    version: TableVersion
    capabilities: Capabilities
    names_version: bool
    """Whether the request names the version."""

    def head(self) -> list[dict[str, Any]]:
        """Return the first two lines."""
        version = self.version
        sizes = {"size": version.size, "numFiles": version.files or 1, "accessModes": ACCESS_MODES}
        sizes |= {"version": version.run} if self.names_version else {}
        about: dict[str, Any] = {
            "id": table_id(version),
            "name": version.name,
            "description": version.description,
            "format": {"provider": "parquet"},
            "schemaString": version.schema,
            # Partitions are folders; the columns that they are made of stay in the files.
            "partitionColumns": [],
            "configuration": {},
        }
        if self.capabilities.format == "parquet":
            return [{"protocol": {"minReaderVersion": 1}}, {"metaData": {**about, **sizes}}]
        about |= {"format": {"provider": "parquet", "options": {}}, "createdTime": _milliseconds(version.created)}
        return [
            {"protocol": {"deltaProtocol": {"minReaderVersion": 1, "minWriterVersion": 2}}},
            {"metaData": {"deltaMetadata": about, **sizes}},
        ]

    def file(self, file: TableFile, id: str, url: str, expires: int) -> dict[str, Any]:
        """Return the line of a file. `expires`: when its address does, in seconds since 1970."""
        timestamp = _milliseconds(self.version.ended)
        about: dict[str, Any] = {"size": file.size, "id": id, "expirationTimestamp": expires * 1000}
        about |= {"version": self.version.run, "timestamp": timestamp} if self.names_version else {}
        stats = {"stats": file.stats} if file.stats is not None else {}
        if self.capabilities.format == "parquet":
            return {"file": {"url": url, "partitionValues": {}, **about, **stats}}
        add = {"path": url, "partitionValues": {}, "size": file.size, "modificationTime": timestamp, "dataChange": True}
        return {"file": {**about, "deltaSingleAction": {"add": {**add, **stats}}}}

    def end(self, expires: int | None, *, refreshes: bool) -> dict[str, Any]:
        """Return the line that ends the answer.

        `expires`: when its first address does, in seconds since 1970. `refreshes`: whether it has a token, by which the
        client gets new addresses of the same files: the number of the version.
        """
        about: dict[str, Any] = {} if expires is None else {"minUrlExpirationTimestamp": expires * 1000}
        return {"endStreamAction": about | ({"refreshToken": str(self.version.run)} if refreshes else {})}


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
