"""A result must have exactly the sums of the source, or it is not published."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import httpx2
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.errors import LongshoreError
from longshore.exports import catalog, readback, totals
from longshore.exports.formats.dialect import PROFILES, CsvOptions
from longshore.exports.manifest import SUFFIX, Manifest, ManifestField
from longshore.exports.totals import Sum, TotalColumns, Totals
from longshore.exports.verify import verify
from longshore.tasks.model import Interval
from tests.exports import test_formats
from tests.exports.incremental import Series
from tests.exports.test_formats import INDEX, ROWS, Row, quick, run
from tests.service import Longshore, downloaded, ended, export_body

things = test_formats.things

PLAIN = CsvOptions()

WAYS = [
    *(("csv", {"csv": msgspec.convert({"profile": profile}, CsvOptions)}) for profile in PROFILES),
    ("csv", {"csv": CsvOptions(header=False, null="0", quote_all=True)}),
    ("csv", {"compression": "gzip"}),
    ("json", {}),
    ("json", {"compression": "zstd"}),
    ("jsonl", {}),
    ("parquet", {}),
    ("xlsx", {}),
]


TOTALS_BY_CODE = TotalColumns("amount", "code", None)
SNAPSHOT = datetime(2026, 5, 26, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("totals")


def described(name: str, format: str, rows: int, csv: CsvOptions = PLAIN) -> Manifest:
    return Manifest(
        file=name, size=0, sha256="", rows=rows, chain=1764, task=1, run=1, due=None, interval=Interval(None, SNAPSHOT),
        index="things", format=format,
        fields=[ManifestField(field, "") for field in INDEX.fields], schema="", segment=None,
        snapshot=SNAPSHOT, previous=None, csv=csv,
    )  # fmt: skip


def opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def by_hand(rows: list[Row]) -> dict[str | None, tuple[int, Decimal]]:
    sums: dict[str | None, tuple[int, Decimal]] = {}
    for row in rows:
        value = row["words"] and row["words"].rstrip(" ")
        count, total = sums.get(value, (0, Decimal(0)))
        sums[value] = count + 1, total + (row["amount"] or 0)
    return sums


@quick
@given(rows=ROWS, way=st.sampled_from(WAYS), scale=st.sampled_from([4, None, 0]))
def test_any_file_of_any_format_adds_up_to_its_rows(
    things: str, folder: Path, rows: list[Row], way: tuple[str, dict[str, Any]], scale: int | None
) -> None:
    format, options = way
    extension = {"gzip": ".gz", "zstd": ".zst"}.get(options.get("compression", ""), "")
    path = folder / f"file.{format}{extension}"
    path.write_bytes(run(things, rows, format, **options))
    manifest = described(path.name, format, len(rows), options.get("csv", PLAIN))
    assert readback.sums(opener(path), manifest, TotalColumns("amount", "words", scale)) == by_hand(rows)
    assert readback.rows(opener(path), manifest) == len(rows)


def test_a_workbook_adds_up_by_days_and_with_amounts_that_are_text(things: str, tmp_path: Path) -> None:
    base = {"words": "", "code": "", "amount": None, "yes": None, "moment": None, "items": None}
    days = [date(2026, 5, 26), date(1900, 2, 28), date(2026, 5, 26), None]
    rows = [
        {"day": day, "count": count, **base}
        for day, count in zip(days, [2**62, 999_999_999_999_999, 1, 5], strict=True)
    ]
    path = tmp_path / "file.xlsx"
    path.write_bytes(run(things, rows, "xlsx"))
    assert readback.sums(opener(path), described(path.name, "xlsx", 4), TotalColumns("count", "day", None)) == {
        "2026-05-26": (2, Decimal(2**62 + 1)),
        "1900-02-28": (1, Decimal(999_999_999_999_999)),
        None: (1, Decimal(5)),
    }


@pytest.mark.parametrize("format", ["csv", "json", "jsonl"])
def test_amounts_that_no_fixed_scale_holds_are_added_up_exactly(tmp_path: Path, format: str) -> None:
    amounts = ["0." + "0" * 40 + "1", "9" * 60, "-0.5", "1", "Infinity"]
    path = tmp_path / f"file.{format}"
    names = ",".join(INDEX.fields)
    if format == "csv":
        lines = [f"1,a,,{amount},,,,,\r\n" for amount in amounts]
        path.write_text(names + "\r\n" + "".join(lines), newline="")
    else:
        written = [amount if amount[-1].isdigit() else f'"{amount}"' for amount in amounts]
        lines = [f'{{"words":"a","amount":{amount}}}' for amount in written]
        path.write_text("[\n" + ",\n".join(lines) + "\n]\n" if format == "json" else "\n".join(lines) + "\n")
    found = readback.sums(opener(path), described(path.name, format, len(amounts)), TotalColumns("amount", "words", 2))
    assert found == {"a": (5, Decimal("Infinity"))}


def test_amounts_of_parquet_whose_sum_has_more_than_38_digits_are_added_up_exactly(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    amounts = pa.array([Decimal("9" * 38)] * 20, type=pa.decimal128(38, 0))
    pq.write_table(pa.table({"words": ["a"] * 20, "amount": amounts}), path)
    found = readback.sums(opener(path), described(path.name, "parquet", 20), TotalColumns("amount", "words", 0))
    assert found == {"a": (20, Decimal(20 * int("9" * 38)))}


@quick
@given(values=st.lists(st.text("=\"' -+#a5\ntrue\u017f", max_size=8), min_size=1), escaped=st.booleans())
def test_keywords_of_a_spreadsheet_profile_are_read_back_as_the_source_has_them(
    things: str, folder: Path, values: list[str], escaped: bool
) -> None:
    # A keyword that the source itself spells as a formula of a quoted word can only be told apart where it is escaped.
    values = [value for value in values if escaped or not (value.startswith('="') and value.endswith('"'))]
    options = CsvOptions(profile="excel", escape_formulas=escaped)
    empty = dict.fromkeys(("day", "count", "words", "yes", "moment", "items"))
    rows = [{**empty, "code": value, "amount": Decimal(1)} for value in values]
    path = folder / "keywords.csv"
    path.write_bytes(run(things, rows, "csv", csv=options))
    found = readback.sums(opener(path), described(path.name, "csv", len(rows), options), TOTALS_BY_CODE)
    assert found == by_hand([{**row, "words": row["code"]} for row in rows])


def test_rows_that_are_longer_than_a_block_are_read(tmp_path: Path) -> None:
    long = "x" * (3 * readback.CHUNK_BYTES)
    path = tmp_path / "file.csv"
    path.write_text(",".join(INDEX.fields) + "\r\n" + f"1,a,{long},1.25,,,,,\r\n" * 2, newline="")
    assert readback.sums(opener(path), described(path.name, "csv", 2), TotalColumns("amount", "words", 2)) == {
        "a": (2, Decimal("2.50"))
    }


@pytest.mark.parametrize(
    "found",
    [
        {"€": (2, Decimal("3.01")), None: (1, Decimal(0))},
        {"€": (3, Decimal("3.00")), None: (1, Decimal(0))},
        {"€": (2, Decimal("3.00"))},
        {"€": (2, Decimal("3.00")), None: (1, Decimal(0)), "$": (1, Decimal(0))},
        {"€": (2, Decimal("NaN")), None: (1, Decimal(0))},
    ],
)
def test_a_file_that_differs_in_any_figure_is_refused(found: dict[str | None, tuple[int, Decimal]]) -> None:
    expected = Totals("amount", "currency", [Sum("€", 2, "3.00"), Sum(None, 1, "0")])
    totals.compare(expected, {"€": (2, Decimal("3")), None: (1, Decimal("0.00"))})
    with pytest.raises(LongshoreError, match="the control totals differ: of currency"):
        totals.compare(expected, found)


def test_a_run_whose_file_does_not_add_up_is_an_error_and_leaves_no_file(shop: Longshore) -> None:
    """The catalog's amount is random each time that it is read, so the file cannot have the sums of the source."""
    shop.sql("truncate shop.entries")
    shop.sql("insert into shop.entries (id) select n from generate_series(1, 50) n")
    with shop.client() as client:
        series = Series(client, False, "dice")
        assert series.execute() == "ERROR"
        assert series.messages()[-2].startswith(
            "failed: the control totals differ: of kind 'sale' there must be 50 rows, whose cast adds up to "
        )
        assert series.runs()[0]["result"] is None
        assert not list((shop.data / "results").rglob(f"*-{series.id}.csv*"))
        # Without the column there are no totals.
        assert Series(client, False, "dice", {"fields": ["kind"]}).execute() == "DONE"


