"""The client as editors and type checkers see it: real functions, and the words of the API."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from tools import blocking_client

from longshore import AsyncLongshore, Longshore
from longshore.api.openapi import document
from longshore.client import AsyncTask, Task, api_types
from longshore.exports.formats import FORMATS
from longshore.exports.segments.operators import WINDOWS
from longshore.settings import Settings
from longshore.tasks.model import StateCode
from longshore.web import build

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", blocking_client.names())
def test_client_that_blocks_is_made_of_the_one_that_is_awaited(name: str) -> None:
    assert (blocking_client.TARGET / name).read_text() == blocking_client.made(name), (
        "run `python -m tools.blocking_client`"
    )


def test_client_that_blocks_has_no_other_files() -> None:
    found = {path.name for path in blocking_client.TARGET.glob("*.py")}
    assert found == {*blocking_client.names(), *blocking_client.WRITTEN_BY_HAND}


def test_help_shows_the_signature_of_a_method() -> None:
    shown = str(inspect.signature(Task.wait))
    assert shown.startswith("(self, timeout: float | None = None, on_progress: ")
    assert shown.endswith(" progress: bool = False) -> Self") or shown.endswith("-> typing.Self")
    assert inspect.iscoroutinefunction(AsyncTask.wait)
    assert not inspect.iscoroutinefunction(Task.wait)
    for kind in (Task, AsyncTask, Longshore, AsyncLongshore):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                assert inspect.getdoc(method), name
                assert "Generator" not in str(inspect.signature(method))


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    for blocking, awaited in ((Longshore, AsyncLongshore), (Task, AsyncTask)):
        for name, method in inspect.getmembers(blocking, inspect.isfunction):
            if not name.startswith("__"):
                assert str(inspect.signature(getattr(awaited, name)).parameters) == str(
                    inspect.signature(method).parameters
                ).replace("httpx2.Client", "httpx2.AsyncClient"), name


def test_words_are_those_of_the_service() -> None:
    schemas = document(build(Settings()))["components"]["schemas"]
    assert set(get_args(api_types.Operator)) == set(schemas["Rule"]["properties"]["operator"]["enum"])
    assert set(get_args(api_types.Window)) == set(WINDOWS)
    assert set(get_args(api_types.StateCode)) == {code.value for code in StateCode}
    assert set(get_args(api_types.Format)) == set(FORMATS)
    assert set(get_args(api_types.CatchUp)) == set(schemas["Trigger"]["properties"]["catch_up"]["enum"])


GOOD = """
from datetime import datetime
from longshore import AsyncLongshore, F, Longshore
from longshore.client.api_types import Segment

def main(client: Longshore) -> str:
    segment: Segment = {"entity": "people", "index": "users", "join": "all", "chain_id": 1, "rules": []}
    task = client.exports.create("users", format="parquet", where=F("id") > 1, csv={"delimiter": ";"})
    client.exports.create("users", where=segment)
    for event in task.events():
        if event.kind == "log" and event.entry:
            print(event.entry.msg)
    times: list[datetime] = client.tasks.preview_schedule(cron="0 3 * * *")
    return task.wait(progress=True).download().name

async def awaited(client: AsyncLongshore) -> str:
    async for found in client.tasks.iterate(status="DONE"):
        print(found.id)
    return (await (await client.exports.create("users")).download()).name
"""
WRONG = [
    'client.exports.create("users", format="cvs")',
    'client.exports.create("users", compression="zip")',
    'client.exports.create("users", cron="0 3 * * *", catch_up="every")',
    'client.exports.create("users", csv={"delimeter": ";"})',
    'client.exports.create("users", partition_by=[{"field": "timestamp", "by": "week"}])',
    'client.exports.create("users", where={"entity": "people", "index": "users", "join": "all", "chain_id": 1,'
    ' "rules": [{"field_name": "id", "field_type": "number", "operator": "equals", "value": 1}]})',
    'client.tasks.list(status="FAILED")',
    'client.tasks.get(1).state.code == "FAILED"',
    "client.tasks.get(1).wait(progres=True)",
    'F("timestamp").in_window("tomorrow")',
    'client.webhooks.create("https://example.com", events=["task.failed"])',
]


def test_wrong_word_fails_type_checking_and_right_ones_do_not(tmp_path: Path) -> None:
    lines = ["from longshore import F, Longshore", "", "def wrong(client: Longshore) -> None:"]
    (tmp_path / "wrong.py").write_text("\n".join([*lines, *(f"    {line}" for line in WRONG)]) + "\n")
    (tmp_path / "good.py").write_text(GOOD)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache")]
    done = subprocess.run(
        [*command, "--config-file", "pyproject.toml", str(tmp_path / "wrong.py"), str(tmp_path / "good.py")],
        capture_output=True, text=True, cwd=ROOT, timeout=250,
    )  # fmt: skip
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if "wrong.py" in line and " error: " in line}
    assert found == set(range(len(lines) + 1, len(lines) + 1 + len(WRONG))), done.stdout + done.stderr
    assert "good.py" not in done.stdout, done.stdout
