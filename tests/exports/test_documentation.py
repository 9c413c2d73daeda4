"""The documentation names every operator, window, type, format and option."""

import json
import re
from pathlib import Path

from longshore.exports import catalog
from longshore.exports.catalog_check import TYPES
from longshore.exports.formats import FORMATS
from longshore.exports.formats.dialect import PROFILES, SETTABLE
from longshore.exports.segments.operators import OPERATORS, WINDOWS
from longshore.exports.segments.rules import Rule, Segment
from longshore.exports.target import ExportTarget
from longshore.exports.target.check import check_target

DOCS = Path(__file__).parents[2] / "docs"
PAGE, FORMATS_PAGE, CATALOG_PAGE = (
    (DOCS / name).read_text(encoding="utf-8") for name in ("exports.md", "formats.md", "catalog.md")
)


def test_every_operator_is_documented_with_its_field_types_and_keys() -> None:
    lines = {
        match[1]: match
        for match in re.finditer(r"^\| `(\w+)` \| ([a-z, ]+) \| (.*) \| (no|\*\*yes\*\*) \|$", PAGE, re.M)
    }
    assert set(lines) == set(OPERATORS)
    for name, operator in OPERATORS.items():
        line = lines[name]
        assert line[2] == ("all" if len(operator.types) == 5 else ", ".join(kind.value for kind in operator.types))
        assert all(f"`{key}`" in line[3] for key in operator.operands), name


def test_every_key_of_targets_segments_and_rules_is_documented() -> None:
    tables = {
        head: PAGE.split(f"| {head} |", 1)[1].split("\n\n")[0] for head in ("key", "key of a segment", "key of a rule")
    }
    for kind, table in zip((ExportTarget, Segment, Rule), tables.values(), strict=True):
        first_cells = " ".join(re.findall(r"^\| (`.*?) \|", table, re.M))
        assert set(re.findall(r"`(\w+)`", first_cells)) == set(kind.__struct_fields__)


def test_every_window_is_documented() -> None:
    assert all(f"`{window}`" in PAGE for window in WINDOWS)


def test_every_field_type_is_documented() -> None:
    table = CATALOG_PAGE.partition("| field type |")[2].partition("\n\n")[0]
    assert all(f"| `{kind.value}` |" in table for kind in TYPES)


def test_every_example_of_a_target_is_accepted_as_it_stands() -> None:
    examples = re.findall(r'^    (\{"action".*?\})$', PAGE + FORMATS_PAGE, re.M | re.S)
    assert len(examples) >= 6
    for example in examples:
        assert check_target(json.loads(example), catalog.load(), "", {}) == [], example


def test_every_format_profile_and_option_is_documented() -> None:
    for name in (*FORMATS, *PROFILES, *SETTABLE):
        assert f"| `{name}` |" in FORMATS_PAGE, name