def test_totals_of_too_many_values_end_the_run_and_name_the_field(shop: Longshore) -> None:
    shop.sql("drop table if exists shop.replaced")
    shop.sql(
        "create table shop.replaced as select n as id, 1764::bigint as chain_id, now() as at, n::text as kind"
        " from generate_series(1, 10001) n"
    )
    with shop.client() as client:
        series = Series(client, False, "replaced")
        assert series.execute() == "ERROR"
        assert series.messages()[-2] == (
            "failed: the control totals have a sum for each value of kind, and these rows have more than 10,000"
            " values; name a field of few values as `per` in the catalog"
        )
        shop.sql("delete from shop.replaced where id = 1")
        assert series.execute() == "DONE"


@pytest.mark.parametrize(("index", "amount", "per"), [
    ("wallet-ledger", "amount", "currency_symbol"), ("transactions", "total", "currency_code"),
])  # fmt: skip
def test_manifest_of_ledgers_and_baskets_has_the_sum_for_each_currency(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path, index: str, amount: str, per: str
) -> None:
    body = export_body("parquet", 1765)
    body["target"] |= {"export_index": index, "fields": ["id", {"name": per, "as": "money"}, amount]}
    task = ended(small_client, small_client.post("/tasks", json=body).json()["id"])
    assert task["state"]["code"] == "DONE", task
    manifest = small_client.get(f"/tasks/{task['id']}/runs/1/manifest")
    found = manifest.json()["totals"]
    assert (found["amount"], found["per"]) == (amount, "money")
    table = f"loyalty.{index.replace('-', '_')}"
    rows = service.sql(
        f"select {per} as value, count(*) as rows, sum({amount})::text as sum from {table}"
        " where chain_id = 1765 group by 1"
    )
    assert {one["value"]: one for one in found["sums"]} == {row["value"]: dict(row) for row in rows}

    path = tmp_path / task["result"]
    path.write_bytes(downloaded(small_client, task["id"]))
    beside = path.with_name(path.name + SUFFIX)
    beside.write_bytes(manifest.content)
    verify([path])
    changed = manifest.json()
    changed["totals"]["sums"][0]["sum"] += "1"
    beside.write_text(json.dumps(changed))
    with pytest.raises(LongshoreError, match="the control totals differ: of money"):
        verify([path])


@pytest.mark.parametrize("declared", ['{ amount = "words", per = "words" }', '{ amount = "id", per = "nothing" }'])
def test_a_catalog_cannot_declare_totals_of_other_types_or_missing_fields(tmp_path: Path, declared: str) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(
        '[odd]\ndescription = "x"\nrelation = "odd.values"\nchain = "chain_id"\ntime = "at"\nprefix = "Odd"\n'
        f"totals = {declared}\n[odd.fields]\n"
        'id = { type = "number", description = "x" }\nwords = { type = "keyword", description = "x" }\n'
    )
    with pytest.raises(LongshoreError, match=r"odd: `totals`: `(amount|per)` must be a field of type"):
        catalog.load(str(file))
