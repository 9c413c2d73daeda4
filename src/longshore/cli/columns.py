"""Tables of text that fit a terminal."""

import shutil
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence

GAP = "  "
MIN_WIDTH = 12  # of a column that is narrowed


def lines(heads: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None = None) -> Iterator[str]:
    """Yield the lines of a table with its heads. Columns are narrowed, and their cells wrapped, to fit `columns`.

    `columns`: the width of the terminal; by default the real one.
    """
    table = [list(heads), *map(list, rows)] if any(heads) else [list(row) for row in rows]
    widths = [max(map(width, column), default=0) for column in zip(*table, strict=True)]
    room = (columns or shutil.get_terminal_size().columns) - len(GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths) > MIN_WIDTH:
        widths[widths.index(max(widths))] -= 1
    for row in table:
        wrapped = [_wrapped(cell, limit) for cell, limit in zip(row, widths, strict=True)]
        for number in range(max(map(len, wrapped))):
            cells = [cell[number] if number < len(cell) else "" for cell in wrapped]
            yield GAP.join(_padded(cell, limit) for cell, limit in zip(cells, widths, strict=True)).rstrip()


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a wide character, none for a combining one."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def _wrapped(text: str, columns: int) -> list[str]:
    if width(text) <= columns:
        return [text]
    is_wide = width(text) > len(text)
    return textwrap.wrap(text, max(1, columns // 2 if is_wide else columns)) or [""]
