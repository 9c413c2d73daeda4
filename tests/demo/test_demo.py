"""The demo: from nothing to a checked file in one command, and nothing left running."""

import re
import signal
from pathlib import Path

from tests.command import line_with, nothing_left, run, start


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
    assert token[1] not in (data / "demo.log").read_text()

    # A second one, interrupted in the middle, has everything there already.
    process = start("demo", "--rows", "3000", folder=tmp_path, data=str(data))
    try:
        line_with(process, "API and worker run at")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, output
    assert "Traceback" not in output
    nothing_left(data)
