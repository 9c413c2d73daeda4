"""Rows as structs: a statement names its columns as the fields of the struct that they fill, and truncates times."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET

from longshore.database.connect import Connection, Pool

MAX_BIGINT = 2**63 - 1

T = TypeVar("T")


class Page(msgspec.Struct, frozen=True):
    """The part of a list that is wanted."""

    limit: int
    offset: int = 0


def structs(kind: Callable[..., T], rows: Iterable[asyncpg.Record]) -> list[T]:
    """Return a struct for each row."""
    return [kind(**row) for row in rows]


async def fetch_page(
    connection: Connection | Pool, kind: Callable[..., T], page: Page, statement: str, *args: Any
) -> tuple[list[T], bool]:
    """Return a page of the rows of a statement as structs, and whether more follow.

    The statement takes `args`, and then limit and offset.
    """
    rows = await connection.fetch(statement, *args, page.limit + 1, page.offset)
    return structs(kind, rows[: page.limit]), len(rows) > page.limit


def given_values(fields: msgspec.Struct) -> list[Any]:
    """Return the values of a struct's fields in their order, with None for those that are UNSET."""
    return [None if value is UNSET else value for value in msgspec.structs.astuple(fields)]


def as_uuid(text: str) -> UUID | None:
    """Return the UUID that a text is in its canonical form; None for any other text."""
    try:
        uuid = UUID(text)
    except ValueError:
        return None
    return uuid if str(uuid) == text.lower() else None


def raw_json(text: str | None) -> msgspec.Raw | None:
    """Return the value of a column of JSON, to be passed on as it is stored."""
    return None if text is None else msgspec.Raw(text.encode())
