"""Backup and restore as docs/operations.md tells them: beside the retailer's own tables, which stay as they are."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2

from longshore.access.tokens import Level
from longshore.database.embedded import embedded_server
from longshore.database.embedded_server import programs
from longshore.demo.seed import seed
from tests.service import Longshore, ended, export_body, in_own_loop

DOCS = Path(__file__).parents[1] / "docs" / "operations.md"


ROWS = "select count(*) from loyalty.wallet_ledger where chain_id = 1764"


def test_a_service_goes_on_from_its_backup_in_the_database_of_a_retailer_and_on_another_server(
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
        signature = client.get(f"/tasks/{task}/runs/1/manifest.jws").text
        keys = client.get("/.well-known/longshore-keys.json").json()
        assert signature
        assert keys["keys"]

    dump, role, restore = re.findall(r"^ {4,7}((?:pg_dump|psql|pg_restore) .+)$", DOCS.read_text(), re.M)
    path = {"PATH": f"{programs()}:/usr/bin:/bin"}

    def commands(url: str, *lines: str) -> None:
        for line in lines:
            environment = {**path, "LONGSHORE_DATABASE_URL": url}
            done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True)
            assert done.returncode == 0, (line, done.stderr)

    commands(service.url, dump)
    with httpx2.Client(base_url=service.address, headers=bearer, timeout=60) as client:
        lost = client.post("/tasks", json=export_body()).json()["id"]
        assert ended(client, lost)["state"]["code"] == "DONE"
    service.stop()
    service.sql("delete from loyalty.wallet_ledger where chain_id = 1764 and id % 2 = 0")
    (left,) = service.sql(ROWS)[0]
    assert 0 < left < 1000
    commands(service.url, restore)
    assert service.sql(ROWS)[0][0] == left, "a restore leaves the retailer's tables alone"
    with embedded_server(tmp_path / "other") as url:
        commands(url, role, restore)
        in_own_loop(seed(url, 1000, lambda _: None))
        restored = Longshore(service.data, url)
        try:
            restored.start("worker")
            restored.start_api()
            with httpx2.Client(base_url=restored.address, headers=bearer, timeout=60) as client:
                assert client.get(f"/tasks/{task}", params={"log_limit": 1000}).json() == before
                assert client.get("/tasks").json() == listed
                assert client.get("/audit").json() == audit
                assert client.get(f"/tasks/{task}/runs/1/manifest.jws").text == signature
                assert client.get("/.well-known/longshore-keys.json").json() == keys
                again = client.post("/tasks", json=export_body()).json()["id"]
                assert again > task
                assert again == lost, "a restored service gives the numbers of lost tasks out again"
                assert ended(client, again)["logs"][1]["success"] == 1000
        finally:
            restored.stop()
