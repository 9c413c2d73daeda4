"""CSV dialects: the options of `target.csv`, and the profiles that set them together.

Every profile can be read back: a changed value shows how it was changed.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from longshore.validation import Violation, pointer

Profile = Literal["rfc4180", "excel", "excel-eu", "postgres", "bigquery", "snowflake"]


class CsvOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The options of a CSV file in a request; those that it leaves out are the profile's."""

    profile: Profile = "rfc4180"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] | None = None
    header: bool | None = None
    bom: bool | None = None
    null: Annotated[str, Meta(max_length=20)] | None = None
    quote_all: bool | None = None
    escape_formulas: bool | None = None


class Dialect(msgspec.Struct, frozen=True):
    """The way in which a CSV file is written."""

    delimiter: str = ","
    header: bool = True
    bom: bool = False
    """Begin with a byte order mark, by which Excel recognizes UTF-8."""
    null: str = ""
    quote_all: bool = False
    escape_formulas: bool = False
    """Put an apostrophe before text that a spreadsheet would run as a formula, or that begins with an apostrophe."""
    line_end: bytes = b"\r\n"
    words_as_formulas: bool = False
    """Write keywords that a spreadsheet would convert as ="0042", which it shows unchanged."""
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
    """Return the dialect that options ask for."""
    chosen = {name: value for name in SETTABLE if (value := getattr(options, name)) is not None}
    return msgspec.structs.replace(PROFILES[options.profile], **chosen)


def check_options(options: CsvOptions, at: str) -> list[Violation]:
    """Return the violations of options that PostgreSQL cannot write; `at` is their JSON pointer."""
    violations = []
    chosen = dialect(options)
    if not chosen.delimiter.isascii() or chosen.delimiter in '"\r\n\\.\x00' or chosen.delimiter.isalnum():
        expected = "expected one ASCII character that is no letter, digit, quote, point, backslash, line end or U+0000"
        violations.append(Violation(expected, pointer(at, "delimiter")))
    if any(char in chosen.null for char in ('"', "\r", "\n", "\x00", chosen.delimiter)):
        violations.append(Violation("expected a string without quote, line end or delimiter", pointer(at, "null")))
    return violations
