"""The unit of systemd in deploy/: no systemd runs here, so its program checks it."""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from longshore.parent_process import STOP_TIMEOUT_SECONDS
from longshore.settings import Settings

FILE = Path(__file__).parents[1] / "deploy" / "longshore.service"
UNIT = configparser.ConfigParser()
UNIT.optionxform = str  # type: ignore[assignment,method-assign]
UNIT.read(FILE)


def test_unit_of_systemd_stops_serve_alone_and_gives_it_the_time_it_takes() -> None:
    service = UNIT["Service"]
    assert service["ExecStart"].split()[1:] == ["serve"]
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= Settings().shutdown_grace + STOP_TIMEOUT_SECONDS
    assert service["User"] == "longshore"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize(("right", "wrong"), [("", ""), ("KillMode=mixed", "KillMode=some")])
def test_unit_is_what_systemd_takes(tmp_path: Path, right: str, wrong: str) -> None:
    text = FILE.read_text().replace("/opt/longshore/bin/longshore", sys.executable)
    assert right in text
    (tmp_path / "longshore.service").write_text(text.replace(right, wrong))
    command = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(tmp_path / "longshore.service")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SYSTEMD_LOG_TARGET": "console"})
    if right:
        assert "Failed to parse kill mode" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")
