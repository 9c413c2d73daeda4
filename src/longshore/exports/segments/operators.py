"""The operators of rules, with the windows and units of time that some of them take."""

import msgspec

from longshore.exports.catalog import FieldType

DATE = (FieldType.DATE,)
NUMBER = (FieldType.NUMBER,)
WORDS = (FieldType.KEYWORD, FieldType.TEXT)
EXACT = (*WORDS, FieldType.NUMBER, FieldType.BOOLEAN)
ALL = (*DATE, *EXACT)


class Operator(msgspec.Struct, frozen=True):
    """The use of an operator."""

    types: tuple[FieldType, ...]
    """The types of the fields that it can be used on."""
    operands: tuple[str, ...]
    """The keys of a rule that it needs."""
    phrase: str
    """The words of a rule after its field."""
    depends_on_interval: bool = False
    """Whether the times that it takes depend on the data interval of the run."""

    @property
    def optional_operands(self) -> tuple[str, ...]:
        """The keys of a rule that it can have."""
        return ("timezone",) if self.types == DATE else ()


OPERATORS = {
    "is": Operator(EXACT, ("value",), "is {value}"),
    "is_not": Operator(EXACT, ("value",), "is not {value}"),
    "is_one_of": Operator(EXACT, ("value",), "is one of {value}"),
    "is_empty": Operator(ALL, (), "is empty"),
    "is_not_empty": Operator(ALL, (), "is not empty"),
    "contains": Operator(WORDS, ("value",), "contains {value}"),
    "does_not_contain": Operator(WORDS, ("value",), "does not contain {value}"),
    "starts_with": Operator(WORDS, ("value",), "starts with {value}"),
    "is_date": Operator(DATE, ("value",), "is on {value}"),
    "is_after_date": Operator(DATE, ("start_date",), "is after {start_date}"),
    "is_before_date": Operator(DATE, ("end_date",), "is before {end_date}"),
    "is_between_date": Operator(DATE, ("start_date", "end_date"), "is between {start_date} and {end_date}"),
    "is_in_window": Operator(DATE, ("window",), "is in {window}", depends_on_interval=True),
    "is_in_interval": Operator(DATE, (), "is in the data interval of the run", depends_on_interval=True),
    "relative_less_than": Operator(
        DATE, ("time_factor", "time_amount"), "is less than {time_amount} {time_factor} ago", depends_on_interval=True
    ),
    "relative_more_than": Operator(
        DATE, ("time_factor", "time_amount"), "is more than {time_amount} {time_factor} ago", depends_on_interval=True
    ),
    "is_between_number": Operator(NUMBER, ("min", "max"), "is between {min} and {max}"),
    "is_greater_than": Operator(NUMBER, ("value",), "is greater than {value}"),
    "is_less_than": Operator(NUMBER, ("value",), "is less than {value}"),
}
DATE_OPERATORS = [name for name, operator in OPERATORS.items() if operator.types == DATE]

# Of each unit of time, in a rule: a thousand years; PostgreSQL's calendar does not reach much further back.
MAX_AMOUNTS = {
    "minute": 525_600_000,
    "hour": 8_760_000,
    "day": 365_000,
    "week": 52_000,
    "month": 12_000,
    "year": 1_000,
}

# Calendar windows: the unit, and the number of units before the current one.
WINDOWS = {
    "today": ("day", 0),
    "yesterday": ("day", 1),
    "this_week": ("week", 0),
    "last_week": ("week", 1),
    "this_month": ("month", 0),
    "last_month": ("month", 1),
    "this_quarter": ("quarter", 0),
    "last_quarter": ("quarter", 1),
    "this_year": ("year", 0),
    "last_year": ("year", 1),
}
