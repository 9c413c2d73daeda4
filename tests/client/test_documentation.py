"""The pages on the client do what they say: their blocks are run in order, as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from longshore.cli import app
from longshore.client.segment import F
from tests import service as services

DOCS = Path(__file__).parents[2] / "docs"
ADDRESS = "http://127.0.0.1:8080"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.M | re.S)


def run_blocks(page: str, service: services.Longshore, folder: Path) -> list[str]:
    """Run the blocks of a page in a folder, and give what each printed. Those in `text` are not for running."""
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LONGSHORE_DATABASE_URL": service.url,
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    told = []
    for language, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        block = text.replace(ADDRESS, service.address)
        name = re.match(r"# (\w+\.py)\n", block)
        if name:  # to be saved, not to be run
            (folder / name[1]).write_text(block)
            continue
        command = ["bash", "-euo", "pipefail", "-c", block] if language == "sh" else [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        told.append(done.stdout)
    return told


@pytest.fixture
def logged_in(service: services.Longshore, tmp_path: Path) -> Path:
    """A folder with a login of its own."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    command = [sys.executable, "-m", "longshore", "login", "--address", service.address, "--chain", "1764"]
    subprocess.run(command, env=environment, input=service.token(), text=True, check=True, timeout=60)
    return tmp_path


def test_the_tutorial_can_be_followed(service: services.Longshore, tmp_path: Path) -> None:
    told = run_blocks("tutorial.md", service, tmp_path)
    assert told[-1] == "20000 entries\n20000 entries\n"
    assert (tmp_path / "ledger.csv").is_file()
    assert (tmp_path / "config" / "longshore" / "profiles.json").is_file()
    assert not (tmp_path / "token.txt").exists()


def test_the_page_on_the_client_runs(service: services.Longshore, logged_in: Path) -> None:
    told = run_blocks("client.md", service, logged_in)
    assert (logged_in / "ledger.parquet").is_file()
    assert (logged_in / "amounts.csv").is_file()
    assert "INPROGRESS -> DONE" in told[2]
    assert told[-1] == "/target/export_index 'wallet-leger' is not known; did you mean 'wallet-ledger'?\n"


def test_the_page_on_the_command_line_runs(service: services.Longshore, logged_in: Path) -> None:
    assert run_blocks("cli.md", service, logged_in)[-1] == "DONE\n20000\n"


def test_every_method_of_the_builder_is_documented() -> None:
    page = (DOCS / "client.md").read_text(encoding="utf-8")
    methods = [name for name in vars(F) if not name.startswith("_") and name != "kind_in"]
    assert methods
    assert all(f".{name}(" in page for name in methods)


def test_every_command_is_documented() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    import typer.main

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    names = ["login", "export", "indexes", "segments", *(f"tasks {name}" for name in commands["tasks"].commands)]
    assert all(f"| `longshore {name}" in page for name in names)
