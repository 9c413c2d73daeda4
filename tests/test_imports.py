"""The modules that a process loads: only those that it works with, as loading is most of the time of its start."""

import subprocess
import sys

LOADED = "import sys, longshore.web; print(*sys.modules)"


def test_api_process_loads_no_arrow_which_only_workers_need() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout.split()
    assert not {"pyarrow", "numpy", "pandas", "botocore", "xlsxwriter"} & set(loaded)
