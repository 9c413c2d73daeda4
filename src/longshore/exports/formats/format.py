"""What a format is to the copy: a query, COPY options, and a way to frame the bytes that PostgreSQL makes of rows."""

from typing import Any, Protocol


class Format(Protocol):
    """Frames one file. `rows` counts the rows in the bytes that went through, independently of what PostgreSQL says."""

    extension: str
    media_type: str
    rows: int

    def __init__(self) -> None: ...

    def query(self, names: list[str], expressions: list[str], source: str) -> str:
        """The query whose rows are copied: `expressions` under `names`, `source` beginning with `from`."""

    def options(self) -> dict[str, Any]:
        """How PostgreSQL writes the rows, as asyncpg's copy_from_query takes it."""

    def begin(self) -> bytes:
        """What stands before the first row."""

    def frame(self, block: bytes) -> bytes:
        """A block of PostgreSQL's output, cut anywhere, as it goes into the file."""

    def end(self) -> bytes:
        """What stands after the last row."""
