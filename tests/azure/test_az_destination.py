"""Destinations in Azure Blob Storage, against its emulator from npm, which checks signatures."""

import subprocess
from collections.abc import Iterator

import pytest

from longshore.destinations.az import az_kind
from tests.azure.test_azure import ACCOUNT, CONTAINER, KEY, PROGRAM, make_container
from tests.destinations.servers import RCLONE, Made, process, random_file
from tests.service import free_port


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the emulated account, with an empty container."""
    port = free_port()
    options = ["--blobPort", str(port), "--location", str(tmp_path_factory.mktemp("azurite")), "--silent"]
    # rclone asks for a version of the protocol that is newer than the emulator.
    with process([PROGRAM, *options, "--disableTelemetry", "--skipApiVersionCheck"], port):
        address = f"http://127.0.0.1:{port}/{ACCOUNT}"
        make_container(address)
        yield address


@pytest.fixture
def place(azurite: str) -> Made:
    endpoint = azurite.replace(ACCOUNT, "{account}")
    return Made(az_kind(endpoint), {"account": ACCOUNT, "container": CONTAINER, "prefix": "in"}, {"account_key": KEY})


@pytest.mark.parametrize("size", [0, 1, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 20_000_001])
def test_file_of_any_size_is_read_back_by_another_program(place: Made, azurite: str, size: int) -> None:
    file = random_file(size)
    place.write(f"sizes/{size}.csv", file)
    environment = {
        "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_T_TYPE": "azureblob", "RCLONE_CONFIG_T_ACCOUNT": ACCOUNT,
        "RCLONE_CONFIG_T_KEY": KEY, "RCLONE_CONFIG_T_ENDPOINT": azurite,
    }  # fmt: skip
    command = [str(RCLONE), "cat", f"t:{CONTAINER}/in/sizes/{size}.csv"]
    found = subprocess.run(command, env=environment, capture_output=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout == file.content
    assert place.read(f"sizes/{size}.csv") == file.content


def test_the_test_of_a_good_destination_passes(place: Made) -> None:
    steps = place.test()
    assert [step.step for step in steps if step.ok] == [
        "resolve", "connect", "authenticate", "list", "write", "read", "upload", "delete"
    ], steps  # fmt: skip
