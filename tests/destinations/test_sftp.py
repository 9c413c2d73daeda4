"""Files on OpenSSH's server, each user of which is closed into a folder."""

import asyncio
import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longshore.destinations import sftp_place
from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from tests.destinations.servers import BytesFile, SampleDestination, random_file
from tests.destinations.sshd import FULL_BYTES, Sshd, place_of, sshd
from tests.destinations.wire import Wire


@pytest.fixture
def place(ssh_server: Sshd) -> SampleDestination:
    return place_of(ssh_server)


@pytest.fixture
def wire(ssh_server: Sshd) -> Iterator[Wire]:
    found = Wire(ssh_server.port)
    yield found
    found.close()


def temporary_files(server: Sshd) -> list[Path]:
    return list(server.uploads.rglob(".longshore*"))


@pytest.mark.parametrize("size", [0, 1, 4 << 20, (4 << 20) + 1, 20_000_001])
def test_file_of_any_size_is_read_back_by_another_program(
    place: SampleDestination, ssh_server: Sshd, size: int, tmp_path: Path
) -> None:
    file = random_file(size)
    place.write(f"sizes/of/{size}.csv", file)
    ssh_server.sftp(f"get /in/sizes/of/{size}.csv {tmp_path}/back")
    assert (tmp_path / "back").read_bytes() == file.content
    assert place.read(f"sizes/of/{size}.csv") == file.content
    assert temporary_files(ssh_server) == []


def test_the_test_of_a_good_destination_leaves_nothing(place: SampleDestination, ssh_server: Sshd) -> None:
    steps = place.change(path="/in/tested/here").test()
    assert [step.step for step in steps if step.ok] == [
        "resolve", "connect", "host_key", "authenticate", "list", "write", "read", "rename", "delete"
    ], steps  # fmt: skip
    assert not any(step.detail for step in steps)
    assert list((ssh_server.uploads / "tested/here").iterdir()) == []


@pytest.mark.parametrize("name", ["a b.csv", "ü/日本.csv", "a%20+&'\"\\.csv", "-rf", "*.csv", "x" * 255])
def test_file_of_any_name_is_written_and_read(place: SampleDestination, ssh_server: Sshd, name: str) -> None:
    place.write(f"names/{name}", BytesFile(name.encode()))
    assert place.read(f"names/{name}") == name.encode()
    assert (ssh_server.uploads / "names" / name).read_bytes() == name.encode()


def test_name_that_the_server_does_not_take_is_a_permanent_error(place: SampleDestination) -> None:
    with pytest.raises(DestinationError, match="does not take the name"):
        place.write("x" * 256, BytesFile(b""))


@pytest.mark.parametrize("path", ["", "in", "/in/", "in/sub"])
def test_path_is_absolute_or_of_the_folder_in_which_a_session_begins(place: SampleDestination, path: str) -> None:
    made = place.change(path=path)
    name = "in/of-path.csv" if not path else f"of-path-{path.replace('/', '-')}.csv"
    made.write(name, BytesFile(b"x"))
    assert made.read(name) == b"x"


def test_another_file_is_replaced_only_where_the_task_says_so(place: SampleDestination, ssh_server: Sshd) -> None:
    place.write("other.csv", BytesFile(b"first"))
    written = ssh_server.uploads / "other.csv"
    before = written.stat().st_ino
    place.write("other.csv", BytesFile(b"first"), overwrite=True)
    assert written.stat().st_ino == before  # left as it is
    with pytest.raises(DestinationError, match=r"another file lies at /in/other\.csv"):
        place.write("other.csv", BytesFile(b"other"))
    assert written.read_bytes() == b"first"
    place.write("other.csv", BytesFile(b"other"), overwrite=True)
    assert written.read_bytes() == b"other"
    assert stat.S_IMODE(written.stat().st_mode) == 0o644
    assert temporary_files(ssh_server) == []


