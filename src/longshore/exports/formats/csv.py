"""CSV after RFC 4180: a header line, CRLF between records, UTF-8; NULL is empty and the empty string is "".

PostgreSQL quotes and escapes; this module ends the records as the dialect wants, and counts them.
"""

import re
from typing import Any

from longshore.exports.catalog import FieldType
from longshore.exports.columns import Column
from longshore.exports.formats.format import FileSpec, Format
from longshore.exports.formats.nested import projected

# All bytes but the quote and the line feed: without them, only the structure of a block is left.
NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'"\n')

# Text that a spreadsheet runs as a formula; in SQL, where a quote is doubled, and in Python. The apostrophe is among
# it, so that a reader can remove the one that was put before a value, and no other.
FORMULA = r"^[=+\-@\t\r'']"
# Text that a spreadsheet may convert to a number, date, amount of money, boolean or error. Which text that is depends
# on its language (MAR1, DEZ1, 5 kr), but all of it has a digit or `#`, or is TRUE or FALSE; boolean words of other
# languages (WAHR, VRAI) are not matched. No such text has a quote; the text of a formula has 255 characters at most.
CONVERTIBLE = r'(?i)^(?=.*[0-9]|#| *(true|false) *$)[^"]{1,255}$'


class Csv(Format):
    """Comma-separated values, in any dialect."""

    def __init__(self, spec: FileSpec) -> None:
        super().__init__(spec)
        self._dialect = spec.dialect

    def query(self, from_clause: str) -> str:
        return f"select {', '.join(self._expression(column) for column in self._spec.columns)} {from_clause}"

    def options(self) -> dict[str, Any]:
        dialect = self._dialect
        options = {**super().options(), "delimiter": dialect.delimiter, "null": dialect.null}
        return {**options, "force_quote": True} if dialect.quote_all else options

    def begin(self) -> bytes:
        if not self._spec.position.first:
            return b""
        dialect = self._dialect
        header = dialect.delimiter.join(self._quoted(self._escaped(column.name)) for column in self._spec.columns)
        line = header.encode() + dialect.line_end if dialect.header else b""
        return b"\xef\xbb\xbf" + line if dialect.bom else line

    def frame(self, block: bytes) -> bytes:
        # Line feeds inside quotes belong to a value: after every other quote they are not counted and not changed.
        # An escaped quote is two quotes, so a point is inside quotes if the number of quotes before it is odd.
        structure = block.translate(None, NOT_STRUCTURE)
        pieces = structure.split(b'"')
        ends = sum(map(len, pieces[::2]))
        self.rows += ends
        line_end = self._dialect.line_end
        if line_end == b"\n":
            return block
        if ends == len(structure) - len(pieces) + 1:
            return block.replace(b"\n", line_end)
        parts = block.split(b'"')
        parts[::2] = [part.replace(b"\n", line_end) for part in parts[::2]]
        return b'"'.join(parts)

    def _expression(self, column: Column) -> str:
        if column.field.type is FieldType.NESTED:
            return projected(column)
        text = column.copy_sql
        dialect = self._dialect
        if dialect.decimal_comma and column.field.type is FieldType.NUMBER:
            return f"replace(({text})::text, '.', ',')"
        if column.field.type not in (FieldType.KEYWORD, FieldType.TEXT):
            return text
        cases, shown = "", column.text_sql
        bytewise = f'({shown} collate pg_catalog."C")'  # PostgreSQL refuses patterns under nondeterministic collations
        if dialect.escape_formulas:
            cases += f" when {bytewise} ~ '{FORMULA}' then '''' || {shown}"
        if dialect.words_as_formulas and column.field.type is FieldType.KEYWORD:
            cases += f" when {bytewise} ~ '{CONVERTIBLE}' then '=\"' || {shown} || '\"'"
        return f"case{cases} else {shown} end" if cases else text

    def _escaped(self, name: str) -> str:
        # A request may choose any name for a column.
        return f"'{name}" if self._dialect.escape_formulas and re.match(FORMULA, name) else name

    def _quoted(self, name: str) -> str:
        special = ('"', "\r", "\n", self._dialect.delimiter)
        if self._dialect.quote_all or any(char in name for char in special):
            return '"' + name.replace('"', '""') + '"'
        return name
