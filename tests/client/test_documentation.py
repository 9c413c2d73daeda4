"""The pages on the client do what they say: their blocks are run in order, as a reader would run them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from longshore import Longshore
from longshore.cli import where
from longshore.cli.app import RUN_A_SERVICE, USE_A_SERVICE
from longshore.cli.main import app
from longshore.client.blocking.resource import Resource
from longshore.client.blocking.task import Task
from longshore.client.segment import F
from tests import service as services
from tests.sharing.python_client import PYTHON

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
        "LONGSHORE_TOKEN": service.token(),
    }
    outputs = []
    for language, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        block = text.replace(ADDRESS, service.address)
        name = re.match(r"# (\w+\.py)\n", block)
        if name:  # to be saved, not to be run
            (folder / name[1]).write_text(block)
            continue
        command = ["bash", "-euo", "pipefail", "-c", block] if language == "sh" else [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        outputs.append(done.stdout)
    return outputs


@pytest.fixture
def logged_in(service: services.Longshore, tmp_path: Path) -> Path:
    """A folder with a login of its own."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    command = [sys.executable, "-m", "longshore", "login", "--address", service.address, "--chain", "1764"]
    subprocess.run(command, env=environment, input=service.token(), text=True, check=True, timeout=60)
    return tmp_path


def test_the_tutorial_can_be_followed(service: services.Longshore, tmp_path: Path) -> None:
    outputs = run_blocks("tutorial.md", service, tmp_path)
    assert outputs[-1] == "20000 entries\n20000 entries\n"
    assert (tmp_path / "ledger.csv").is_file()
    assert (tmp_path / "config" / "longshore" / "profiles.json").is_file()
    assert not (tmp_path / "token.txt").exists()


def test_the_page_on_the_client_runs(service: services.Longshore, logged_in: Path) -> None:
    outputs = run_blocks("client.md", service, logged_in)
    assert (logged_in / "ledger.parquet").is_file()
    assert (logged_in / "amounts.csv").is_file()
    assert outputs[2].startswith("<Longshore http://127.0.0.1:")
    assert "INPROGRESS -> DONE" in outputs[3]
    assert outputs[4].endswith("INPROGRESS -> DONE\n")
    assert "20000 rows\n" in outputs
    assert outputs[-1] == '/target/export_index "wallet-leger" is not known; did you mean "wallet-ledger"?\n'


def test_the_page_on_the_command_line_runs(service: services.Longshore, logged_in: Path) -> None:
    assert run_blocks("cli.md", service, logged_in)[-1] == "DONE\n20000\n"


def test_the_page_on_proving_a_result_runs(service: services.Longshore, logged_in: Path) -> None:
    outputs = run_blocks("verify.md", service, logged_in)
    message = r"Wallet_Export-\d+\.csv: run 1, 20,000 rows, SHA-256 [0-9a-f]{64}, signed: good"
    assert re.fullmatch(message, outputs[0].splitlines()[-1])
    assert outputs[1].startswith("signed by ")


def test_the_page_on_warehouses_runs_in_python(service: services.Longshore, logged_in: Path) -> None:
    shutil.copy(DOCS / "integrations" / "duckdb_copy.py", logged_in)
    run_blocks("integrations.md", service, logged_in)
    with duckdb.connect(str(logged_in / "warehouse.duckdb")) as warehouse:
        assert warehouse.execute("select count(*) > 0 from users").fetchone() == (True,)


def test_page_on_the_client_names_every_method_of_the_client() -> None:
    page = (DOCS / "client.md").read_text(encoding="utf-8")
    with Longshore(ADDRESS, "a:b", chain=1764) as client:
        resources = [each for name, each in vars(client).items() if isinstance(each, Resource) and name[0] != "_"]
    methods = {name for kind in (*map(type, resources), Task) for name in dir(kind) if callable(getattr(kind, name))}
    assert [name for name in sorted(methods) if name[0] != "_" and f"{name}(" not in page] == []


def test_every_method_of_the_builder_is_documented() -> None:
    page = (DOCS / "client.md").read_text(encoding="utf-8")
    methods = [name for name in vars(F) if not name.startswith("_") and name != "kind_in"]
    assert methods
    assert all(f".{name}(" in page for name in methods)


def test_every_command_for_users_is_documented_with_the_options_of_an_export() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    users, _, operators = page.partition("## Commands to run a service")
    assert sorted(app.commands) == sorted((*USE_A_SERVICE, *RUN_A_SERVICE)), "`longshore --help` lists all"
    for name, command in app.commands.items():
        inner = getattr(command, "commands", None)
        if name not in USE_A_SERVICE:
            assert f"`{name}`" in operators, name
        for full in [f"{name} {each}" for each in inner or {}] or [name]:
            assert name not in USE_A_SERVICE or f"| `longshore {full}" in users, full
    general = {"--json", "--profile", "--help"}
    options = {option for each in app.commands["export"].params for option in each.opts if option.startswith("--")}
    table = users.partition("## Exports")[2].partition("### Conditions")[0]
    assert not [option for option in options - general - {"--output"} if f"`{option}" not in table]
    assert not [name for name in where.RULES if f"`{name}`" not in users]


