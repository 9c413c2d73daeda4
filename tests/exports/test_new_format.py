# ruff: noqa: ARG002  # methods of the base classes
"""A new format: two modules and a line in FORMATS are all that writes it and reads it back."""

import io
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import IO, get_args

import pytest

from longshore.client import api_types
from longshore.exports import readback
from longshore.exports.first_rows import first_rows
from longshore.exports.formats import FORMATS, FileSpec, Format, FormatInfo, extension, new_format, reader_of
from longshore.exports.formats.dialect import CsvOptions
from longshore.exports.formats.reader import BinaryReader, Layout, PartialSum, TextReader
from longshore.exports.totals import Sums, TotalColumns
from longshore.results.local import LocalStore
from longshore.results.media_types import MEDIA_TYPES
from tests.exports.test_totals import described

PACKAGE = "longshore.exports.formats"
COLUMNS = TotalColumns(amount="amount", per="code", scale=0)
EXPECTED: Sums = {"EUR": (2, Decimal(7)), None: (1, Decimal(1))}
ROWS = b"EUR;3\nEUR;4\n;1\n"


class Toy(Format):
    """Rows as they come, after a head."""

    def query(self, from_clause: str) -> str:
        return f"select code, amount {from_clause}"

    def begin(self) -> bytes:
        return b"TOY\n"

    def frame(self, block: bytes) -> bytes:
        self.rows += block.count(b"\n")
        return block


def parts(lines: Sequence[bytes]) -> Iterator[PartialSum]:
    for line in lines:
        code, _, amount = line.decode().partition(";")
        yield code or None, 1, Decimal(amount)


class ToyReader(BinaryReader):
    """Reads it as a whole."""

    def rows(self, file: IO[bytes], layout: Layout) -> int:
        return len(file.read().splitlines()) - 1

    def parts(self, file: IO[bytes], layout: Layout, columns: TotalColumns) -> Iterator[PartialSum]:
        yield from parts(file.read().splitlines()[1:])


class ToyTextReader(TextReader):
    """Reads it block by block."""

    def rows(self, file: IO[bytes], layout: Layout) -> int:
        return len(file.read().splitlines()) - 1

    def parts(self, text: bytes, layout: Layout, columns: TotalColumns, *, header: bool) -> list[PartialSum]:
        return list(parts(text.splitlines()[int(header) :]))


@pytest.fixture(params=[ToyReader, ToyTextReader], ids=["binary", "text"])
def _toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, part in (("toy", Toy), ("toy_reader", request.param)):
        module = ModuleType(f"{PACKAGE}.{name}")
        setattr(module, part.__name__, part)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(FORMATS, "toy", FormatInfo("toy", "toy:Toy", f"toy_reader:{request.param.__name__}"))
    yield
    reader_of.cache_clear()


@pytest.mark.usefixtures("_toy")
def test_format_of_two_modules_and_a_line_is_written_and_read_back(tmp_path: Path) -> None:
    writer = new_format("toy", FileSpec([]))
    content = b"".join([writer.begin(), writer.frame(ROWS), *writer.end()])
    manifest = described(f"file.{extension('toy', None)}", "toy", 3)
    assert readback.missing_package(manifest) is None
    assert readback.rows(lambda: io.BytesIO(content), manifest) == writer.rows == 3
    assert readback.sums(lambda: io.BytesIO(content), manifest, COLUMNS) == EXPECTED
    (tmp_path / "file.toy").write_bytes(content)
    shown = first_rows(LocalStore(tmp_path), "file.toy", "toy", CsvOptions(), 5)
    assert (shown.rows, shown.why_not) == ([], "First rows of this format are not shown.")


def test_first_rows_of_a_format_that_this_version_does_not_have_are_not_made_up(tmp_path: Path) -> None:
    (tmp_path / "file.gone").write_bytes(b'{"a": 1}\n')
    shown = first_rows(LocalStore(tmp_path), "file.gone", "gone", CsvOptions(), 5)
    assert (shown.rows, shown.why_not) == ([], "This version has no format gone.")


def test_every_format_has_a_media_type_and_is_known_to_the_client() -> None:
    assert {info.extension for info in FORMATS.values()} <= set(MEDIA_TYPES)
    assert set(get_args(api_types.Format)) == set(FORMATS)
