"""The Makefile: each target installs what it needs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import NEEDS

ROOT = Path(__file__).parents[1]


def test_make_bench_installs_every_program_and_peer_that_its_cases_need() -> None:
    command = ["make", "--dry-run", "--always-make", "bench"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    locks = ("benchmarks/requirements.lock", "benchmarks/duckdb.lock", "requirements-dev.lock")
    locked = "".join((ROOT / name).read_text() for name in locks)
    for need in {need for needs in NEEDS.values() for need in needs}:
        assert f"apt-get install -y -qq --no-install-recommends {need} " in done.stdout or any(
            f"\n{name}==" in f"\n{locked}" for name in (need.replace("_", "-"), f"{need}-bin")
        ), need
    for name in locks:
        assert f"-r {name}" in done.stdout


def test_fast_tests_install_no_packages() -> None:
    command = [sys.executable, "-m", "pytest", "--fast", "--collect-only", "-q", "tests/packages"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout


def test_environment_that_could_not_be_made_whole_is_made_again(tmp_path: Path) -> None:
    """Without Debian's package python3-venv, `python -m venv` makes `bin/python` and then fails."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'test "$2" = venv || exec {sys.executable} "$@"\n'
        'mkdir -p "$3/bin" && touch "$3/bin/python" && test ! -e without-venv\n'
    )
    python.chmod(0o755)
    command = ["make", f"PYTHON={python}", ".venv/bin/python"]
    (tmp_path / "without-venv").touch()
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60).returncode != 0
    assert not (tmp_path / ".venv").exists()
    (tmp_path / "without-venv").unlink()
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60).returncode == 0
    assert (tmp_path / ".venv" / "bin" / "python").exists()