def test_each_endpoint_gets_a_page_made_from_the_services_own_document(tmp_path: Path) -> None:
    code = "import pathlib, sys, http_pages; http_pages.write(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=DOCS, check=True, timeout=60)
    page = (tmp_path / "create-task.md").read_text(encoding="utf-8")
    assert page.startswith("# POST /tasks\n")
    assert "Needs the level `write`." in page
    assert '"export_index": "wallet-ledger"' in page
    assert "[Problem](schemas.md#problem)" in page
    assert "[`GET /tasks/{id}`](get-task.md)" in (tmp_path / "index.md").read_text(encoding="utf-8")
    assert "## NewTaskBody" in (tmp_path / "schemas.md").read_text(encoding="utf-8")


def indented_blocks(page: Path) -> list[str]:
    """The blocks of a page that are code by their indentation."""
    found = re.findall(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n", page.read_text(encoding="utf-8"), re.M)
    return [re.sub(r"^ {4}", "", block, flags=re.M).strip("\n") for block in found]


def test_the_first_screen_of_the_readme_has_a_picture_and_the_two_commands() -> None:
    lines = (DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()[:20]
    commands = [line.split("#")[0].strip() for line in lines if line.startswith("    ")]
    assert commands == ["make demo", ".venv/bin/longshore serve"]
    pictures = re.findall(r"!\[.+\]\((.+)\)", "\n".join(lines))
    assert pictures[0] == "docs/images/console.png"
    assert (DOCS.parent / pictures[0]).is_file()


def test_the_readme_and_the_first_steps_can_be_followed(service: services.Longshore, tmp_path: Path) -> None:
    blocks = indented_blocks(DOCS.parent / "README.md")
    serve = next(number for number, block in enumerate(blocks) if block == ".venv/bin/longshore serve")
    create, fetch = blocks[serve + 1 : serve + 3]
    user, shell, python, table = indented_blocks(DOCS / "first-steps.md")
    assert " user create " in user
    *export, profile, install, read = table.splitlines()
    assert "--level read " in "".join(export), "a notebook gets no token that may write"
    assert install.endswith("pip install delta-sharing")
    program = f"{Path(sys.executable).parent}/"
    script = "\n".join(
        [
            create,
            f'until curl -s -H "Authorization: Bearer $TOKEN" {ADDRESS}/tasks/$TASK | grep -q DONE; do sleep 0.1; done',
            fetch,
            shell,
            *export,
            profile,
            read.replace("notebook/bin/python", str(PYTHON)),
        ]
    )
    script = script.replace(ADDRESS, service.address).replace(".venv/bin/", program)
    script = script.replace("longshore login", f"longshore login --address {service.address}")
    environment = {
        **os.environ,
        "LONGSHORE_DATABASE_URL": service.url,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    command = ["sh", "-eu", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, timeout=100, stdout=subprocess.PIPE, text=True
    )
    assert "[20000 rows x " in done.stdout
    (file,) = tmp_path.glob("Wallet_Export-*.csv")
    assert file.read_bytes() == (tmp_path / "ledger.csv").read_bytes()
    (tmp_path / "ledger.csv").unlink()
    code = f"from longshore import F, Longshore\n{python}"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=100)
    assert (tmp_path / "ledger.csv").is_file()


def test_the_setting_up_of_access_can_be_followed(service: services.Longshore, tmp_path: Path) -> None:
    block = indented_blocks(DOCS / "access.md")[0].replace("create anna", f"create anna-{os.getpid()}")
    programs = Path(sys.executable).parent
    environment = {**os.environ, "LONGSHORE_DATABASE_URL": service.url, "PATH": f"{programs}:{os.environ['PATH']}"}
    given = "correct horse battery staple\n"
    outputs = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=environment, input=given, text=True,
        capture_output=True, timeout=100,
    )  # fmt: skip
    assert outputs.returncode == 0, outputs.stderr
    assert re.search(r"^[0-9a-f-]{36}:longshore_\S+$", outputs.stdout, re.M)


def test_architecture_page_names_files_that_exist() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    names = re.findall(r"`((?:\w+/)+\w+\.py)`", page)
    folders = (DOCS.parent / "src" / "longshore", DOCS.parent)
    assert len(names) > 40
    assert [name for name in names if not any((folder / name).is_file() for folder in folders)] == []
