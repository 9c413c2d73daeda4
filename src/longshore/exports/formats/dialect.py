"""CSV dialects: what `target.csv` may ask for, and the profiles that set it together.

Every profile can be read back: what it changes in a value says so in the value.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from longshore.validation import Violation, pointer

Profile = Literal["rfc4180", "excel", "excel-eu", "postgres", "bigquery", "snowflake"]


class CsvOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a request may ask of a CSV file; what it leaves out is the profile's."""

    profile: Profile = "rfc4180"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] | None = None
    header: bool | None = None
    bom: bool | None = None
    null: Annotated[str, Meta(max_length=20)] | None = None
    quote_all: bool | None = None
    escape_formulas: bool | None = None


class Dialect(msgspec.Struct, frozen=True):
    """How a CSV file is written."""

    delimiter: str = ","
    header: bool = True
    bom: bool = False
    """Begin with a byte order mark, by which Excel knows UTF-8."""
    null: str = ""
    quote_all: bool = False
    escape_formulas: bool = False
    """Put an apostrophe before words that a spreadsheet would run, or that begin with one."""
    line_end: bytes = b"\r\n"
    words_as_formulas: bool = False
    """Write keywords that look like figures as ="0042", which a spreadsheet shows as they are."""
    decimal_comma: bool = False


PROFILES: dict[str, Dialect] = {
    "rfc4180": Dialect(),
    "excel": Dialect(bom=True, escape_formulas=True, words_as_formulas=True),
    "excel-eu": Dialect(delimiter=";", bom=True, escape_formulas=True, words_as_formulas=True, decimal_comma=True),
    "postgres": Dialect(line_end=b"\n"),
    "bigquery": Dialect(line_end=b"\n", null="\\N"),
    "snowflake": Dialect(line_end=b"\n"),
}

SETTABLE = ("delimiter", "header", "bom", "null", "quote_all", "escape_formulas")


def dialect(options: CsvOptions) -> Dialect:
    """The dialect that options ask for."""
    chosen = {name: value for name in SETTABLE if (value := getattr(options, name)) is not None}
    return msgspec.structs.replace(PROFILES[options.profile], **chosen)


def check_options(options: CsvOptions, at: str) -> list[Violation]:
    """What PostgreSQL could not write, with the JSON pointer `at`."""
    violations = []
    asked = dialect(options)
    if not asked.delimiter.isascii() or asked.delimiter in '"\r\n\\.\x00' or asked.delimiter.isalnum():
        expected = "expected one ASCII character that is no letter, digit, quote, point, backslash, line end or U+0000"
        violations.append(Violation(expected, pointer(at, "delimiter")))
    if any(char in asked.null for char in ('"', "\r", "\n", "\x00", asked.delimiter)):
        violations.append(Violation("expected a string without quote, line end or delimiter", pointer(at, "null")))
    return violations
