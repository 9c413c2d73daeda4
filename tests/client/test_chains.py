"""A token for several chains: the client names its chain in every request to the service, and in no other request."""

import asyncio
import io
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from longshore import AsyncLongshore, F, Longshore
from longshore.access.tokens import Level, Scope
from longshore.cli.main import run
from longshore.client import ForbiddenError, NotFoundError
from longshore.client.blocking.transport import Transport
from longshore.client.connection import Connection
from longshore.client.requests import Request
from tests import service as services
from tests.conftest import SMALL_CHAIN

CHAIN_HEADER = "X-Session-Chain-Id"


@pytest.fixture(scope="module")
def shared(service: services.Longshore) -> str:
    """A token whose first chain is the large one, and which is for the small chain too."""
    return service.token(Level.WRITE, services.CHAIN, Scope(more_chains=[SMALL_CHAIN]))


def test_client_of_a_further_chain_sees_that_chain_alone(
    service: services.Longshore, shared: str, tmp_path: Path
) -> None:
    with (
        Longshore(service.address, shared, chain=services.CHAIN) as first,
        Longshore(service.address, shared, chain=SMALL_CHAIN) as further,
    ):
        other = first.exports.create("wallet-ledger", where=F("amount") > 10**9).wait(60)
        task = further.exports.create("wallet-ledger", where=F("amount") > 0)
        assert task.data.chain == SMALL_CHAIN
        task.wait(60, on_progress=lambda _: None)
        assert task.download(tmp_path).is_file()
        assert task.runs()[0].state == "DONE"
        assert {listed.data.chain for listed in further.tasks.list()} == {SMALL_CHAIN}
        assert {listed.data.chain for listed in first.tasks.list()} == {services.CHAIN}
        with pytest.raises(NotFoundError):
            further.tasks.get(other.id)
        with pytest.raises(NotFoundError):
            first.tasks.get(task.id)
        stored = further.segments.create("theirs", "wallet-ledger", F("amount") > 0)
        assert stored.chain == SMALL_CHAIN
        assert stored.id not in [listed.id for listed in first.segments.list(limit=100)]


def test_async_client_of_a_further_chain_sees_that_chain_alone(
    service: services.Longshore, shared: str, tmp_path: Path
) -> None:
    async def run() -> None:
        async with AsyncLongshore(service.address, shared, chain=SMALL_CHAIN) as client:
            task = await (await client.exports.create("wallet-ledger")).wait(60)
            assert task.data.chain == SMALL_CHAIN
            assert (await task.download(tmp_path)).is_file()
            assert {listed.data.chain for listed in await client.tasks.list()} == {SMALL_CHAIN}

    asyncio.run(run())


@pytest.mark.parametrize("chain", [9, 0])
def test_chain_that_the_token_is_not_for_is_refused_when_reading(
    service: services.Longshore, shared: str, token: str, chain: int
) -> None:
    for credential in (shared, token):
        with Longshore(service.address, credential, chain=chain) as client:
            with pytest.raises(ForbiddenError):
                client.tasks.list()
            with pytest.raises(ForbiddenError):
                client.tasks.get(1)


def test_client_of_chain_0_sees_the_tasks_of_the_service(service: services.Longshore) -> None:
    with Longshore(service.address, service.token(Level.READ, 0), chain=0) as client:
        assert {task.data.chain for task in client.tasks.list()} <= {0}


def test_command_line_uses_the_chain_of_its_profile(
    service: services.Longshore,
    shared: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def cli(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(shared))
        code = run(arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    login = ("login", "--address", service.address, "--chain")
    assert cli(*login, str(SMALL_CHAIN))[0] == 0
    assert cli("export", "wallet-ledger", "-o", "ledger.csv")[0] == 0
    listed = json.loads(cli("tasks", "list", "--json")[1])
    assert {task["chain"] for task in listed} == {SMALL_CHAIN}
    code, _, error = cli(*login, "9", "--profile", "other")
    assert code == 4
    assert error.startswith("longshore: the token is not for chain 9; ")
    assert cli("tasks", "list", "--profile", "other")[0] == 2


@pytest.fixture
def store() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of something that is not the service, and the headers of the last request that it got."""
    headers: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.clear()
            headers.update(self.headers.items())
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", headers
    server.shutdown()
    thread.join()
    server.server_close()


def test_token_and_chain_go_to_the_service_and_never_to_a_store(store: tuple[str, dict[str, str]]) -> None:
    address, headers = store
    transport = Transport(Connection(address, "id:secret", 1765, 5, 5), True, None, None)
    transport.send(Request(method="GET", url="/tasks"))
    assert (headers["Authorization"], headers[CHAIN_HEADER]) == ("Bearer id:secret", "1765")
    transport.send(Request(method="GET", url=f"{address}/results/file.csv?signature=x"))
    assert not {"authorization", CHAIN_HEADER.lower()} & {name.lower() for name in headers}
    transport.close()
