"""The words of the API as types, so that editors complete them and a type checker finds a wrong one."""

from typing import TYPE_CHECKING, Any, Literal, Required, TypeAlias, TypedDict

Format: TypeAlias = Literal["csv", "json", "jsonl", "parquet", "xlsx"]
Compression: TypeAlias = Literal["gzip", "zstd"]
Repeat: TypeAlias = Literal["daily", "weekly", "monthly"]
CatchUp: TypeAlias = Literal["one", "none", "all"]
StateCode: TypeAlias = Literal["READY", "INPROGRESS", "DONE", "ERROR"]
WebhookEvent: TypeAlias = Literal["task.done", "task.error", "delivery.done", "delivery.failed"]
FieldType: TypeAlias = Literal["date", "keyword", "text", "number", "boolean"]
Window: TypeAlias = Literal[
    "today", "yesterday", "this_week", "last_week", "this_month", "last_month", "this_quarter", "last_quarter",
    "this_year", "last_year",
]  # fmt: skip
TimeFactor: TypeAlias = Literal["minute", "hour", "day", "week", "month", "year"]
Operator: TypeAlias = Literal[
    "is", "is_not", "is_one_of", "is_empty", "is_not_empty", "contains", "does_not_contain", "starts_with", "is_date",
    "is_after_date", "is_before_date", "is_between_date", "is_in_window", "is_in_interval", "relative_less_than",
    "relative_more_than", "is_between_number", "is_greater_than", "is_less_than",
]  # fmt: skip

_WORDS = frozenset({"keyword", "text"})
_NUMBER = frozenset({"number"})
_DATE = frozenset({"date"})
_EXACT = _WORDS | _NUMBER | {"boolean"}
FIELD_TYPES: dict[str, frozenset[str]] = {
    "is": _EXACT, "is_not": _EXACT, "is_one_of": _EXACT, "is_empty": _EXACT | _DATE, "is_not_empty": _EXACT | _DATE,
    "contains": _WORDS, "does_not_contain": _WORDS, "starts_with": _WORDS, "is_greater_than": _NUMBER,
    "is_less_than": _NUMBER, "is_between_number": _NUMBER, "is_date": _DATE, "is_after_date": _DATE,
    "is_before_date": _DATE, "is_between_date": _DATE, "is_in_window": _DATE, "is_in_interval": _DATE,
    "relative_less_than": _DATE, "relative_more_than": _DATE,
}  # fmt: skip
"""The types of the fields that each operator can be used on."""


class SegmentRule(TypedDict, total=False):
    """A rule of a segment in the API's form."""

    field_name: Required[str]
    field_type: Required[FieldType]
    operator: Required[Operator]
    value: Any
    start_date: str
    end_date: str
    time_factor: TimeFactor
    time_amount: int
    min: float
    max: float
    window: Window
    timezone: str
    nested: bool
    nesting_path: str


class Segment(TypedDict):
    """A segment in the API's form."""

    entity: Literal["people"]
    index: str
    join: Literal["all", "any"]
    chain_id: int
    rules: list[SegmentRule]


if TYPE_CHECKING:
    AnsweredState: TypeAlias = StateCode
    AnsweredSegment: TypeAlias = Segment
else:  # a newer service may answer words that are not known here
    AnsweredState = str
    AnsweredSegment = dict[str, Any]


class CsvDialect(TypedDict, total=False):
    """The dialect of a CSV file."""

    profile: Literal["bigquery", "excel", "excel-eu", "postgres", "rfc4180", "snowflake"]
    delimiter: str
    header: bool
    bom: bool
    null: str
    quote_all: bool
    escape_formulas: bool


class PartitionKey(TypedDict, total=False):
    """A key that the files of a result are divided by."""

    field: Required[str]
    by: Literal["day", "month", "year"]


class Split(TypedDict, total=False):
    """The size of a file of a result."""

    rows: int
    bytes: int


class Deliver(TypedDict, total=False):
    """A destination of each result: for files with `path`, for tables with `table` and `mode`."""

    destination: Required[str]
    path: str
    overwrite: bool
    table: str
    mode: Literal["append", "replace", "merge"]
