"""The ids in paths, read so that one which nothing can have is answered as the id of a missing thing."""

from uuid import UUID

from longshore.database.rows import MAX_BIGINT, as_uuid
from longshore.errors import NotFoundError


def uuid_of(text: str, missing: str) -> UUID:
    """Return the UUID in a path. Raises NotFoundError of the kind `missing` where it is none."""
    if (id := as_uuid(text)) is None:
        raise NotFoundError(missing)
    return id


def number_of(number: int, missing: str) -> int:
    """Return a number as an id. Raises NotFoundError of the kind `missing` beyond PostgreSQL's range."""
    if not 1 <= number <= MAX_BIGINT:
        raise NotFoundError(missing)
    return number
