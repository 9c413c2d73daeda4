"""The rules of the rooms that no import contract can check.

A process loads only the modules that it works with, as loading is most of the time of its start.
"""

import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "longshore"
WRITES = re.compile(
    r"(?:insert\s+into|update|delete\s+from|merge\s+into)\s+longshore\.(?:tasks|task_logs|runs)\b", re.I
)
BELOW_THE_FRONT = re.compile(r"^\s*(?:from|import) pgqueuer\.", re.M)
LOADED = "import sys, longshore.web; print(*sys.modules)"


def test_api_process_loads_no_arrow_which_only_workers_need() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True).stdout.split()
    assert not {"pyarrow", "numpy", "pandas", "botocore", "xlsxwriter"} & set(loaded)


def test_only_the_room_of_tasks_writes_tasks_their_log_and_runs() -> None:
    writing = {
        file.relative_to(SOURCE).parts[0]
        for file in SOURCE.rglob("*.py")
        if WRITES.search(file.read_text(encoding="utf-8"))
    }
    assert writing == {"tasks"}


def test_modules_of_pgqueuer_below_its_front_are_imported_where_adr_1_says() -> None:
    importing = {
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        if BELOW_THE_FRONT.search(file.read_text(encoding="utf-8"))
    }
    assert importing == {"database/migrate.py", "database/queue_schema.py", "tasks/queue.py"}
    adr = (SOURCE.parents[1] / "docs" / "adr" / "0001-pgqueuer.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in adr for name in importing)
