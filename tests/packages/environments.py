"""Empty environments with a wheel of this project, and what Python costs there."""

import os
import subprocess
import sys
import venv
from pathlib import Path

PROJECT = Path(__file__).parents[2]
ROUNDS = 5  # of a program whose processor time is measured; the least of them counts


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this project into a folder."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(folder), str(PROJECT)], check=True, timeout=120)
    [wheel] = folder.glob("longshore-*.whl")
    return wheel


class Environment:
    """An environment that has nothing but one requirement, such as `longshore[arrow] @ file:///…`."""

    def __init__(self, folder: Path, requirement: str) -> None:
        venv.create(folder, with_pip=False)
        self.bin = folder / "bin"
        command = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "--quiet"]
        subprocess.run([*command, requirement], check=True, timeout=1500)
        [self.packages] = folder.glob("lib/python*/site-packages")

    def names(self) -> list[str]:
        """The names of the installed packages."""
        return sorted(path.name.partition("-")[0].lower() for path in self.packages.glob("*.dist-info"))

    def size(self) -> int:
        """The bytes of the installed packages, with what Python compiled."""
        return sum(path.stat().st_size for path in self.packages.rglob("*") if path.is_file())

    def run(self, *command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in a folder, with none of this process's settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LONGSHORE_", "PYTHON"))}
        program = [str(self.bin / command[0]), *command[1:]]
        return subprocess.run(program, cwd=folder, env=kept | variables, capture_output=True, text=True, timeout=300)

    def seconds(self, *command: str) -> float:
        """The processor seconds of a program, beyond those of Python alone."""
        return _seconds(str(self.bin / command[0]), *command[1:]) - _seconds(str(self.bin / "python"), "-c", "pass")


def _seconds(*command: str) -> float:
    found = []
    for _ in range(ROUNDS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        found.append(usage.ru_utime + usage.ru_stime)
    return min(found)
