"""The processes that `serve` starts: asked without a proxy, and none left behind by a start that fails."""

import resource
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import granian
import pytest

from longshore import processes
from longshore.children import Children
from longshore.errors import LongshoreError
from longshore.processes import refuse_taken_port
from longshore.settings import Settings
from tests.service import Longshore, free_port


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response_only(200 if self.path == "/readyz" else 404)
        self.end_headers()


def test_readiness_of_the_api_is_not_asked_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    server = HTTPServer(("127.0.0.1", 0), Ready)
    thread = threading.Thread(target=server.handle_request, daemon=True)
    thread.start()
    server.timeout = 10
    children = Children(Settings(port=server.server_port, database_url="postgresql://unused"))
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(children.wait_until_ready()), daemon=True)
    asking.start()
    asking.join(10)
    assert found == [f"http://127.0.0.1:{server.server_port}"]
    thread.join()
    server.server_close()


def test_start_that_is_interrupted_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    actual = subprocess.Popen

    def start(*_: Any, **__: Any) -> subprocess.Popen[bytes]:
        if started:
            raise KeyboardInterrupt
        started.append(actual(["sleep", "60"]))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt), Children(Settings(database_url="postgresql://unused")):
        pass
    assert started[0].poll() is not None


def test_api_listens_on_the_address_that_a_host_name_has(service: Longshore, tmp_path: Path) -> None:
    named = Longshore(tmp_path, service.url)
    named.address = f"http://localhost:{named.port}"
    try:
        named.start_api(host="localhost")
    finally:
        named.stop()


def test_host_that_is_not_of_this_machine_is_refused_by_the_name_of_its_setting() -> None:
    with pytest.raises(LongshoreError, match="set LONGSHORE_HOST"):
        refuse_taken_port("192.0.2.1", free_port())


def test_api_starts_where_the_kernel_refuses_an_unlimited_number_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def on_startup(self, _: Any) -> None: ...

        def serve(self) -> None:
            events.append("served")

    def limit(_: int, limits: tuple[int, int]) -> None:
        if limits[0] == resource.RLIM_INFINITY or limits[0] > 2**20:
            raise ValueError("current limit exceeds maximum limit")
        events.append(limits)

    events: list[Any] = []
    monkeypatch.setenv("LONGSHORE_DATABASE_URL", "postgresql://unused")
    monkeypatch.setattr(granian, "Granian", Server)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", limit)
    processes.run_api(Settings(), "postgresql://unused")
    assert events == [(65_536, resource.RLIM_INFINITY), "served"]
