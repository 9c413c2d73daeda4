"""The page on results as tables does what it says: its blocks are run in order, as a reader would run them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.service import CHAIN, Longshore, ended
from tests.sharing.python_client import PYTHON

PAGE = Path(__file__).parents[2] / "docs" / "sharing.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.M | re.S)


def run(command: list[str], folder: Path, url: str, typed: str | None = None) -> str:
    """Run a command in a folder with logins of its own; `url` is that of the service's database."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(folder / "config"),
        "LONGSHORE_DATABASE_URL": url,
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, input=typed, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout


def free_name(service: Longshore, name: str) -> None:
    """Delete the task that another test has left under the name of the page's table."""
    named = "select id from longshore.tasks where chain_id = $1 and target::text ~* $2"
    with service.client() as client:
        for row in service.sql(named, CHAIN, f'"share_as": ?"{name}"'):
            client.post(f"/tasks/{row['id']}/cancel")
            ended(client, row["id"])
            assert client.delete(f"/tasks/{row['id']}").is_success


def test_page_on_results_as_tables_runs(service: Longshore, tmp_path: Path) -> None:
    free_name(service, "ledger")
    login = ["longshore", "login", "--address", service.address, "--chain", str(CHAIN)]
    run([str(Path(sys.executable).parent / login[0]), *login[1:]], tmp_path, service.url, service.token())
    outputs = []
    for language, block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [str(PYTHON), "-c"]
        text = block.replace("longshore login", f"longshore login --address {service.address}")
        outputs.append(run([*command, text], tmp_path, service.url))
    shell, pandas, version, duckdb = outputs
    assert f"{CHAIN}.exports.ledger" in shell
    assert pandas == "20000 rows\n"
    assert len(version.splitlines()) == 4
    kinds = service.sql("select distinct kind from loyalty.wallet_ledger where chain_id = $1", CHAIN)
    assert all(str(row[0]) in duckdb for row in kinds)
    assert "decimal(38,2)" in duckdb and "double" not in duckdb  # a column of whole numbers with NULLs stays one
    profile = json.loads((tmp_path / "longshore.share").read_text())
    level = "select level from longshore.access_tokens where id::text = $1"
    assert [row[0] for row in service.sql(level, profile["bearerToken"].partition(":")[0])] == ["read"]
    assert (tmp_path / "longshore.share").stat().st_mode & 0o777 == 0o600
