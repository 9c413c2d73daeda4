"""The files in deploy/: no engine runs them here, so they are held against their schemas and the project itself."""

import contextlib
import ipaddress
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import kubernetes_validate
import pytest
import yaml

from longshore.api.routes import NEEDED
from longshore.cli.main import app
from longshore.parent_process import STOP_TIMEOUT_SECONDS
from longshore.settings import NAMES, Settings
from tests.command import failed, run
from tests.service import Longshore, ended, export_body, free_port

DEPLOY = Path(__file__).parents[1] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
KUBERNETES_TEXT = (DEPLOY / "kubernetes.yaml").read_text()
KUBERNETES = list(yaml.safe_load_all(KUBERNETES_TEXT))
COMMANDS = set(app.commands)
DONE = 'longshore_runs_total{action="export",state="DONE"}'
PARTS = ("_bucket", "_sum", "_count")  # of a histogram
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
    "text",
    [(DEPLOY / name).read_text() for name in ("compose.yaml", "kubernetes.yaml", "Dockerfile", "longshore.service")],
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
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        if probe in container
    ]
    assert {probe["path"] for probe in probes} == {"/healthz", "/readyz", "/metrics"}
    assert all(("GET", probe["path"]) in NEEDED for probe in probes)


def test_processes_that_wait_for_the_database_for_an_hour_are_not_killed() -> None:
    containers = [container for pod in pods() for container in pod["containers"] if "livenessProbe" in container]
    assert len(containers) == 2
    for container in containers:
        assert container["startupProbe"]["httpGet"] == container["livenessProbe"]["httpGet"]
        assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 3600


def test_unit_of_systemd_leaves_time_for_postgresql_to_stop_after_the_worker() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "longshore.service").read_text(), re.M)
    assert int(seconds) > Settings().shutdown_grace + STOP_TIMEOUT_SECONDS


def test_api_and_workers_have_a_source_and_a_catalog_that_is_mounted() -> None:
    needed = {"LONGSHORE_SOURCE_URL", "LONGSHORE_CATALOG"}
    settings = next(document["data"] for document in KUBERNETES if document["kind"] == "ConfigMap")
    secret = re.search(r"# +kubectl create secret generic longshore .*\n(?:# +--.*\n)+", KUBERNETES_TEXT)
    assert secret
    assert needed <= {*settings, *re.findall(r"LONGSHORE_\w+", secret[0])}
    folder = str(Path(settings["LONGSHORE_CATALOG"]).parent)
    for document in KUBERNETES:
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["mountPath"] == folder]
            (volume,) = [each for each in pod["volumes"] if each["name"] == mount["name"]]
            made = f"kubectl create configmap {volume['configMap']['name']} --from-file=catalog.toml"
            assert made in KUBERNETES_TEXT
    for name in ("api", "worker"):
        service = COMPOSE["services"][name]
        assert needed <= set(service["environment"])
        assert {each["target"] for each in service["configs"]} == {service["environment"]["LONGSHORE_CATALOG"]}
        assert {each["source"] for each in service["configs"]} == set(COMPOSE["configs"])


def test_commands_of_the_page_for_the_first_user_are_those_of_the_command_line() -> None:
    page = (DEPLOY.parent / "docs" / "deploy.md").read_text()
    commands = re.findall(r"^ +(?:docker compose .* exec|kubectl exec) .*? longshore (\w+) (\w+) (.*)$", page, re.M)
    assert len(commands) == 4
    for group, name, options in commands:
        known = {option for each in app.commands[group].commands[name].params for option in each.opts}  # type: ignore[attr-defined]
        assert set(re.findall(r"--[a-z]+", options)) <= known


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a linter of the environment."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_the_manifests_are_what_kubernetes_takes(version: str) -> None:
    for document in KUBERNETES:
        kubernetes_validate.validate(document, version, strict=True)
    job = next(document for document in KUBERNETES if document["kind"] == "Job")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**job, "spec": {**job["spec"], "backofLimit": 5}}, version, strict=True)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", ""),
        ("restart: unless-stopped", "restrat: unless-stopped"),
        ("service_completed_successfully", "service_completed"),
        ("retries: 30", "retires: 30"),
    ],
)
def test_the_compose_file_is_what_compose_takes(tmp_path: Path, right: str, wrong: str) -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert right in text
    file = tmp_path / "compose.yaml"
    file.write_text(text.replace(right, wrong) if right else text)
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)
    assert done.returncode == bool(right), done.stdout + done.stderr


