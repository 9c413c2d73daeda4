"""Programs that generators make of the OpenAPI document compile, and create an export at a running service."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service import Longshore

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
PYTHON = HERE.parents[1] / ".venv" / "generators" / "bin" / "python"

EXPECTED = {
    "state": "DONE",
    "index": "wallet-ledger",
    "refused": "expected a string, got a number",
}


@pytest.fixture(scope="module")
def document(service: Longshore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document of a running service."""
    file = tmp_path_factory.mktemp("document") / "openapi.json"
    file.write_text(httpx2.get(f"{service.address}/openapi.json").text, encoding="utf-8")
    return file


def run(folder: Path, *command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def run_generated(service: Longshore, folder: Path, *command: str | Path) -> dict[str, Any]:
    """The words of a program on the export that it created."""
    with service.client() as client:
        token = client.headers["authorization"].removeprefix("Bearer ")
    found: dict[str, Any] = json.loads(run(folder, *command, ADDRESS=service.address, TOKEN=token))
    assert 0 < found.pop("rows") < 20_000
    return found


@pytest.mark.skipif(not MODULES.is_dir(), reason="openapi-typescript comes with `make generators`")
def test_program_in_typescript_compiles_and_creates_an_export(
    service: Longshore, document: Path, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(HERE / "program.ts", tmp_path)
    run(tmp_path, MODULES / ".bin" / "openapi-typescript", document, "-o", "api.ts")
    types = (tmp_path / "api.ts").read_text(encoding="utf-8")
    assert 'operations["createTask"]' in types
    assert "{unknown}" not in types
    strict = ("--strict", "--noUncheckedIndexedAccess", "false", "--target", "es2022", "--module", "nodenext")
    run(tmp_path, MODULES / ".bin" / "tsc", *strict, "--skipLibCheck", "program.ts")
    assert run_generated(service, tmp_path, "node", "program.js") == EXPECTED


@pytest.mark.skipif(not PYTHON.is_file(), reason="openapi-python-client comes with `make generators`")
def test_client_in_python_creates_an_export(service: Longshore, document: Path, tmp_path: Path) -> None:
    programs = {"PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"}
    generate = (PYTHON.parent / "openapi-python-client", "generate", "--meta", "none", "--output-path", "longshore_api")
    output = run(tmp_path, *generate, "--path", document, **programs)
    warnings = [line for line in output.splitlines() if line.startswith("WARNING")]
    others = ("manifest.jws", "/metadata", "/query")  # they answer lines of JSON, or none
    assert [line for line in warnings if not any(path in line for path in others)] == [], output
    shutil.copy(HERE / "program.py", tmp_path)
    assert run_generated(service, tmp_path, PYTHON, "program.py") == EXPECTED
