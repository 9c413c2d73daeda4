"""The entries of `deliver` in a target: destinations of a run's result, and its paths or its table there."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from longshore.errors import LongshoreError
from longshore.exports.files.paths import index_folder
from longshore.exports.manifest import is_files
from longshore.tasks.model import Interval, NewDelivery
from longshore.validation import Violation, in_json, pointer

TABLE_FORMATS = "a table takes parquet, or csv without `compression` and other `csv` options"

MAX_ENTRIES = 20
MAX_TEMPLATE_CHARACTERS = 500
MAX_PATH_BYTES = 1000  # the key of an object has 1,024 at most, with the destination's prefix

ONE_FILE = "{index}/{date}/{run}-{name}"
MANY_FILES = "{index}/{date}/{task}-{run}/{name}"  # the paths within runs of several tasks may be the same
"""The paths of an entry without `path`."""
BUNDLE = "bundle"
"""Stands for `{index}` where a run exports several indexes."""

Takes = Literal["files", "tables"]

EXAMPLE = datetime(2026, 5, 26, tzinfo=UTC)

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
NAMES = ("index", "task", "run", "chain", "date", "name")
DATE = "%Y-%m-%d"
INTERVAL_END = "interval_end:"
# Of `strftime`: those that are the same on each platform and in each locale, and text that a path may have.
TIME_FORMAT = re.compile(r"(?:%[YmdHMSjyGVu]|[A-Za-z0-9_.=/-])+")
TEXT = re.compile(r"[A-Za-z0-9_.=/@+,~ -]*")
RESERVED_TABLES = re.compile(r"(?:_longshore_|pg_).*", re.IGNORECASE)
"""Tables of a service's own in a destination, and names that PostgreSQL looks up in its own schema first."""


class Deliver(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A destination of the result of each run: files with `path`, or a table with `table` and `mode`."""

    destination: Annotated[str, Meta(min_length=1, max_length=100)]
    """The name of a destination of the chain."""
    path: Annotated[str, Meta(min_length=1, max_length=MAX_TEMPLATE_CHARACTERS)] | None = None
    """The template of the paths: `{index}`, `{task}`, `{run}`, `{chain}`, `{date}`, `{interval_end:%Y-%m-%dT%H}` and
    `{name}`, the file's path within the run, which it must have. By default `{index}/{date}/{run}-{name}`, for results
    of many files `{index}/{date}/{task}-{run}/{name}`."""
    overwrite: bool = False
    """Whether files that lie there are replaced; needed where `path` has no `{run}`."""
    table: (
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}\Z",
                extra={"expected": "up to 63 letters, digits and underscores, not beginning with a digit"},
            ),
        ]
        | None
    ) = None
    """The table that takes the rows."""
    mode: Literal["append", "replace", "merge"] | None = None
    """Whether the rows are added, replace those of the table, or are merged by the key."""


class TemplateValues(msgspec.Struct, frozen=True):
    """The facts of a run that the placeholders of a template stand for."""

    chain: int
    task: int
    run: int
    index: str
    """Name of the index; of several, BUNDLE."""
    result: str
    """Name of the result."""
    interval: Interval
    zone: str
    """Of the trigger."""


def new_deliveries(entries: Sequence[Deliver], facts: TemplateValues) -> list[NewDelivery]:
    """Return the deliveries of a run."""
    return [
        NewDelivery(entry.destination, delivery_place(entry, facts), msgspec.json.encode(entry).decode())
        for entry in entries
    ]


def delivery_place(entry: Deliver, facts: TemplateValues) -> str:
    """Return the place of a delivery: its table, or the path of its files with `{name}` in place of their names."""
    if entry.table is not None:
        return entry.table
    end = facts.interval.end.astimezone(ZoneInfo(facts.zone))
    values = {
        "index": index_folder(facts.index),
        "task": str(facts.task),
        "run": str(facts.run),
        "chain": str(facts.chain),
        "date": end.strftime(DATE),
        "name": "{name}",
    }

    def value(match: re.Match[str]) -> str:
        name = match[1]
        return end.strftime(name.removeprefix(INTERVAL_END)) if name.startswith(INTERVAL_END) else values[name]

    return PLACEHOLDER.sub(value, entry.path or (MANY_FILES if is_files(facts.result) else ONE_FILE))


def path_of(place: str, name: str) -> str:
    """Return the path of a file. `place`: of the delivery. Raises LongshoreError where the path is too long."""
    path = place.replace("{name}", name)
    if len(path.encode()) > MAX_PATH_BYTES:
        raise LongshoreError(f"the path {path[:60]}… has more than {MAX_PATH_BYTES:,} bytes; choose a shorter `path`")
    return path


def check_template(entry: Deliver, *, many_files: bool = False) -> str | None:
    """Return what is wrong with the template of an entry; None if nothing is.

    `many_files`: whether a result has many files.
    """
    template = entry.path
    if template is None:
        return None
    for name in PLACEHOLDER.findall(template):
        if name.startswith(INTERVAL_END):
            if not TIME_FORMAT.fullmatch(name.removeprefix(INTERVAL_END)):
                return f"{{{name}}}: expected a format of %Y, %m, %d, %H, %M, %S, %j, %y, %G, %V and %u"
        elif name not in NAMES:
            expected = ", ".join(f"{{{each}}}" for each in NAMES)
            return f"{{{name}}} is not known; expected one of {expected}, {{interval_end:%Y-%m-%d}}"
    text = PLACEHOLDER.sub(_example, template)
    if not TEXT.fullmatch(text):
        return "expected letters, digits, spaces and `_.=/@+,~-` around the placeholders"
    if any(part.strip(". ") == "" for part in text.split("/")):
        return "expected a relative path without parts that are empty or of dots and spaces alone"
    if "{name}" not in template:
        return "lacks {name}, the file's path within the run: data, manifest and signature need paths of their own"
    # A manifest is found by the file's name with a suffix, and finds the many files below its own folder.
    if template.count("{name}") > 1 or not template.endswith("{name}"):
        return (
            "expected {name} once, at the end: manifest and signature lie beside the file, under its name and a suffix"
        )
    if many_files and not f"/{template}".endswith("/{name}"):
        return "expected {name} after a slash: a manifest names many files by their paths below its own folder"
    if "{run}" not in template and not entry.overwrite:
        return 'has no {run}, so a later run would replace the files: add it, or "overwrite": true'
    return None


def _example(placeholder: re.Match[str]) -> str:
    """Return the text of a valid placeholder in some run."""
    name = placeholder[1]
    return EXAMPLE.strftime(name.removeprefix(INTERVAL_END)) if name.startswith(INTERVAL_END) else "x"


def check_takes(entries: Sequence[Deliver], takes: Mapping[str, Takes], at: str) -> list[Violation]:
    """Return the violations of entries by the destinations of the chain; `at` is the pointer of the list.

    `takes`: what each destination of the chain takes, of those that are named.
    """
    violations = []
    for number, entry in enumerate(entries):
        where = pointer(at, number)
        match takes.get(entry.destination):
            case None:
                message = f"this chain has no destination {in_json(entry.destination)}; `GET /destinations` lists them"
                violations.append(Violation(message, pointer(where, "destination")))
            case "files" if entry.table is not None:
                message = (
                    f"the destination {in_json(entry.destination)} takes files; expected `path` or nothing in its place"
                )
                violations.append(Violation(message, pointer(where, "table")))
            case "tables" if entry.table is None and entry.mode is None:
                message = f"is required: the destination {in_json(entry.destination)} takes tables"
                violations.append(Violation(message, pointer(where, "table")))
            case _:
                pass
    return violations
