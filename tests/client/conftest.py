"""Clients of the shared service."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from longshore import AsyncLongshore, Longshore
from longshore.access.tokens import Level
from longshore.cli import main
from tests import service as services
from tests.client.gateway import Gateway
from tests.conftest import SMALL_CHAIN

Cli = Callable[..., tuple[int, str, str]]


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


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs `longshore …` in a new folder, with profiles of its own, and gives exit code, stdout and stderr."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        capsys.readouterr()
        code = main.run(arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def logged_in(cli: Cli, service: services.Longshore, token: str) -> Cli:
    """The same, logged in."""
    assert cli("login", "--address", service.address, "--chain", str(SMALL_CHAIN), typed=token)[0] == 0
    return cli
