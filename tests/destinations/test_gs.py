"""Files in Google Cloud Storage: against an emulator, which asks for no token, beside a service that gives tokens."""

import json

import httpx2
import pytest

from tests.destinations.gcs import BUCKET, TokenService, place_of
from tests.destinations.servers import SampleDestination, random_file


@pytest.fixture
def place(gcs_server: tuple[str, TokenService]) -> SampleDestination:
    return place_of(gcs_server)


@pytest.mark.parametrize("size", [0, 1, 8 << 20, (8 << 20) + 1, 20_000_001])
def test_file_of_any_size_is_read_back_by_another_program(
    place: SampleDestination, gcs_server: tuple[str, TokenService], size: int
) -> None:
    file = random_file(size)
    place.write(f"sizes/{size}.csv", file)
    found = httpx2.get(f"{gcs_server[0]}/{BUCKET}/in/sizes/{size}.csv")
    assert found.status_code == 200
    assert found.content == file.content
    assert place.read(f"sizes/{size}.csv") == file.content


def test_the_test_of_a_good_destination_leaves_nothing(
    place: SampleDestination, gcs_server: tuple[str, TokenService]
) -> None:
    steps = place.change(prefix="tested").test()
    assert [step.step for step in steps if step.ok] == [
        "resolve", "connect", "authenticate", "list", "write", "read", "upload", "delete"
    ], steps  # fmt: skip
    listed = httpx2.get(f"{gcs_server[0]}/storage/v1/b/{BUCKET}/o", params={"prefix": "tested"}).json()
    assert not listed.get("items")


def test_key_file_may_be_sent_as_text(place: SampleDestination, gcs_server: tuple[str, TokenService]) -> None:
    made = place.with_secret(service_account=json.dumps(gcs_server[1].account()))
    assert made.test()[-1].ok
    assert gcs_server[1].claims["scope"] == "https://www.googleapis.com/auth/devstorage.read_write"
