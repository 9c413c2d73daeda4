"""The servers that tests of destinations share."""

from collections.abc import Iterator

import pytest

from tests.destinations.gcs import TokenService, gcs
from tests.destinations.s3_servers import MotoServer, RcloneServer, rclone
from tests.destinations.sshd import Sshd, sshd


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneServer]:
    with rclone(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    server = MotoServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[tuple[str, TokenService]]:
    with gcs() as found:
        yield found


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as found:
        yield found
