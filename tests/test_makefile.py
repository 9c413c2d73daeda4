"""The Makefile: each target installs what it needs."""

import subprocess
from pathlib import Path

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
