"""Files on OpenSSH's server, each user of which is closed into a folder."""

from pathlib import Path

import pytest

from tests.destinations.servers import Made, random_file
from tests.destinations.sshd import Sshd, place_of


@pytest.fixture
def place(ssh_server: Sshd) -> Made:
    return place_of(ssh_server)


@pytest.mark.parametrize("size", [0, 1, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 20_000_001])
def test_file_of_any_size_is_read_back_by_another_program(
    place: Made, ssh_server: Sshd, size: int, tmp_path: Path
) -> None:
    file = random_file(size)
    place.write(f"sizes/of/{size}.csv", file)
    ssh_server.sftp(f"get /in/sizes/of/{size}.csv {tmp_path}/back")
    assert (tmp_path / "back").read_bytes() == file.content
    assert place.read(f"sizes/of/{size}.csv") == file.content
    assert [found.name for found in (ssh_server.uploads / "sizes/of").iterdir() if "longshore" in found.name] == []


def test_the_test_of_a_good_destination_leaves_nothing(place: Made, ssh_server: Sshd) -> None:
    steps = place.change(path="/in/tested/here").test()
    assert [step.step for step in steps if step.ok] == [
        "resolve", "connect", "host_key", "authenticate", "list", "write", "read", "rename", "delete"
    ], steps  # fmt: skip
    assert not any(step.detail for step in steps)
    assert list((ssh_server.uploads / "tested/here").iterdir()) == []
