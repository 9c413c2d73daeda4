"""Days of the Gregorian calendar in any year, numbered from 1970-01-01. Python's own dates have years 1 to 9999.

The calendar repeats every 400 years, so a day outside Python's years is computed 400 years nearer.
"""

from datetime import date

EPOCH = date(1970, 1, 1).toordinal()
CYCLE_YEARS, CYCLE_DAYS = 400, 146_097


def number_of(day: date) -> int:
    """Return the number of a day of Python's years."""
    return day.toordinal() - EPOCH


def number_of_any(year: int, month: int, day: int) -> int:
    """Return the number of a day of any year; the year before 1 is 0. Raises ValueError where there is no such day."""
    cycles, before = divmod(year - 1, CYCLE_YEARS)
    return number_of(date(before + 1, month, day)) + cycles * CYCLE_DAYS


def near(number: int) -> tuple[date, int]:
    """Return a day, moved by cycles of 400 years into Python's calendar, and the number of cycles, at most one."""
    ordinal = number + EPOCH
    # One day is left free at both ends, for the offset of a zone.
    cycles = (ordinal > date.max.toordinal() - 1) - (ordinal < 2)
    return date.fromordinal(ordinal - cycles * CYCLE_DAYS), cycles
