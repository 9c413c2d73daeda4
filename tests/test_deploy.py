"""The files in deploy/: they cannot be run here, so what they name is checked against the project itself."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer.main
import yaml

from longshore.api.levels import NEEDED
from longshore.cli import app
from longshore.settings import NAMES
from tests.service import Longshore, ended, export_body, free_port

DEPLOY = Path(__file__).parents[1] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # it is a group
DONE = 'longshore_runs_total{action="export",state="DONE"}'
SERIES = re.compile(r"\blongshore_[a-z0-9_]+")


def words(found: Any) -> Iterator[str]:
    """Every key and text of a document."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield str(key)
            yield from words(value)
    elif isinstance(found, list):
        for each in found:
            yield from words(each)
    else:
        yield str(found)


def pods() -> Iterator[dict[str, Any]]:
    for document in KUBERNETES:
        if document["kind"] in ("Deployment", "Job"):
            yield document["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    "text", [(DEPLOY / name).read_text() for name in ("compose.yaml", "kubernetes.yaml", "Dockerfile")]
)
def test_every_setting_that_is_named_is_one(text: str) -> None:
    named = set(re.findall(r"\bLONGSHORE_[A-Z_]+", text))
    assert named
    assert {name.removeprefix("LONGSHORE_").lower() for name in named} <= set(NAMES)


def test_every_command_that_is_started_is_one() -> None:
    started = {service["command"][0] for service in COMPOSE["services"].values() if "command" in service}
    started |= {container["args"][0] for pod in pods() for container in pod["containers"]}
    assert started == {"api", "worker", "migrate"} <= COMMANDS
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["longshore"]' in dockerfile
    assert re.search(r'CMD \["(\w+)"\]', dockerfile)[1] in COMMANDS  # type: ignore[index]


def test_every_probe_asks_what_there_is() -> None:
    probes = [
        container[probe]["httpGet"]
        for pod in pods()
        for container in pod["containers"]
        for probe in ("livenessProbe", "readinessProbe")
        if probe in container
    ]
    assert {probe["path"] for probe in probes} == {"/healthz", "/readyz", "/metrics"}
    assert all(("GET", probe["path"]) in NEEDED for probe in probes)


def test_nothing_runs_as_root_or_without_a_limit() -> None:
    for pod in pods():
        for container in pod["containers"]:
            assert container["resources"]["limits"]["memory"]
    for document in KUBERNETES:
        if document["kind"] == "Deployment":
            assert document["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
    assert re.search(r"^USER 10001$", (DEPLOY / "Dockerfile").read_text(), re.M)


def test_what_selects_and_mounts_has_something_to_select_and_mount() -> None:
    labels = [
        document["spec"]["template"]["metadata"]["labels"]
        for document in KUBERNETES
        if document["kind"] == "Deployment"
    ]
    service = next(document for document in KUBERNETES if document["kind"] == "Service")
    assert service["spec"]["selector"] in labels
    volumes = {name for each in COMPOSE["services"].values() for name in (v.split(":")[0] for v in each["volumes"])}
    assert volumes == set(COMPOSE["volumes"])
    needed = {name for each in COMPOSE["services"].values() for name in each.get("depends_on", {})}
    assert needed <= set(COMPOSE["services"])


@pytest.fixture(scope="module")
def told(service: Longshore) -> str:
    """What an API and a worker tell Prometheus, once each has done something."""
    port = free_port()
    service.start("worker", worker_metrics_port=str(port))
    of_worker = ""
    deadline = time.monotonic() + 60
    with service.client() as client:
        client.get("/nothing")
        # Two workers share the tasks: until the new one is there and has had one.
        while DONE not in of_worker:
            assert time.monotonic() < deadline, of_worker
            ended(client, client.post("/tasks", json=export_body()).json()["id"])
            with contextlib.suppress(httpx2.TransportError):
                of_worker = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    process = service.processes.pop()
    process.terminate()
    assert process.wait(20) == 0
    return httpx2.get(f"{service.address}/metrics").text + of_worker


@pytest.mark.parametrize("name", ["alerts.yaml", "grafana.json"])
def test_every_metric_that_is_watched_is_told(told: str, name: str) -> None:
    text = (DEPLOY / name).read_text()
    document = yaml.safe_load(text) if name.endswith(".yaml") else json.loads(text)
    watched = {series for word in words(document) for series in SERIES.findall(word)}
    families = set(re.findall(r"^# TYPE (\S+) ", told, re.M))
    named = {re.sub(r"_(bucket|sum|count)$", "", series) for series in watched}
    assert len(named) >= 8
    assert named <= families, named - families


def test_the_figures_are_those_of_the_database(service: Longshore, told: str) -> None:
    def told_as(series: str) -> float:
        return max(map(float, re.findall(rf"^{re.escape(series)} (\S+)$", told, re.M)))

    assert told_as("longshore_workers") >= 1
    assert 'longshore_tasks{chain_class="service",state="' in told
    assert told_as('longshore_runs_total{action="export",state="DONE"}') >= 1
    assert told_as('longshore_rows_total{action="export"}') >= 1
    assert told_as("longshore_queue_wait_seconds_count") >= 1
    assert service.sql("select count(*) from longshore.tasks where state = 'DONE'")[0][0] >= told_as(
        'longshore_tasks{chain_class="retailer",state="DONE"}'
    )
