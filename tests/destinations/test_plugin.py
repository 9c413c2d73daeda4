"""Kinds plug in: the package that `docs/extending.md` builds, against rclone's WebDAV server."""

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from longshore.access.tokens import Level
from longshore.destinations import DestinationError, DestinationUnavailableError, Kind
from longshore.settings import Settings
from tests import plugin
from tests.answers import violations
from tests.destinations.front import Front, ProxyReply
from tests.destinations.servers import RCLONE, SampleDestination, process, random_file
from tests.destinations.test_slow_results import SILENT_SECONDS, SilentFile, longest_pause
from tests.service import Longshore, database_in, downloaded, ended, export_body, free_port

SECRET = {"password": "hunter2"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plugin.install(tmp_path_factory.mktemp("plugin"), "A kind of destination")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    command: list[str | Path] = [
        RCLONE, "serve", "webdav", f"--addr=127.0.0.1:{port}", "--user=anna", "--pass=hunter2", "--config=/dev/null",
        "--log-level=ERROR", tmp_path_factory.mktemp("webdav"),
    ]  # fmt: skip
    with process(command, port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def place(site: Path, server: str) -> Iterator[SampleDestination]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        kind: Kind = importlib.import_module("webdav_destination").webdav(Settings())
        yield SampleDestination(kind, {"url": server, "username": "anna"}, SECRET)
        del sys.modules["webdav_destination"]


@pytest.fixture(scope="module")
def extended_service(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Longshore]:
    """A service with the package installed, whose chain 1764 may reach loopback."""
    folder = tmp_path_factory.mktemp("plugged")
    with pytest.MonkeyPatch.context() as patch, database_in(folder, 100) as url:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ["PYTHONPATH"]]))
        longshore = Longshore(folder, url, chain_outbound_allow="1764=127.0.0.0/8")
        try:
            longshore.start("worker")
            longshore.start_api()
            yield longshore
        finally:
            longshore.stop()


@pytest.fixture(scope="module")
def client(extended_service: Longshore) -> Iterator[httpx2.Client]:
    with extended_service.client(Level.ADMIN) as found:
        yield found


def body(server: str, **settings: str) -> dict[str, object]:
    return {
        "name": "archive", "kind": "webdav", "settings": {"url": server, "username": "anna", **settings},
        "secret": SECRET,
    }  # fmt: skip


def test_kind_of_an_installed_package_is_listed_tested_and_stored(client: httpx2.Client, server: str) -> None:
    [kind] = [kind for kind in client.get("/destination_kinds").json() if kind["kind"] == "webdav"]
    assert (kind["takes"], kind["settings"]["required"]) == ("files", ["url", "username"])
    steps = [{"step": "write", "ok": True}, {"step": "delete", "ok": True}]
    assert client.post("/destinations/test", json=body(server)).json() == {"ok": True, "steps": steps}
    wrong = client.post("/destinations/test", json={**body(server), "secret": {"password": "x"}}).json()
    assert (wrong["ok"], wrong["steps"][-1]["detail"]) == (False, f"PUT {server}/.longshore-test: 401")
    made = client.post("/destinations", json=body(server))
    assert made.status_code == 201, made.text
    assert client.post(f"/destinations/{made.json()['id']}/test").json()["ok"] is True


def test_kind_of_a_package_reaches_the_networks_of_its_chain_alone(client: httpx2.Client, server: str) -> None:
    assert set(violations(client.post("/destinations", json=body("http://10.1.2.3/")))) == {"/settings/url"}
    named = client.post("/destinations/test", json=body(f"http://localhost:{server.rpartition(':')[2]}")).json()
    assert named["ok"] is True


def test_networks_of_a_chain_are_for_its_webhooks_and_http_tasks_too(extended_service: Longshore) -> None:
    for chain, status in ((1764, 201), (1765, 400)):
        target = {"action": "http", "url": "http://127.0.0.1:9/"}
        task = {"chain": chain, "desc": "", "trigger": {"once": "2126-05-26T12:00:00Z"}, "target": target}
        with extended_service.client(chain=chain) as client:
            assert client.post("/webhooks", json={"chain": chain, "url": "http://127.0.0.1:9/"}).status_code == status
            assert client.post("/tasks", json=task).status_code == status


def test_result_is_delivered_by_the_kind_of_a_package(
    client: httpx2.Client, place: SampleDestination, server: str
) -> None:
    made = {**body(server), "name": "results"}
    assert client.post("/destinations", json=made).status_code == 201
    wanted = export_body()
    wanted["target"]["deliver"] = [{"destination": "results", "path": "{index}/{run}-{name}"}]
    task = client.post("/tasks", json=wanted).json()["id"]
    found = ended(client, task)
    assert found["state"]["code"] == "DONE", found
    assert place.read(f"wallet-ledger/1-{found['result']}") == downloaded(client, task)
    [delivery] = client.get(f"/tasks/{task}/runs/1/deliveries").json()
    assert delivery["state"] == "delivered"
    [kept] = [one for one in client.get("/destinations").json() if one["name"] == "results"]
    assert client.delete(f"/destinations/{kept['id']}").status_code == 204


def test_kind_of_a_package_writes_files_whole_or_not_at_all(place: SampleDestination) -> None:
    file, other = random_file(3_000_000), random_file(10)
    place.write("loyalty/2026/users.csv", file)
    assert place.read("loyalty/2026/users.csv") == file.content
    place.write("loyalty/2026/users.csv", file)
    with pytest.raises(DestinationError, match="another file is at"):
        place.write("loyalty/2026/users.csv", other)
    assert place.read("loyalty/2026/users.csv") == file.content
    place.write("loyalty/2026/users.csv", other, overwrite=True)
    assert place.read("loyalty/2026/users.csv") == other.content
    with pytest.raises(DestinationError):
        place.read("loyalty/2026/users.csv.d1-r1")


@pytest.fixture
def front(server: str) -> Iterator[Front]:
    """A server before that of WebDAV, which can fail."""
    host, _, port = server.removeprefix("http://").rpartition(":")
    made = Front((host, int(port)))
    yield made
    made.close()


@pytest.mark.parametrize(
    "reply",
    [ProxyReply(503), ProxyReply(429), ProxyReply(drops=True), ProxyReply(cuts_after=1000)],
    ids=["503", "429", "no answer", "half an answer"],
)
def test_file_that_cannot_be_read_back_for_now_is_delivered_again_by_the_kind_of_a_package(
    place: SampleDestination, front: Front, reply: ProxyReply
) -> None:
    place.write("read/back.csv", file := random_file(300_000), overwrite=True)
    behind = place.change(url=front.address)
    front.rule = lambda seen: reply if seen.method == "GET" else None
    with pytest.raises(DestinationUnavailableError, match="GET http"):
        behind.read("read/back.csv")
    front.rule = lambda _: ProxyReply(403)
    with pytest.raises(DestinationError, match="403"):
        behind.read("read/back.csv")
    front.rule = lambda _: None
    assert behind.read("read/back.csv") == file.content


def test_cancelled_delivery_by_the_kind_of_a_package_leaves_the_event_loop_free(place: SampleDestination) -> None:
    file = SilentFile(b"x", [], 0, threading.Event())
    assert longest_pause(place, "silent.csv", file) < SILENT_SECONDS / 4, "the loop waited for the store"
