"""The check of names: each part of a name that is defined in code, and the names of classes and modules."""

from pathlib import Path

import pytest
from tools.check_language import findings


@pytest.mark.parametrize(
    ("code", "retired"),
    [
        ("def next_heir(): pass", "next_heir"),
        ("class CrewOfWorkers: pass", "CrewOfWorkers"),
        ("ALL_PERSONS = 1", "ALL_PERSONS"),
        ("def f(careIsTaken, *, heap=1): pass", "careIsTaken heap"),
        ("x.patient = 1", "patient"),
        ("class Asked: pass", "Asked"),
        ("class AskedOnce: pass\ncareful = scare = people = 1", ""),
    ],
)
def test_name_with_a_retired_part_is_found(tmp_path: Path, code: str, retired: str) -> None:
    file = tmp_path / "module.py"
    file.write_text(code)
    assert [finding.split("'")[1] for finding in findings(file)] == retired.split()


def test_module_with_a_retired_name_is_found(tmp_path: Path) -> None:
    file = tmp_path / "polls.py"
    file.touch()
    assert [finding.partition(":")[0] for finding in findings(file)] == [str(file)]
