"""Destinations in Azure Blob Storage, against its emulator from npm, which checks signatures."""

import hmac
import io
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlencode

import pytest

from longshore.destinations.az import az_kind
from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from tests.azure.test_azure import ACCOUNT, CONTAINER, KEY, PROGRAM, make_container
from tests.destinations.servers import RCLONE, BytesFile, SampleDestination, process, random_file
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
def place(azurite: str) -> SampleDestination:
    endpoint = azurite.replace(ACCOUNT, "{account}")
    return SampleDestination(
        az_kind(endpoint), {"account": ACCOUNT, "container": CONTAINER, "prefix": "in"}, {"account_key": KEY}
    )


@pytest.mark.parametrize("size", [0, 1, 8 << 20, (8 << 20) + 1, 20_000_001])
def test_file_of_any_size_is_read_back_by_another_program(place: SampleDestination, azurite: str, size: int) -> None:
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


def test_the_test_of_a_good_destination_passes(place: SampleDestination) -> None:
    steps = place.test()
    assert [step.step for step in steps if step.ok] == [
        "resolve", "connect", "authenticate", "list", "write", "read", "upload", "delete"
    ], steps  # fmt: skip


def signature(permissions: str, expiry: str = "2099-01-01T00:00:00Z") -> str:
    """A shared access signature of the account for blobs.

    https://learn.microsoft.com/rest/api/storageservices/create-account-sas
    """
    fields = {"sp": permissions, "ss": "b", "srt": "co", "se": expiry, "spr": "https,http", "sv": "2020-08-04"}
    text = f"{ACCOUNT}\n{permissions}\nb\nco\n\n{expiry}\n\nhttps,http\n2020-08-04\n"
    signed = b64encode(hmac.digest(b64decode(KEY), text.encode(), "sha256")).decode()
    return urlencode({**fields, "sig": signed})


def test_shared_access_signature_of_the_documentation_is_enough(place: SampleDestination) -> None:
    made = place.with_secret(sas_token=signature("racwdl"))
    assert made.test()[-1].ok, made.test()
    file = random_file(9_000_000)
    made.write("by-signature.csv", file)
    assert place.read("by-signature.csv") == file.content


@pytest.mark.parametrize(
    ("permissions", "step", "expected"), [("racwd", "list", "list (l)"), ("rl", "write", "create and write (cw)"),
    ("acwdl", "read", "read (r)"), ("racwl", "delete", "delete (d)")],
)  # fmt: skip
def test_missing_permission_is_named(place: SampleDestination, permissions: str, step: str, expected: str) -> None:
    failed, detail = place.with_secret(sas_token=signature(permissions)).failure()
    assert (failed, expected in detail) == (step, True), detail


def test_wrong_credentials_and_a_missing_container_are_named(place: SampleDestination) -> None:
    other = b64encode(b"another key of this length ........").decode()
    _, detail = place.with_secret(account_key=other).failure()
    # The emulator answers as to a missing right; Azure says AuthenticationFailed.
    assert "account_key is wrong" in detail, detail
    _, detail = place.with_secret(sas_token=signature("racwdl", "2020-01-01T00:00:00Z")).failure()
    assert "expired" in detail, detail
    step, detail = place.change(container="nosuch").failure()
    assert (step, "container nosuch does not exist" in detail) == ("list", True), detail


def test_another_file_is_replaced_only_where_the_task_says_so(place: SampleDestination) -> None:
    for size in (10, 9_000_000):
        name, first, other = f"other-{size}.csv", random_file(size), random_file(size)
        place.write(name, first)
        place.write(name, first)
        with pytest.raises(DestinationError, match="another file lies at az://"):
            place.write(name, other)
        assert place.read(name) == first.content
        place.write(name, other, overwrite=True)
        assert place.read(name) == other.content


def test_file_that_appears_while_another_is_sent_is_not_replaced(place: SampleDestination) -> None:
    class Interfering(BytesFile, frozen=True):
        def open(self) -> IO[bytes]:
            place.write(f"race-{self.size}.csv", BytesFile(b"of another program"), overwrite=True, write_id="other")
            return io.BytesIO(self.content)

    def in_thread(size: int) -> None:
        with pytest.raises(DestinationError, match="another file"):
            place.write(f"race-{size}.csv", Interfering(bytes(size)))

    for size in (10, 9_000_000):
        in_thread(size)
        assert place.read(f"race-{size}.csv") == b"of another program"


def test_late_write_replaces_no_newer_file_even_where_it_may_overwrite(place: SampleDestination) -> None:
    for size in (10, 9_000_000):
        name = f"late-{size}.csv"
        place.write(name, BytesFile(b"earlier"))

        class Interfering(BytesFile, frozen=True):
            def open(self) -> IO[bytes]:
                place.write(f"late-{self.size}.csv", BytesFile(b"newer"), overwrite=True, write_id="other")
                return io.BytesIO(self.content)

        with pytest.raises(DestinationUnavailableError, match="was written or removed meanwhile"):
            place.write(name, Interfering(bytes(size)), overwrite=True)
        assert place.read(name) == b"newer"


def test_blocks_of_an_interrupted_delivery_are_no_part_of_the_next_one(place: SampleDestination) -> None:
    class Cut(BytesFile, frozen=True):
        def open(self) -> IO[bytes]:
            return io.BytesIO(self.content[:-1])

    with pytest.raises(DestinationUnavailableError, match="cut short"):
        place.write("cut.csv", Cut(bytes(20_000_000)), write_id="first")
    place.discard("cut.csv", write_id="first")
    file = random_file(12_000_000)
    place.write("cut.csv", file, write_id="second")
    assert place.read("cut.csv") == file.content


@pytest.mark.parametrize("name", ["a b+c%20.csv", "ü/日本&=?#.csv", "x" * 200])
def test_key_of_any_characters_is_signed_and_found(place: SampleDestination, name: str) -> None:
    place.write(name, BytesFile(name.encode()))
    assert place.read(name) == name.encode()
