"""`longshore verify` ends with its own exit code, and without the handlers that C runs at the end of a process.

Among these are the destructors of Arrow's pools of threads, which abort the process now and then (exit code 134). Here
one more handler never returns: a command that ran the handlers would not end.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.exports.test_verify import manifest
from tests.service import Longshore, downloaded, ended, export_body

RUNS = 3
PROGRAM = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.pause, ctypes.c_void_p), None, None)
from longshore.cli.main import main
sys.argv = ["longshore", "verify", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
@pytest.mark.parametrize("target", [{}, {"export_format": "parquet"}])
def test_good_result_is_0_and_a_changed_one_1_in_every_run(
    service: Longshore, tmp_path: Path, target: dict[str, Any]
) -> None:
    with service.client(chain=1765) as client:
        body = export_body(chain=1765)
        body["target"] |= target
        task = client.post("/tasks", json=body).json()["id"]
        path = tmp_path / ended(client, task)["result"]
        path.write_bytes(downloaded(client, task))
        path.with_name(path.name + ".manifest.json").write_bytes(manifest(client, task, 1).content)
    command = [sys.executable, "-c", PROGRAM, path]
    for _ in range(RUNS):
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(": good\n")
    path.with_name(path.name + ".manifest.json").write_text("{}")
    command = [sys.executable, "-m", "longshore", "verify", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (1, "")
