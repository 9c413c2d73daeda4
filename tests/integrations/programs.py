"""Programs of other environments, run on the shared service."""

import os
import subprocess
from pathlib import Path

from tests.service import CHAIN, Longshore

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "integrations"


class Program:
    """A program of an environment of `make integrations`, in a folder and with variables of its own."""

    def __init__(self, environment: str, program: str, folder: Path, **variables: str) -> None:
        self.path = ROOT / ".venv" / environment / "bin" / program
        assert self.path.exists(), f"{program} is not there; `make integrations` installs it"
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LONGSHORE_", "PYTHON"))}
        self.variables = kept | variables

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start the program."""
        return subprocess.Popen(
            [self.path, *arguments], cwd=self.folder, env=self.variables, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str, fails: bool = False) -> str:
        """Run the program to its end, which must be a failure if `fails`, and return its output."""
        with self.start(*arguments) as process:
            try:
                output, _ = process.communicate(timeout=280)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert (process.returncode != 0) == fails, output[-8000:]
        return output


def connection_of(service: Longshore) -> dict[str, str]:
    """Return the variables by which a client finds the service."""
    return {
        "LONGSHORE_ADDRESS": service.address,
        "LONGSHORE_TOKEN": service.token(),
        "LONGSHORE_CHAIN": str(CHAIN),
    }


def tasks_created(service: Longshore) -> list[int]:
    """Return the numbers of all tasks of the chain, oldest first."""
    return [row["id"] for row in service.sql("select id from longshore.tasks where chain_id = $1 order by id", CHAIN)]
