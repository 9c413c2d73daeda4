"""Endpoints without a credential: health, metrics, the OpenAPI document and its page."""

import re

import httpx2
import pytest

from longshore import __version__
from longshore.api.sharing_errors import is_sharing
from longshore.exports.target.deliver import MANY_FILES, ONE_FILE
from tests.answers import problem
from tests.locks import locked
from tests.service import Longshore


def test_health_and_readiness_are_open_to_all(idle_service: Longshore) -> None:
    idle_service.sql("delete from longshore.tasks where due_at < now()")  # of other tests, which no worker sees to
    assert httpx2.get(f"{idle_service.address}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{idle_service.address}/readyz").json() == {"status": "ready"}


def test_readiness_and_metrics_report_late_tasks_while_no_worker_runs(idle_service: Longshore) -> None:
    [row] = idle_service.sql(
        "insert into longshore.tasks (chain_id, description, action, trigger, target, debug, due_at)"
        " values (7200, '', 'export', '{}', '{}', '', now() - interval '2 minutes') returning id"
    )
    try:
        answer = httpx2.get(f"{idle_service.address}/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "late"})
    finally:
        idle_service.sql("delete from longshore.tasks where id = $1", row["id"])
    assert httpx2.get(f"{idle_service.address}/readyz").json() == {"status": "ready"}


def test_readiness_is_unavailable_while_the_database_does_not_answer(idle_service: Longshore) -> None:
    with locked(idle_service.url, "longshore.migrations"):
        problem(httpx2.get(f"{idle_service.address}/readyz", timeout=30), "unavailable")


def test_metrics_are_prometheus_text_and_count_requests(idle_service: Longshore) -> None:
    def not_found_count() -> float:
        answer = httpx2.get(f"{idle_service.address}/metrics")
        assert re.fullmatch(r"text/plain; version=[0-9.]+; charset=utf-8", answer.headers["content-type"])
        found = re.search(r'^longshore_http_requests_total\{method="GET",status="404"\} (.+)$', answer.text, re.M)
        return float(found[1]) if found else 0

    before = not_found_count()
    httpx2.get(f"{idle_service.address}/nothing")
    assert not_found_count() == before + 1


def test_unknown_method_has_no_metric_of_its_own(idle_service: Longshore) -> None:
    httpx2.request("BREW", f"{idle_service.address}/tasks")
    assert "BREW" not in httpx2.get(f"{idle_service.address}/metrics").text


def test_the_document_is_openapi_3_1_of_this_version(idle_service: Longshore) -> None:
    document = httpx2.get(f"{idle_service.address}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == __version__
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} >= {
        ("/tasks", "get"), ("/tasks", "post"), ("/tasks/{id}", "get"), ("/tasks/{id}/execute", "post"),
        ("/tasks/{id}/download_url", "get"),
    }  # fmt: skip
    assert document["paths"]["/tasks"]["get"]["security"] == [
        {"accessToken": ["read"]},
        {"sessionUserId": ["read"], "sessionKey": ["read"], "sessionChainId": ["read"]},
    ]


OTHERS = {
    "events": "text/event-stream",
    "manifest.jws": "application/jose",
    "metadata": "application/x-ndjson; charset=utf-8",
    "query": "application/x-ndjson; charset=utf-8",
}
"""The media types of answers that are not JSON, by the ends of their paths."""


def test_every_answer_that_the_document_names_is_described(idle_service: Longshore) -> None:
    document = httpx2.get(f"{idle_service.address}/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (path, method)
            for status, response in operation["responses"].items():
                assert response["description"], (path, method, status)
                media_type = (
                    "application/problem+json" if status >= "400" and not is_sharing(path) else "application/json"
                )
                if status == "200":
                    media_type = OTHERS.get(path.rpartition("/")[2], media_type)
                found = list(response.get("content", {}))
                assert found in ([media_type], []), (path, method, status)
                assert found or status in ("204", "304") or path.startswith("/delta-sharing/shares/"), (path, status)


def test_the_documents_task_has_the_contracts_keys_in_order(idle_service: Longshore) -> None:
    schemas = httpx2.get(f"{idle_service.address}/openapi.json").json()["components"]["schemas"]
    keys = ["id", "chain", "desc", "state", "trigger", "target", "logs", "debug", "version", "result"]
    assert list(schemas["Task"]["properties"]) == keys
    assert sorted(schemas["Task"]["required"]) == sorted(keys)


def test_document_names_the_paths_of_a_delivery_that_names_none(idle_service: Longshore) -> None:
    schemas = httpx2.get(f"{idle_service.address}/openapi.json").json()["components"]["schemas"]
    description = schemas["Deliver"]["properties"]["path"]["description"]
    for default in (ONE_FILE, MANY_FILES):
        assert f"`{default}`" in description


@pytest.mark.parametrize("path", ["/docs", "/docs/assets/swagger-ui.css"])
def test_documentation_page_names_no_other_host(idle_service: Longshore, path: str) -> None:
    text = httpx2.get(idle_service.address + path).text
    addresses = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)|url\(["']?([^"')]+)|@import\s+(\S+)""", text)
    for address in filter(None, (part for found in addresses for part in found)):
        assert address.startswith(("/docs/", "data:", "#")), address


def test_documentation_page_loads_files_that_exist(idle_service: Longshore) -> None:
    page = httpx2.get(f"{idle_service.address}/docs").text
    addresses = re.findall(r'(?:src|href|url)[=:] ?"(/[^"]+)"', page)
    assert len(addresses) == 3
    for address in addresses:
        answer = httpx2.get(idle_service.address + address)
        assert answer.status_code == 200
        assert answer.content


def test_document_names_the_refusals_of_each_body_head_and_condition(idle_service: Longshore) -> None:
    paths = httpx2.get(f"{idle_service.address}/openapi.json").json()["paths"]
    operations = [(path, method, one) for path, methods in paths.items() for method, one in methods.items()]
    for path, method, operation in operations:
        if path not in ("/healthz", "/readyz"):
            assert {"415", "431"} <= operation["responses"].keys(), (path, method)
        if method == "post":
            assert {"408", "413"} <= operation["responses"].keys(), path
    assert {"304", "412"} <= paths["/.well-known/longshore-keys.json"]["get"]["responses"].keys()
