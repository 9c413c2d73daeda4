"""The dependencies without the developers' tools are enough."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

HERE = Path(__file__).parents[1]
OPTIONAL = {"pandas"}  # of the client, which says so when it is missing


def imported() -> set[str]:
    """The packages that the product imports, wherever in its modules."""
    found = set()
    for path in (HERE / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"longshore"} - OPTIONAL


def test_every_package_that_the_product_imports_is_one_of_its_dependencies_and_locked() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=\[]", each)[0] for each in project["dependencies"]}
    locked = set(
        re.findall(r"^([a-z0-9-]+)(?:\[[a-z,-]+\])?==", (HERE / "requirements.lock").read_text(), re.MULTILINE)
    )
    distributions = packages_distributions()
    for package in imported():
        names = {name.lower().replace("_", "-") for name in distributions[package]}
        assert names & declared & locked, f"{package} is not installed with the product"
