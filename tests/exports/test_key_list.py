"""Key lists: what was written is read in order, and two lists differ by the keys that one has and the other has not."""

import hashlib
import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.errors import LongshoreError
from longshore.exports.increments import key_list
from longshore.exports.increments.key_list import KeyListWriter, differences

integers = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 40), unique=True).map(sorted)
texts = st.lists(st.binary(max_size=3) | st.sampled_from([b'"', b"\n", b"", b"\r\n,"]), unique=True).map(sorted)


def written(keys: Sequence[int | bytes], *, are_integers: bool) -> io.BytesIO:
    """Return a key list of the text that PostgreSQL copies, in blocks of some keys."""
    lines = [b"%d" % key if isinstance(key, int) else b'"%s"' % key.replace(b'"', b'""') for key in keys]
    file = Collected()
    writer = KeyListWriter(file, "id", integers=are_integers)
    some = max(3, len(lines) // 20)
    for start in range(0, len(lines), some):
        writer.add(b"".join(line + b"\n" for line in lines[start : start + some]))
    writer.end()
    assert (writer.rows, writer.size) == (len(keys), len(file.content))
    return io.BytesIO(file.content)


class Collected:
    """A file in memory."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, data: bytes) -> None:
        self.content += data


@pytest.mark.parametrize("sizes", [(1, 1), (4, 3), (1 << 17, 1 << 16)])
@pytest.mark.parametrize("are_integers", [True, False])
def test_difference_of_two_key_lists_is_the_keys_that_one_of_them_lacks(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], are_integers: bool
) -> None:
    for name, size in zip(("GROUP_ROWS", "BATCH_ROWS"), sizes, strict=True):
        monkeypatch.setattr(key_list, name, size)
    keys = integers if are_integers else texts

    @given(old=keys, new=keys, both=keys)
    def check(old: list[int | bytes], new: list[int | bytes], both: list[int | bytes]) -> None:
        before, after = sorted({*old, *both}), sorted({*new, *both})
        files = (written(keys, are_integers=are_integers) for keys in (before, after))
        pairs = list(differences(*files))
        assert [key for lost, _ in pairs for key in lost.to_pylist()] == sorted({*before} - {*after})
        assert [key for _, gained in pairs for key in gained.to_pylist()] == sorted({*after} - {*before})

    check()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1\n2\n2\n", "the value '2' twice"),
        (b"1\n\n", "is NULL in a row"),
        (b"2\n1\n", "in another order than asked for"),
    ],
)
@pytest.mark.parametrize("is_cut", [True, False])
def test_a_key_that_is_null_or_twice_or_out_of_order_is_refused(text: bytes, message: str, is_cut: bool) -> None:
    writer = KeyListWriter(Collected(), "id", integers=True)
    with pytest.raises(LongshoreError, match=message):
        for block in text.splitlines(keepends=True) if is_cut else [text]:
            writer.add(block)
        writer.end()
    writer.close()


def test_dense_integers_take_less_than_half_a_byte_each_and_uuids_less_than_twenty_bytes() -> None:
    dense = written(range(10_000_000, 10_050_000), are_integers=True)
    assert len(dense.getvalue()) < 25_000
    uuids = sorted(hashlib.md5(b"%d" % number).hexdigest().encode() for number in range(20_000))
    assert len(written(uuids, are_integers=False).getvalue()) < 20 * 20_000
