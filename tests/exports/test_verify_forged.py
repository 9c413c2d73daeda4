"""`longshore verify` refuses forged manifests and files in one line."""

import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from longshore.cli.main import app
from longshore.errors import LongshoreError
from longshore.exports.formats.records import MAX_ROW_BYTES
from longshore.exports.manifest import SUFFIX
from longshore.exports.verify import verify

TOTALS: dict[str, Any] = {"amount": "amount", "per": "kind", "sums": [{"value": "a", "rows": 1, "sum": "1.50"}]}
CSV = b"kind,amount\r\na,1.50\r\n"


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"kind": ["a"], "amount": [1.5]}), file)
    return file.getvalue()


@pytest.fixture
def write_result(tmp_path: Path) -> Callable[..., Path]:
    """Write a file with a manifest that has its size and hash; members of the manifest by name."""

    def make(data: bytes, format: str, **changes: Any) -> Path:
        path: Path = tmp_path / changes.get("file", f"made.{format}")
        path.write_bytes(data)
        manifest = {
            "version": 1, "file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows": 1,
            "chain": 1, "task": 1, "run": 1, "index": "i", "format": format, "schema": "", "segment": None,
            "fields": [{"name": "kind", "type": "keyword"}, {"name": "amount", "type": "number"}],
            "due": None, "interval": {"start": None, "end": "2026-05-26T12:00:00Z"},
            "snapshot": "2026-05-26T12:00:00Z", "previous": None, **changes,
        }  # fmt: skip
        path.with_name(path.name + SUFFIX).write_text(json.dumps(manifest))
        return path

    return make


def with_sum(text: str) -> dict[str, Any]:
    return {"totals": {**TOTALS, "sums": [{"value": "a", "rows": 1, "sum": text}]}}


def test_a_file_that_fits_its_manifest_passes(write_result: Callable[..., Path]) -> None:
    assert verify([write_result(CSV, "csv", totals=TOTALS)])[0].rows == 1


@pytest.mark.parametrize(
    ("data", "format", "changes"),
    [
        (CSV, "csv", with_sum("abc")),
        (CSV, "csv", with_sum("1E+999999999")),
        (CSV, "csv", with_sum("")),
        (CSV, "csv", {"totals": {**TOTALS, "amount": "missing"}}),
        (CSV, "csv", {"totals": {**TOTALS, "sums": TOTALS["sums"] * 2}}),
        (CSV, "csv", {"version": 2}),
        (CSV, "csv", {"csv": {"delimiter": '"'}}),
        (CSV, "csv", {"csv": {"delimiter": "\x00"}}),
        (CSV, "feather", {}),
        (b"\xff\xfe\x00", "csv", {}),
        (b"not gzip", "csv", {"file": "made.csv.gz"}),
        (gzip.compress(CSV, mtime=0)[:-9], "csv", {"file": "made.csv.gz"}),
        (b"not zstd", "csv", {"file": "made.csv.zst"}),
        (parquet_bytes()[:40], "parquet", {}),
        (parquet_bytes(), "parquet", {"totals": {**TOTALS, "per": "missing"}}),
        (b"", "parquet", {}),
        (b"garbage", "xlsx", {}),
        (b'{"kind":"a","amount":"x"}\n', "jsonl", {"totals": TOTALS}),
        (b'{"kind"\n', "jsonl", {"totals": TOTALS}),
        (b'[\n{"amount":1}\n]\n', "json", {"totals": TOTALS, "rows": 1}),
    ],
)
def test_a_forged_manifest_is_one_line_and_exit_code_1(
    write_result: Callable[..., Path], data: bytes, format: str, changes: dict[str, Any]
) -> None:
    path = write_result(data, format, **changes)
    with pytest.raises(LongshoreError) as caught:
        verify([path])
    assert "\n" not in str(caught.value)
    result = CliRunner().invoke(app, ["verify", str(path)])
    assert result.exit_code == 1
    assert "good" not in result.output


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_folder_is_no_result_file(name: str) -> None:
    with pytest.raises(LongshoreError):
        verify([Path(name)])


def test_a_deeply_nested_manifest_is_refused(write_result: Callable[..., Path]) -> None:
    path = write_result(CSV, "csv")
    beside = path.with_name(path.name + SUFFIX)
    beside.write_text(beside.read_text().replace("null", "[" * 100_000 + "]" * 100_000, 1))
    with pytest.raises(LongshoreError, match="is no manifest"):
        verify([path])


@pytest.mark.parametrize("format", ["csv", "json", "jsonl"])
@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a,b", "a'b", "$1", "é"])
def test_totals_of_a_column_with_any_name_are_checked(
    write_result: Callable[..., Path], format: str, name: str
) -> None:
    row = json.dumps({"kind": "a", name: 1.5})
    quoted = '"' + name.replace('"', '""') + '"'
    data = {"csv": f"kind,{quoted}\r\na,1.50\r\n", "json": f"[\n{row}\n]\n", "jsonl": f"{row}\n"}[format]
    fields = [{"name": "kind", "type": "keyword"}, {"name": name, "type": "number"}]
    changes = {"fields": fields, "totals": {**TOTALS, "amount": name}}
    assert verify([write_result(data.encode(), format, **changes)])[0].rows == 1
    wrong = {"fields": fields, "totals": {**with_sum("2")["totals"], "amount": name}}
    with pytest.raises(LongshoreError, match="the control totals differ"):
        verify([write_result(data.encode(), format, **wrong)])


def test_a_row_as_large_as_postgresql_sends_is_verified(write_result: Callable[..., Path]) -> None:
    fields = [{"name": name, "type": "keyword"} for name in ("kind", "amount", "note")]
    data = b"kind,amount,note\r\na,1.50," + b"x" * (257 << 20) + b"\r\n"
    assert verify([write_result(data, "csv", totals=TOTALS, fields=fields)])[0].rows == 1
    assert MAX_ROW_BYTES >= 2**30 - 1  # PostgreSQL's bound of a row's text