def test_file_that_appears_while_another_is_sent_is_not_replaced(place: SampleDestination, ssh_server: Sshd) -> None:
    class Interfering(BytesFile, frozen=True):
        def open(self) -> Any:
            (ssh_server.uploads / "race.csv").write_bytes(b"of another program")
            return super().open()

    with pytest.raises(DestinationError, match="another file"):
        place.write("race.csv", Interfering(b"ours"))
    assert (ssh_server.uploads / "race.csv").read_bytes() == b"of another program"
    place.discard("race.csv")
    assert temporary_files(ssh_server) == []


def test_file_that_the_server_damages_is_never_seen_under_its_name(place: SampleDestination, ssh_server: Sshd) -> None:
    class Damaged(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            chunk = super().read(size)
            if not chunk:  # all of it was written
                (temporary,) = temporary_files(ssh_server)
                temporary.write_bytes(b"X" + temporary.read_bytes()[1:])
            return chunk

    class DamagedFile(BytesFile, frozen=True):
        def open(self) -> Any:
            return Damaged(self.content)

    with pytest.raises(DestinationUnavailableError, match="other bytes than were written"):
        place.write("damaged.csv", DamagedFile(b"a file"))
    assert not (ssh_server.uploads / "damaged.csv").exists()
    assert temporary_files(ssh_server) == []


def test_file_that_a_program_takes_away_while_it_is_compared_is_written_again(
    place: SampleDestination, ssh_server: Sshd
) -> None:
    target = ssh_server.uploads / "taken.csv"

    class TakenFile(BytesFile, frozen=True):
        @property
        def size(self) -> int:  # which is compared with the size of the file that was found
            target.unlink(missing_ok=True)
            return len(self.content)

    place.write("taken.csv", BytesFile(b"taken"))
    assert place.write("taken.csv", TakenFile(b"taken")) == BytesFile(b"taken").sha256
    assert target.read_bytes() == b"taken"


def test_write_returns_the_hash_of_the_bytes_that_lie_at_the_server(place: SampleDestination) -> None:
    file = random_file(100_000)
    assert place.write("hashed.csv", file) == file.sha256
    assert place.write("hashed.csv", file) == file.sha256, "also where it lay there already"


def test_empty_file_that_cannot_be_written_again_is_removed_and_made_anew(
    place: SampleDestination, ssh_server: Sshd, wire: Wire
) -> None:
    file = random_file(9_000_000)
    wire.limit = cut_once(5_000_000)
    with pytest.raises(DestinationUnavailableError):
        place.change(port=wire.port).write("empty.csv", file)
    (temporary,) = temporary_files(ssh_server)
    temporary.write_bytes(b"")
    os.chown(temporary, 0, 0)
    place.write("empty.csv", file)
    assert (ssh_server.uploads / "empty.csv").read_bytes() == file.content
    assert temporary_files(ssh_server) == []


def cut_once(after: int) -> Callable[[], int]:
    limits = iter([after])
    return lambda: next(limits, -1)


def test_cut_transfer_goes_on_where_it_ended(place: SampleDestination, ssh_server: Sshd, wire: Wire) -> None:
    file = random_file(20_000_000)
    wire.limit = cut_once(12_000_000)
    cut = place.change(port=wire.port)
    with pytest.raises(DestinationUnavailableError):
        cut.write("cut.csv", file)
    assert not (ssh_server.uploads / "cut.csv").exists()
    (temporary,) = temporary_files(ssh_server)
    there = temporary.stat().st_size
    assert there > 4_000_000
    wire.limit, wire.passed = (lambda: 1 << 40), 0
    cut.write("cut.csv", file)
    assert (ssh_server.uploads / "cut.csv").read_bytes() == file.content
    assert wire.passed < 20_000_000 - there + 5_000_000, "the transfer began anew"
    assert temporary_files(ssh_server) == []


@pytest.mark.parametrize("left", ["other bytes", "longer", "a hole", "whole"])
def test_temporary_file_with_other_bytes_is_written_anew(
    place: SampleDestination, ssh_server: Sshd, wire: Wire, left: str
) -> None:
    file = random_file(9_000_000)
    name = f"left-{left.replace(' ', '-')}.csv"
    wire.limit = cut_once(6_000_000)
    with pytest.raises(DestinationUnavailableError):
        place.change(port=wire.port).write(name, file)
    (temporary,) = temporary_files(ssh_server)
    content = {
        "other bytes": os.urandom(5_000_000), "longer": file.content + b"more", "whole": file.content,
        "a hole": file.content[:100_000] + bytes(4_500_000) + file.content[4_600_000:5_000_000],
    }[left]  # fmt: skip
    temporary.write_bytes(content)
    place.write(name, file)
    assert (ssh_server.uploads / name).read_bytes() == file.content
    assert temporary_files(ssh_server) == []


def test_discard_removes_the_temporary_file_of_its_delivery_alone(
    place: SampleDestination, ssh_server: Sshd, wire: Wire
) -> None:
    for write_id in ("one", "two"):
        wire.limit = cut_once(5_000_000)
        with pytest.raises(DestinationUnavailableError):
            place.change(port=wire.port).write("thrown-away.csv", random_file(9_000_000), write_id=write_id)
    assert len(temporary_files(ssh_server)) == 2
    place.discard("thrown-away.csv", write_id="one")
    assert [".longshore-two-" in file.name for file in temporary_files(ssh_server)] == [True]
    place.discard("thrown-away.csv", write_id="two")
    place.discard("never/begun.csv", write_id="two")
    assert temporary_files(ssh_server) == []


def test_slow_connection_is_no_error(place: SampleDestination, ssh_server: Sshd, wire: Wire) -> None:
    wire.bytes_per_second = 2_000_000
    file = random_file(2_000_000)
    began = time.monotonic()
    place.change(port=wire.port).write("slow.csv", file)
    assert time.monotonic() - began > 0.9
    assert (ssh_server.uploads / "slow.csv").read_bytes() == file.content


def test_server_that_hangs_is_given_up(place: SampleDestination, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftp_place, "CALL_SECONDS", 1.0)
    made = place.change(port=wire.port)

    async def hang() -> None:
        async with made.kind.open(*made.values) as opened:
            wire.stopped.set()
            with pytest.raises(DestinationUnavailableError, match="does not answer in time"):
                await opened.write("hangs.csv", BytesFile(b"x"), "d", overwrite=False)  # type: ignore[union-attr]

    asyncio.run(hang())
    wire.stopped.clear()


def test_full_disk_is_a_transient_error_and_leaves_no_file(ssh_server: Sshd) -> None:
    place = place_of(ssh_server, "full")
    with pytest.raises(DestinationUnavailableError, match="disk full or read-only, or the quota of full used up"):
        place.write("large.csv", random_file(2 * FULL_BYTES))
    steps = place.test()
    assert steps[-1].step == "write" and not steps[-1].ok and "quota" in steps[-1].detail, steps
    place.discard("large.csv")
    place.write("small.csv", BytesFile(b"fits"))
    assert place.read("small.csv") == b"fits"


def test_server_without_posix_rename_replaces_nothing(tmp_path: Path) -> None:
    with sshd(tmp_path, sftp_options="-P posix-rename") as server:
        place = place_of(server)
        place.write("new.csv", BytesFile(b"first"))
        place.write("overwritten.csv", BytesFile(b"first"), overwrite=True)
        with pytest.raises(DestinationError, match=r"posix-rename@openssh\.com"):
            place.write("new.csv", BytesFile(b"other"), overwrite=True)
        assert (server.uploads / "new.csv").read_bytes() == b"first"
        assert temporary_files(server) == []
        (rename,) = (step for step in place.test() if step.step == "rename")
    assert (rename.ok, "posix-rename@openssh.com" in rename.detail) == (True, True)


def test_many_deliveries_make_one_folder_at_once(place: SampleDestination, ssh_server: Sshd) -> None:
    async def write_all() -> None:
        async with place.kind.open(*place.values) as opened:
            await asyncio.gather(
                *(opened.write(f"at/once/{n}.csv", BytesFile(b"x"), "d", overwrite=False) for n in range(20))  # type: ignore[union-attr]
            )

    asyncio.run(write_all())
    assert len(list((ssh_server.uploads / "at/once").iterdir())) == 20
