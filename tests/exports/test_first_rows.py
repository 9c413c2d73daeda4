"""The first rows of a result, read from the first bytes of its file."""

import gzip
from pathlib import Path
from typing import IO

import pytest
import zstandard

from longshore.exports.first_rows import MAX_BYTES, FirstRows, first_rows
from longshore.exports.formats.dialect import CsvOptions
from longshore.results.local import LocalStore

CSV = b'id,"name, full"\r\n1,"two\r\nlines"\r\n2,""\r\n'


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def read(store: LocalStore, name: str, content: bytes, format: str, count: int = 20, **options: object) -> FirstRows:
    path = store.path(f"1/1/1/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return first_rows(store, f"1/1/1/{name}", format, CsvOptions(**options), count)  # type: ignore[arg-type]


def test_csv_is_shown_by_its_dialect_and_its_line_breaks_belong_to_values(store: LocalStore) -> None:
    found = read(store, "a.csv", CSV, "csv")
    assert (found.columns, found.rows) == (["id", "name, full"], [["1", "two\r\nlines"], ["2", ""]])
    found = read(store, "b.csv", b"\xef\xbb\xbfid;x\r\n1;2,5\r\n", "csv", profile="excel-eu")
    assert (found.columns, found.rows) == (["id", "x"], [["1", "2,5"]])
    assert read(store, "n.csv", b"a\n\nx\n", "csv").rows == [[""], ["x"]], "NULL in the only column"
    assert read(store, "c.csv", b"1,2\n3,4\n", "csv", 1, header=False).rows == [["1", "2"]]


def test_json_keeps_the_digits_of_numbers(store: LocalStore) -> None:
    one = '{"id":1,"amount":12.10,"text":"é\\"","list":[{"a":1}],"none":null}'
    other = '{"id":2,"amount":123456789012345678901234567890.10,"text":"","list":[],"none":true}'
    rows = [["1", "12.10", 'é"', '[{"a":1}]', ""], ["2", "123456789012345678901234567890.10", "", "[]", "true"]]
    found = read(store, "a.json", f"[\n{one},\n{other}\n]\n".encode(), "json")
    assert (found.columns, found.rows) == (["id", "amount", "text", "list", "none"], rows)
    assert read(store, "a.jsonl", f"{one}\n{other}\n".encode(), "jsonl").rows == rows
    assert read(store, "b.json", b"[]\n", "json").rows == []


def test_compressed_files_of_several_members_are_read_and_a_long_file_is_cut_at_a_row(store: LocalStore) -> None:
    assert len(read(store, "a.csv.gz", gzip.compress(CSV) + gzip.compress(b"3,x\r\n"), "csv").rows) == 3
    frames = zstandard.compress(CSV) + zstandard.compress(b"3,x\r\n")
    assert len(read(store, "a.csv.zst", frames, "csv").rows) == 3
    long = b"id\r\n" + b"".join(b"%d %s\r\n" % (number, b"x" * 50_000) for number in range(9))
    for name, content in (("l.csv", long), ("l.csv.gz", gzip.compress(long)), ("l.csv.zst", zstandard.compress(long))):
        found = read(store, name, content, "csv")
        assert len(found.rows) == MAX_BYTES // 50_000
        assert all(row[0].endswith("x…") for row in found.rows)
    assert read(store, "one.csv", b"id\r\n" + b"x" * 300_000, "csv").rows == []


def test_formats_that_need_a_library_and_files_that_are_gone_say_why(store: LocalStore) -> None:
    assert "Parquet" in (read(store, "a.parquet", b"PAR1", "parquet").why_not or "")
    assert "spreadsheet" in (read(store, "a.xlsx", b"PK", "xlsx").why_not or "")
    assert "expired" in (first_rows(store, "1/1/2/a.csv", "csv", CsvOptions(), 5).why_not or "")


def test_a_file_that_expires_before_it_is_opened_is_gone(tmp_path: Path) -> None:
    class ExpiringStore(LocalStore):
        def exists(self, location: str) -> bool:
            found = super().exists(location)
            self.path(location).unlink(missing_ok=True)
            return found

        def open(self, location: str) -> IO[bytes]:
            self.path(location).unlink(missing_ok=True)
            return super().open(location)

    assert "expired" in (read(ExpiringStore(tmp_path), "a.csv", CSV, "csv").why_not or "")
