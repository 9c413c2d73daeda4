"""The dependencies without the developers' tools are enough."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
OPTIONAL = {"pandas", "polars"}  # of the client, which says so when they are missing
HOSTS = {"airflow", "asgiref", "dagster", "dlt"}  # of the integrations, which say so when they are missing
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = ("asyncpg", "botocore", "granian", "litestar", "numpy", "obstore", "pandas", "polars", "pyarrow", "rich",
         "structlog", "typer", "uvloop")  # fmt: skip


def names(*lists: list[str]) -> set[str]:
    """The packages that lists of dependencies name."""
    return {re.split(r"[<>=\[]", each)[0] for each in itertools.chain(*lists)}


def imported(folder: str = "") -> set[str]:
    """The packages that the product imports, wherever in the modules of a folder."""
    found = set()
    for path in (HERE / "src" / "longshore" / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"longshore"} - OPTIONAL - HOSTS


def test_every_package_that_the_product_imports_is_one_of_its_dependencies_and_locked() -> None:
    declared = names(PROJECT["dependencies"], PROJECT["optional-dependencies"]["server"])
    locked = set(
        re.findall(r"^([a-z0-9-]+)(?:\[[a-z,-]+\])?==", (HERE / "requirements.lock").read_text(), re.MULTILINE)
    )
    distributions = packages_distributions()
    for package in imported():
        found = {name.lower().replace("_", "-") for name in distributions[package]}
        assert found & declared & locked, f"{package} is not installed with the product"


@pytest.mark.parametrize(
    ("folder", "extra"), [("client", {"pyarrow"}), ("cli", {"uvloop"}), ("integrations", {"pyarrow"})]
)
def test_client_and_commands_import_only_what_is_installed_without_extras(folder: str, extra: set[str]) -> None:
    """`extra`: the packages that a function imports which names their extra where they are missing."""
    assert imported(folder) - extra <= names(PROJECT["dependencies"])


@pytest.mark.parametrize(
    "code",
    ["import longshore.client", "from longshore.cli.main import run; run(['--help'])",
     "from longshore.cli.main import run; run(['tasks', '--help'])"],
)  # fmt: skip
def test_client_and_help_load_no_package_of_the_service(code: str) -> None:
    program = f"import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); {code}"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stderr.split())
    assert "longshore" in loaded
    assert not loaded & set(HEAVY)
