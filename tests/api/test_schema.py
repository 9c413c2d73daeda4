"""The running service against its own OpenAPI document, with requests that schemathesis makes up."""

import json
import os
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore.access.tokens import Level
from tests.service import CHAIN, Longshore, ended, export_body

PROGRAM = Path(sysconfig.get_path("scripts")) / "schemathesis"

# All checks but one: a body may fit the schema and still be refused with a 400, because a schema cannot say which
# indexes a catalog has, which operators go with which field, or that a segment's chain is the task's.
CHECKS = ("--checks", "all", "--exclude-checks", "positive_data_acceptance")

SHOWN = 12_000  # characters of a report's beginning, and of its end

# A precondition that fails is answered before the body is read: RFC 9110, section 13.2.1.
CONFIG = """[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 408, 409, 412, 413, 415, 422, 429]

"""

# The addresses of webhooks and of the action `http` are made up as well, and nothing must be sent to them.
KEEP_IN = (
    "create or replace function longshore.keep_in() returns trigger language plpgsql as $$ begin"
    " if tg_table_name = 'tasks' then"
    '   if new.action = \'http\' then new.target := \'{"action": "http", "url": "http://127.0.0.1:9/"}\'; end if;'
    "   return new; end if;"
    " return null; end $$",
    "create or replace trigger keep_in before insert or update on longshore.tasks"
    " for each row execute function longshore.keep_in()",
    "create or replace trigger keep_in before insert on longshore.webhook_deliveries"
    " for each row execute function longshore.keep_in()",
)
LET_OUT = ("drop trigger keep_in on longshore.webhook_deliveries", "drop trigger keep_in on longshore.tasks")


def judged(
    service: Longshore,
    folder: Path,
    *options: str,
    headers: dict[str, str],
    config: str = "",
    timeout: float = 500,
    without: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Let schemathesis find fault with the service, but for the paths `without`; the requests it made, and answers."""
    folder.mkdir(exist_ok=True)
    (folder / "schemathesis.toml").write_text(CONFIG + config)
    report = folder / "report.ndjson"
    command: list[str | Path] = [
        PROGRAM, "run", f"{service.address}/openapi.json", *CHECKS, "--request-timeout", "30",
        "--report", "ndjson", "--report-ndjson-path", report, "--no-color", *options,
    ]  # fmt: skip
    for path in without:
        command += ["--exclude-path", path]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    for statement in KEEP_IN:
        service.sql(statement)
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    finally:
        service.sql("delete from longshore.webhooks")  # other tests must not send messages to them
        for statement in LET_OUT:
            service.sql(statement)
    assert done.returncode == 0, beginning_and_end(done.stdout) + done.stderr[-2000:]
    counts = {path: len(methods) for path, methods in paths(service).items()}
    operations = sum(counts.values())
    assert f"{operations - sum(counts[path] for path in without)} selected / {operations} total" in done.stdout
    ended = (json.loads(line).get("ScenarioFinished") for line in report.read_text().splitlines())
    return [each for scenario in ended if scenario for each in scenario["recorder"]["interactions"].values()]


def beginning_and_end(text: str) -> str:
    """The text without its middle: the first failures are at its beginning, how to repeat them at its end."""
    left_out = len(text) - 2 * SHOWN
    return text if left_out <= 0 else f"{text[:SHOWN]}\n… {left_out:,} characters left out …\n{text[-SHOWN:]}"


def bearer(service: Longshore, level: Level) -> dict[str, str]:
    return {"Authorization": f"Bearer {service.token(level)}"}


def paths(service: Longshore) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = httpx2.get(f"{service.address}/openapi.json").json()["paths"]
    return found


@pytest.fixture(autouse=True)
def settled(service: Longshore) -> None:
    """Nothing comes next in any task, so that no request waits for it for longer than schemathesis does."""
    with service.client() as client:
        for row in service.sql("select id from longshore.tasks where chain_id = $1 and due_at is not null", CHAIN):
            client.post(f"/tasks/{row['id']}/cancel")


@pytest.mark.timeout(600)
def test_generated_requests_are_answered_within_the_schema(service: Longshore, tmp_path: Path) -> None:
    made_up = ("--max-examples", "20", "--generation-deterministic", "--phases", "coverage,fuzzing")
    assert judged(service, tmp_path, *made_up, headers=bearer(service, Level.WRITE))


def test_generated_requests_without_a_credential_are_answered_within_the_schema(
    service: Longshore, tmp_path: Path
) -> None:
    made_up = ("--generation-deterministic", "--max-examples", "2", "--phases", "fuzzing")
    assert judged(service, tmp_path, *made_up, headers={})


def test_generated_requests_for_an_existing_task_are_answered_within_the_schema(
    service: Longshore, tmp_path: Path
) -> None:
    # The example of `execute` names a time of this schedule. Other requests cancel theirs, so they have another task.
    body = export_body(once="2026-05-20T01:00:00Z", repeat="daily")
    with service.client() as client:
        task, executable = [client.post("/tasks", json=body).json()["id"] for _ in range(2)]
        for each in (task, executable):
            ended(client, each)
    config = (
        f'[parameters]\n"path.id" = {task}\n\n'
        f'[[operations]]\ninclude-path = "/tasks/{{id}}/execute"\nparameters = {{ "path.id" = {executable} }}\n'
    )
    made_up = (
        "--max-examples",
        "15",
        "--generation-deterministic",
        "--phases",
        "coverage,fuzzing",
        "--mode",
        "positive",
    )
    found = judged(service, tmp_path, *made_up, headers=bearer(service, Level.WRITE), config=config)
    executed = f"/tasks/{executable}/execute"
    assert any(
        executed in each["request"]["uri"] and each["response"] and each["response"]["status_code"] in (200, 202)
        for each in found
    ), "no request executed the task"