def test_the_dockerfile_passes_hadolint(tmp_path: Path) -> None:
    done = tool("hadolint", "--no-color", DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr
    faulty = tmp_path / "Dockerfile"
    faulty.write_text((DEPLOY / "Dockerfile").read_text().replace("CMD [", "CMDS ["))
    assert tool("hadolint", faulty).returncode == 1


def test_nothing_runs_as_root_or_without_a_limit() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            assert container["resources"]["limits"]["memory"]
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert re.search(r"^USER 10001$", (DEPLOY / "Dockerfile").read_text(), re.M)


def test_containers_have_time_for_a_graceful_shutdown() -> None:
    needed = Settings().shutdown_grace + STOP_TIMEOUT_SECONDS
    worker = next(document for document in KUBERNETES if document["metadata"]["name"] == "longshore-worker")
    assert worker["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= needed
    assert int(COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("s")) >= needed


def test_nothing_starts_before_the_migration_is_through() -> None:
    for name in ("api", "worker"):
        assert COMPOSE["services"][name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    # Kubernetes waits for nothing, but starts again what refuses to start.
    assert all(pod.get("restartPolicy", "Always") in ("Always", "OnFailure") for pod in pods())


def test_images_of_others_are_named_by_digest() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    images = re.findall(r"^FROM (\S+)", dockerfile, re.M)
    images += [service["image"] for service in COMPOSE["services"].values() if "build" not in service]
    assert len(images) == 3
    for image in images:
        assert re.fullmatch(r"[a-z]+:[0-9a-z.-]+@sha256:[0-9a-f]{64}", image), image


def test_compose_publishes_its_port_on_loopback_alone() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_kubernetes_trusts_no_more_addresses_than_an_ingress_has() -> None:
    settings = next(document["data"] for document in KUBERNETES if document["kind"] == "ConfigMap")
    for network in settings["LONGSHORE_TRUSTED_PROXIES"].split(","):
        assert ipaddress.ip_network(network.strip()).num_addresses <= 256


def test_variables_that_kubernetes_sets_for_a_service_are_no_settings(tmp_path: Path) -> None:
    service = next(document for document in KUBERNETES if document["kind"] == "Service")
    assert service["metadata"]["name"] == "longshore"
    # Which is what each pod would otherwise meet: https://kubernetes.io/docs/concepts/services-networking/service/
    failed(run("settings", folder=tmp_path, port="tcp://10.96.0.11:80"), "port")
    assert all(pod["enableServiceLinks"] is False for pod in pods())


def test_what_selects_and_mounts_has_something_to_select_and_mount() -> None:
    labels = [
        document["spec"]["template"]["metadata"]["labels"]
        for document in KUBERNETES
        if document["kind"] == "Deployment"
    ]
    service = next(document for document in KUBERNETES if document["kind"] == "Service")
    assert service["spec"]["selector"] in labels
    budgets = [document for document in KUBERNETES if document["kind"] == "PodDisruptionBudget"]
    assert [budget["spec"]["selector"]["matchLabels"] for budget in budgets] == labels
    for pod in pods():
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    volumes = {name for each in COMPOSE["services"].values() for name in (v.split(":")[0] for v in each["volumes"])}
    assert volumes == set(COMPOSE["volumes"])
    needed = {name for each in COMPOSE["services"].values() for name in each.get("depends_on", {})}
    assert needed <= set(COMPOSE["services"])


@pytest.fixture(scope="module")
def metrics_text(service: Longshore) -> str:
    """Return the metrics of an API and a worker, once each has done something."""
    port = free_port()
    service.start("worker", worker_metrics_port=str(port))
    of_worker = ""
    deadline = time.monotonic() + 60
    with service.client() as client:
        client.get("/nothing")
        # Two workers share the tasks: until the new one is there and has had one.
        while not re.search(rf"^{re.escape(DONE)} [1-9]", of_worker, re.M):
            assert time.monotonic() < deadline, of_worker
            ended(client, client.post("/tasks", json=export_body()).json()["id"])
            with contextlib.suppress(httpx2.TransportError):
                of_worker = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    process = service.processes.pop()
    process.terminate()
    assert process.wait(20) == 0
    return httpx2.get(f"{service.address}/metrics").text + of_worker


@pytest.mark.parametrize("name", ["alerts.yaml", "grafana.json"])
def test_every_metric_of_alerts_and_dashboards_exists(metrics_text: str, name: str) -> None:
    text = (DEPLOY / name).read_text()
    document = yaml.safe_load(text) if name.endswith(".yaml") else json.loads(text)
    watched = {series for word in words(document) for series in SERIES.findall(word)}
    assert len(watched) >= 8
    assert not unknown(watched, metrics_text)


def unknown(watched: set[str], metrics_text: str) -> set[str]:
    """Return those of the series that no process exports."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", metrics_text, re.M))
    parts = {f"{name}{part}" for name, kind in kinds.items() if kind == "histogram" for part in PARTS}
    return watched - {name for name, kind in kinds.items() if kind != "histogram"} - parts


def test_a_missing_metric_is_found(metrics_text: str) -> None:
    # Misspelt, a counter without its ending, a histogram as a whole, a part that a gauge has not.
    wrong = {"longshore_worker", "longshore_runs", "longshore_run_seconds", "longshore_workers_count"}
    assert unknown({*wrong, "longshore_runs_total", "longshore_run_seconds_bucket"}, metrics_text) == wrong


def test_the_figures_are_those_of_the_database(service: Longshore, metrics_text: str) -> None:
    def greatest_value(series: str) -> float:
        return max(map(float, re.findall(rf"^{re.escape(series)} (\S+)$", metrics_text, re.M)))

    assert greatest_value("longshore_workers") >= 1
    assert 'longshore_tasks{chain_class="service",state="' in metrics_text
    assert greatest_value('longshore_runs_total{action="export",state="DONE"}') >= 1
    assert greatest_value('longshore_rows_total{action="export"}') >= 1
    assert greatest_value("longshore_queue_wait_seconds_count") >= 1
    assert service.sql("select count(*) from longshore.tasks where state = 'DONE'")[0][0] >= greatest_value(
        'longshore_tasks{chain_class="chain",state="DONE"}'
    )
