"""Clients of the shared service."""

from collections.abc import Iterator

import pytest

from longshore import AsyncLongshore, Longshore
from longshore.access.tokens import Level
from tests import service as services
from tests.client.gateway import Gateway
from tests.conftest import SMALL_CHAIN


@pytest.fixture(scope="session")
def token(service: services.Longshore) -> str:
    """A token for the small chain."""
    return service.token(Level.WRITE, SMALL_CHAIN)


@pytest.fixture
def longshore(service: services.Longshore, token: str) -> Iterator[Longshore]:
    with Longshore(service.address, token, chain=SMALL_CHAIN) as client:
        yield client


@pytest.fixture
def awaited(service: services.Longshore, token: str) -> AsyncLongshore:
    return AsyncLongshore(service.address, token, chain=SMALL_CHAIN)


@pytest.fixture
def gateway(service: services.Longshore) -> Iterator[Gateway]:
    opened = Gateway(service.address)
    yield opened
    opened.close()


@pytest.fixture
def through(gateway: Gateway, token: str) -> Iterator[Longshore]:
    """A client that reaches the service through the gateway."""
    with Longshore(gateway.address, token, chain=SMALL_CHAIN, retry_for=10) as client:
        yield client
