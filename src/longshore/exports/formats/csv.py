"""CSV after RFC 4180: a header line, CRLF between records, UTF-8; NULL is empty and the empty string is "".

PostgreSQL quotes and escapes; what is left to do is to end records as the dialect wants, and to count them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from longshore.exports.catalog import FieldType
from longshore.exports.columns import Column, is_words, named
from longshore.exports.formats.dialect import Dialect
from longshore.exports.formats.format import WHOLE, Place
from longshore.exports.formats.nested import projected

# All bytes but the quote and the line feed: without them a block shows its structure and nothing else.
NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'"\n')

# What a spreadsheet takes for a formula (and the apostrophe, so that one that was put there can be told).
RUNNABLE = r"^[=+\-@\t\r'']"
# What it may take for a number, a date, an amount of money, a boolean or an error. That depends on its language (MAR1,
# DEZ1, 5 kr), but needs a digit, `#`, TRUE or FALSE. No such value has a quote; a formula's text has 255 characters.
FIGURE = r'(?i)^(?=.*[0-9]|#| *(true|false) *$)[^"]{1,255}$'


class Csv:
    """Comma-separated values, in any dialect."""

    def __init__(self, columns: Sequence[Column], dialect: Dialect, place: Place = WHOLE) -> None:
        self.rows = 0
        self._place = place
        self._columns = columns
        self._dialect = dialect
        self._inside = False  # a block may end inside a quoted field

    def query(self, source: str) -> str:
        return f"select {named(self._columns, [self._expression(column) for column in self._columns])} {source}"

    def options(self) -> dict[str, Any]:
        dialect = self._dialect
        options = {"format": "csv", "encoding": "utf-8", "delimiter": dialect.delimiter, "null": dialect.null}
        return {**options, "force_quote": True} if dialect.quote_all else options

    def begin(self) -> bytes:
        if not self._place.first:
            return b""
        dialect = self._dialect
        header = dialect.delimiter.join(self._quoted(self._escaped(column.name)) for column in self._columns)
        line = header.encode() + dialect.line_end if dialect.header else b""
        return b"\xef\xbb\xbf" + line if dialect.bom else line

    def frame(self, block: bytes) -> bytes:
        # Line feeds inside quotes belong to a value: after every other quote they are not counted and not changed.
        # An escaped quote is two quotes, so the count of quotes says at each point whether it is inside.
        structure = block.translate(None, NOT_STRUCTURE)
        pieces = structure.split(b'"')
        ends = sum(map(len, pieces[self._inside :: 2]))
        self.rows += ends
        all_ends = ends == len(structure) - len(pieces) + 1
        line_end = self._dialect.line_end
        if line_end == b"\n":
            framed = block
        elif all_ends:
            framed = block.replace(b"\n", line_end)
        else:
            framed = line_end.join(_records(block, pieces, self._inside))
        self._inside ^= len(pieces) % 2 == 0
        return framed

    def end(self) -> Iterator[bytes]:
        yield b""

    def _expression(self, column: Column) -> str:
        if column.field.type is FieldType.NESTED:
            return projected(column)
        text = column.as_text
        dialect = self._dialect
        if dialect.decimal_comma and column.field.type is FieldType.NUMBER:
            return f"replace(({text})::text, '.', ',')"
        if not is_words(column):
            return text
        cases, shown = "", column.shown
        bytewise = f'({shown} collate pg_catalog."C")'  # patterns are refused under a nondeterministic collation
        if dialect.escape_formulas:
            cases += f" when {bytewise} ~ '{RUNNABLE}' then '''' || {shown}"
        if dialect.words_as_formulas and column.field.type is FieldType.KEYWORD:
            cases += f" when {bytewise} ~ '{FIGURE}' then '=\"' || {shown} || '\"'"
        return f"case{cases} else {shown} end" if cases else text

    def _escaped(self, name: str) -> str:
        # A request may choose any name for a column.
        return f"'{name}" if self._dialect.escape_formulas and name.startswith(tuple("=+-@\t\r'")) else name

    def _quoted(self, name: str) -> str:
        special = ('"', "\r", "\n", self._dialect.delimiter)
        if self._dialect.quote_all or any(char in name for char in special):
            return '"' + name.replace('"', '""') + '"'
        return name


def _records(block: bytes, pieces: list[bytes], inside: bool) -> list[bytes]:
    """A block cut at those line feeds that end records. `pieces`: its line feeds, cut at its quotes."""
    lines = block.split(b"\n")
    seen = sum(map(len, pieces))
    for number in range(len(pieces) - 1, -1, -1):
        seen -= len(pieces[number])
        if pieces[number] and number % 2 != inside:
            end = seen + len(pieces[number]) + 1
            lines[seen:end] = [b"\n".join(lines[seen:end])]
    return lines
