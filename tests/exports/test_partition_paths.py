"""Paths of partitions: plain ASCII, inside their folder, different for different values, and read back by Arrow."""

from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.errors import LongshoreError
from longshore.exports.files.paths import DEFAULT, encoded_value, folder, index_folder, part_name
from longshore.exports.formats.records import Records, count_records, end_of_record

# A key and a value of ten characters each fit the name of a folder.
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10)
VALUES = st.one_of(
    st.none(), WORDS, st.sampled_from(["", ".", "..", "a/b", "%2F", "~", "=", "\\", DEFAULT, f"%5F{DEFAULT[1:]}"])
)


@given(WORDS, st.lists(st.tuples(WORDS, VALUES), max_size=3))
def test_a_path_is_ascii_stays_in_its_folder_and_has_one_level_for_each_key(
    index: str, keys: list[tuple[str, str | None]]
) -> None:
    path = folder(index, [key for key, _ in keys], [value for _, value in keys])
    parts = path.split("/")
    assert len(parts) == 1 + len(keys)
    assert set(path) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.%=/")
    assert not {".", ".."} & set(parts)
    for part, (key, value) in zip(parts[1:], keys, strict=True):
        name, _, shown = part.partition("=")
        assert unquote(name) == key
        assert shown == DEFAULT if not value else unquote(shown) == value


@given(VALUES, VALUES)
def test_two_values_have_one_folder_only_if_they_are_equal_or_both_missing(one: str | None, other: str | None) -> None:
    assert (encoded_value(one) == encoded_value(other)) == ((one or None) == (other or None))


@given(WORDS)
def test_arrow_reads_a_value_from_its_folder_as_it_was(value: str) -> None:
    hive = ds.HivePartitioning(pa.schema([("k", pa.string())]))
    parsed = hive.parse(f"/k={encoded_value(value)}/part-00001.csv")
    assert parsed.equals(ds.field("k") == value if value else ds.field("k").is_null())


def test_a_value_that_is_too_long_for_a_folder_is_named() -> None:
    with pytest.raises(LongshoreError, match="partition note = 'xxx"):
        folder("entries", ["note"], ["x" * 300])
    assert len(folder("entries", ["note"], ["x" * 250]).split("/")[1]) == 255


def test_name_of_an_index_does_not_lead_out_of_the_folder_of_the_run() -> None:
    assert index_folder("..") == "%2E%2E"
    assert index_folder("a.b/c") == "a.b%2Fc"
    assert part_name(1, "csv.gz") == "part-00001.csv.gz"
    assert part_name(12, "parquet", 3) == "part-003-00012.parquet"


RECORDS = st.lists(
    st.lists(st.sampled_from(['"a""b"', '"line\nfeed"', "plain", "", '""', '"\n\n"']), min_size=1, max_size=3).map(
        ",".join
    ),
    max_size=20,
)


@given(RECORDS, st.integers(1, 40), st.lists(st.integers(1, 60)))
def test_records_are_cut_at_the_same_places_however_the_text_arrives(
    records: list[str], size: int, cuts: list[int]
) -> None:
    text = "".join(f"{record}\n" for record in records).encode()

    def pieces(blocks: list[bytes]) -> list[bytes]:
        found = Records(size)
        return [piece for block in blocks for piece in found.add(block)] + [found.rest()]

    blocks, at = [], 0
    for cut in cuts:
        blocks.append(text[at : at + cut])
        at += cut
    assert pieces([*blocks, text[at:]]) == pieces([text])
    assert b"".join(pieces([text])) == text
    assert count_records(text, b'"') == len(records)
    for number in range(1, len(records) + 1):
        head = "".join(f"{record}\n" for record in records[:number]).encode()
        assert end_of_record(text, number, b'"') == len(head)
