"""The bucket that tests of results share."""

import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.results.bucket import BUCKET, KEY, SECRET, Relay, keys


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()
    running.stop()


@pytest.fixture
def relay(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    found = Relay(server)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.address)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    yield found
    found.hang = False
    found.close()


@pytest.fixture
def bucket(server: tuple[str, int], relay: Relay) -> Iterator[Any]:
    """A client of the server itself, past the relay, with an empty bucket."""
    assert relay
    made = boto3.client("s3", endpoint_url=f"http://{server[0]}:{server[1]}", region_name="us-east-1")
    made.create_bucket(Bucket=BUCKET)
    yield made
    for key in keys(made):
        made.delete_object(Bucket=BUCKET, Key=key)
