"""The tables of settings and metrics in the docs are those of the code."""

import re
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import Meta

from longshore.settings import Settings, description
from longshore.tasks.queue_metrics import GAUGES

NONE = "\N{EN DASH}"
ROOT = Path(__file__).parents[1]


def _rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading of a page, without its head."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def _bounds(field: msgspec.structs.FieldInfo) -> str:
    """Return the bounds of a number as the table writes them."""
    meta = next(part for part in get_args(field.type) if isinstance(part, Meta))
    least = (
        f"at least {meta.ge:,}" if meta.ge is not None else f"more than {meta.gt:,}" if meta.gt is not None else NONE
    )
    if meta.le is None:
        return least
    return f"{meta.ge:,} to {meta.le:,}" if meta.ge is not None else f"{least}, at most {meta.le:,}"


def _setting(field: msgspec.structs.FieldInfo) -> list[str]:
    default = str(field.default)
    shown = f"`{default}`" if default else "empty"
    return [f"`LONGSHORE_{field.name.upper()}`", shown, _bounds(field), description(field.name)]


def test_every_setting_is_in_the_table_with_its_default_bounds_and_description() -> None:
    assert _rows("settings.md", "All settings") == [_setting(field) for field in msgspec.structs.fields(Settings)]


def test_every_metric_is_in_the_table_of_metrics_and_no_other() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "src" / "longshore").rglob("*.py"))
    made = re.findall(r"\b(Counter|Gauge|Histogram|GaugeMetricFamily)\(\s*\"(longshore_\w+)\"", source)
    names = {f"`{name}_total`" if kind == "Counter" else f"`{name}`" for kind, name in made}
    names |= {f"`longshore_{name}`" for name in GAUGES}
    listed = [row[0] for row in _rows("monitoring.md", "All metrics")]
    assert len(listed) == len(set(listed)) > 15
    assert set(listed) == names
