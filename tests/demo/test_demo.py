"""The demo: from nothing to a checked file in one command, and nothing left running."""

import contextlib
import re
import socket
import sys
from pathlib import Path

import pytest

from tests.command import ended_by_ctrl_c, line_with, nothing_left, run, start


def test_the_demo_shows_the_main_job_and_leaves_no_process_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = run("demo", "--rows", "3000", folder=tmp_path, data=str(data))
    assert done.returncode == 0, done.stdout + done.stderr
    nothing_left(data)
    assert "all checks passed" in done.stdout
    assert "3,000 rows exported" in done.stdout
    file = next(data.glob("Wallet_Export-*.csv"))
    assert file.read_bytes().count(b"\r\n") == 3001
    token = re.search(r"TOKEN=(\S+)", done.stdout)
    assert token
    assert f" {sys.executable} -m longshore serve " in done.stdout
    assert token[1] not in (data / "demo.log").read_text()


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_demo_takes_another_port_where_the_usual_one_is_taken(tmp_path: Path, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # another program has the port
            taken.bind((host, 8080))
            taken.listen()
        done = run("demo", "--rows", "300", folder=tmp_path, data=str(tmp_path / "data"), host=host)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = f"[{host}]" if ":" in host else host
    [port] = set(re.findall(rf"http://{re.escape(shown)}:(\d+)", done.stdout))
    assert port != "8080"


@pytest.mark.parametrize(
    ("when", "rows"),  # more where it would be over before it hears of it
    [
        ("writing 30,000 ledger", 30_000),
        ("building indexes", 30_000),
        ("API and worker run at", 30_000),
        ("POST /tasks", 300_000),
        ("rows exported in", 300_000),
    ],
)
def test_ctrl_c_ends_the_demo_wherever_it_is(when: str, rows: int, tmp_path: Path) -> None:
    process = start("demo", "--rows", str(rows), folder=tmp_path, data=str(tmp_path / "data"))
    try:
        line_with(process, when)
        ended_by_ctrl_c(process)
    finally:
        process.kill()
        process.wait()
        nothing_left(tmp_path / "data")
