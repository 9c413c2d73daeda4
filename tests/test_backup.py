"""Backup and restore as docs/operations.md tells them: into a PostgreSQL that has never seen the service."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2

from longshore.access.tokens import Level
from longshore.database.embedded import embedded_server, programs
from tests.service import Longshore, ended, export_body

DOCS = Path(__file__).parents[1] / "docs" / "operations.md"


def test_a_service_goes_on_from_its_backup_on_another_server(
    new_service: Callable[..., Longshore], tmp_path: Path
) -> None:
    service = new_service(rows=1000)
    service.start("worker")
    service.start_api()
    token = service.token(Level.ADMIN)
    bearer = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=service.address, headers=bearer, timeout=60) as client:
        task = client.post("/tasks", json=export_body()).json()["id"]
        before = ended(client, task)
        client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z"))
        listed, audit = client.get("/tasks").json(), client.get("/audit").json()
    service.stop()

    dump, role, restore = re.findall(r"^ {4,7}((?:pg_dump|psql|pg_restore) .+)$", DOCS.read_text(), re.M)
    path = {"PATH": f"{programs()}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", dump], cwd=tmp_path, env={**path, "LONGSHORE_DATABASE_URL": service.url}, check=True)
    with embedded_server(tmp_path / "other") as url:
        for command in (role, restore):
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env={**path, "LONGSHORE_DATABASE_URL": url}, capture_output=True
            )
            assert done.returncode == 0, done.stderr
        restored = Longshore(service.data, url)
        try:
            restored.start("worker")
            restored.start_api()
            with httpx2.Client(base_url=restored.address, headers=bearer, timeout=60) as client:
                assert client.get(f"/tasks/{task}", params={"log_limit": 1000}).json() == before
                assert client.get("/tasks").json() == listed
                assert client.get("/audit").json() == audit
                again = client.post("/tasks", json=export_body()).json()["id"]
                assert again > task
                assert ended(client, again)["logs"][1]["success"] == 1000
        finally:
            restored.stop()
