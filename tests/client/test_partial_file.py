"""The part of a download belongs to one download at a time."""

import hashlib
import io
import threading
from pathlib import Path
from typing import Any

from longshore.client.partial_file import PartialFile

CONTENT = b"0123456789" * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def test_two_downloads_of_one_file_at_a_time_write_parts_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    one, other = PartialFile(file, DIGEST, len(CONTENT)), PartialFile(file, DIGEST, len(CONTENT))
    assert one.path != other.path
    for at in range(0, len(CONTENT), 100):
        one.write(CONTENT[at : at + 100])
        other.write(CONTENT[at : at + 100])
    for part in (one, other):
        part.publish()
        assert file.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [file]


def test_part_that_was_given_up_is_resumed(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    first = PartialFile(file, DIGEST, len(CONTENT))
    first.write(CONTENT[:300])
    first.close()
    second = PartialFile(file, DIGEST, len(CONTENT))
    assert (second.path, second.size) == (first.path, 300)
    second.write(CONTENT[300:])
    second.publish()
    assert file.read_bytes() == CONTENT


def test_part_that_is_published_between_opening_and_locking_is_not_written_to(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    first = PartialFile(file, DIGEST, len(CONTENT))
    first.write(CONTENT)
    waiting = first.path.open("ab+")  # as another download that has not locked it yet
    first.publish()
    waiting.close()
    assert PartialFile(file, DIGEST, len(CONTENT)).size == 0
    assert file.read_bytes() == CONTENT


class SlowFile(io.FileIO):
    """A file of a disk that takes its time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "a+")
        self.writing, self.may_write = threading.Event(), threading.Event()

    def write(self, content: Any) -> int:
        self.writing.set()
        assert self.may_write.wait(30)
        return super().write(content)


def test_file_is_closed_after_the_write_of_a_download_that_was_cancelled(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path / "a.csv", DIGEST, len(CONTENT))
    partial.close()
    slow = SlowFile(partial.path)
    partial._file = slow
    writer = threading.Thread(target=partial.write, args=(CONTENT,))
    writer.start()
    assert slow.writing.wait(30)
    closer = threading.Thread(target=partial.close)
    closer.start()
    closer.join(0.1)
    was_closed = slow.closed
    slow.may_write.set()
    writer.join(30)
    closer.join(30)
    assert (was_closed, slow.closed, partial.path.read_bytes()) == (False, True, CONTENT)
