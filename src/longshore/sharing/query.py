"""The body of a request for a table's files, and times as the protocol writes them."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from longshore.database.rows import MAX_BIGINT
from longshore.tasks.schedule import bounds_violation
from longshore.validation import ValidationError, Violation, convert

MAX_INT32 = 2**31 - 1
MAX_QUERY_BYTES = 1024 * 1024  # hints list values: Spark turns a join with a small table into thousands of them


class TableQuery(msgspec.Struct, frozen=True, rename="camel"):
    """The files that a client wants of a table. Keys that are not here are ignored."""

    predicate_hints: list[str] | None = None
    """Conditions in SQL. Not read: every file of the version is answered."""
    json_predicate_hints: str | None = None
    """A condition in JSON. Not read."""
    limit_hint: Annotated[int, Meta(ge=0, le=MAX_INT32)] | None = None
    """Rows that the client needs; files beyond them are left out."""
    version: Annotated[int, Meta(ge=0, le=MAX_BIGINT)] | None = None
    """The version: a run's number."""
    timestamp: str | None = None
    """The version of this time, in ISO 8601."""
    starting_version: int | None = None
    """Not supported: a table has no change data feed."""
    ending_version: int | None = None
    include_refresh_token: bool | None = None
    """Whether the last line is to have a `refreshToken`."""
    refresh_token: Annotated[str, Meta(pattern=r"^[0-9]{1,18}\Z")] | None = None
    """That of an earlier answer: the same files, with new addresses, even if there is a newer version."""

    @property
    def moment(self) -> datetime | None:
        """Return the time whose version is wanted. Raises ValidationError."""
        return time_of(self.timestamp, "timestamp")

    @property
    def names_version(self) -> bool:
        """Return whether the query names a version."""
        return self.version is not None or self.timestamp is not None

    @property
    def number(self) -> int | None:
        """Return the version that the query is for, by number; a refresh token is the number of one."""
        return self.version if self.refresh_token is None else int(self.refresh_token)


# Hints are not even decoded: they may have 1 MiB, and a server may skip what it does not understand.
KEYS = {field.encode_name for field in msgspec.structs.fields(TableQuery)} - {"predicateHints", "jsonPredicateHints"}


def read_query(body: bytes) -> TableQuery:
    """Return the query of a body; an empty one asks for all files. Raises ValidationError."""
    try:
        value = _members(body.strip() or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValidationError([Violation(f"expected JSON: {error}", "")]) from None
    violations: list[Violation] = []
    query = convert(TableQuery, value, "", violations)
    if query is None:
        raise ValidationError(violations)
    if query.version is not None and query.timestamp is not None:
        violations.append(Violation("expected either `version` or `timestamp`, got both", parameter="timestamp"))
    if query.names_version and query.refresh_token is not None:
        message = "expected no `version` or `timestamp` beside it"
        violations.append(Violation(message, parameter="refreshToken"))
    if query.starting_version is not None:
        message = "is not supported: the table has no change data feed"
        violations.append(Violation(message, parameter="startingVersion"))
    if violations:
        raise ValidationError(violations)
    return query


def _members(body: bytes) -> Any:
    """Return the members of a JSON object that are read, or another JSON value. Raises msgspec.DecodeError."""
    try:
        members = msgspec.json.decode(body, type=dict[str, Raw])
    except msgspec.ValidationError:
        return msgspec.json.decode(body)
    return {key: msgspec.json.decode(members[key]) for key in members if key in KEYS}


def time_of(text: str | None, parameter: str) -> datetime | None:
    """Return a time of a request; `parameter`: its name. Raises ValidationError."""
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)
        message = bounds_violation(moment)
    except msgspec.ValidationError:
        message = "expected a time in ISO 8601, such as 2026-05-26T12:00:00Z"
    if message is not None:
        raise ValidationError([Violation(message, parameter=parameter)])
    return moment
