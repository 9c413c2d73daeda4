"""The temporary files of a workbook: their limit, and a disk that is full."""

import random
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.errors import LongshoreError
from longshore.exports import run_errors
from longshore.exports.catalog import Field, FieldType
from longshore.exports.columns import Column
from longshore.exports.formats import FileSpec, xlsx

SPEC = FileSpec([Column("value", Field(type=FieldType.TEXT, description=""), "value", "text")])
BLOCK = b"of a row\n" * 1000


@pytest.fixture
def small_files() -> Iterator[None]:
    """Allow files of 8 KiB at most, as a full disk does; larger writes end in an OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_workbook_of_more_text_than_a_zip_file_holds_is_refused_while_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(xlsx, "MAX_SHEET_BYTES", 200_000)
    format = xlsx.Xlsx(SPEC)
    format.begin()
    format.frame(BLOCK)
    with pytest.raises(LongshoreError, match="ends after 200,000 bytes of XML; choose another format"):
        for _ in range(10):
            format.frame(BLOCK)


def test_a_workbook_that_is_not_begun_has_no_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As for the plan of an export, which needs its query alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    format = xlsx.Xlsx(SPEC)
    assert format.query("from rows") == "select value from rows"
    assert list(tmp_path.iterdir()) == []
    format.begin()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_for_temporary_files_is_named_while_rows_are_written() -> None:
    format = xlsx.Xlsx(SPEC)
    format.begin()
    with pytest.raises(LongshoreError) as caught:
        format.frame(BLOCK)
    assert run_errors.is_retryable(caught.value)
    reason = run_errors.describe_error(caught.value)
    assert reason == "the temporary files of a workbook cannot be written: File too large"


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_for_temporary_files_is_named_while_a_workbook_is_compressed() -> None:
    format = xlsx.Xlsx(SPEC)
    format.begin()
    letters = random.Random(1)
    format.frame(("".join(chr(letters.randrange(0x100, 0x7FF)) for _ in range(2800)) + "\n").encode())
    with pytest.raises(LongshoreError) as caught:
        list(format.end())
    assert run_errors.is_retryable(caught.value)
    reason = run_errors.describe_error(caught.value)
    assert reason == "the temporary files of a workbook cannot be written: File too large"
