"""The request of the form of a new export from elsewhere, as text."""

import ast
import json
import os
import shlex
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from longshore.cli.export_options import delivery
from longshore.console.copied_export import ExportBody
from longshore.console.snippets import snippets_of
from tests.service import CHAIN, Longshore

RULE = {"field_name": "id", "field_type": "number", "operator": "is_one_of", "value": [2**53 + 1, Decimal("0.50")]}
TARGET: dict[str, Any] = {
    "action": "export", "export_index": "users", "export_format": "csv", "priority": 3, "deletes": True,
    "fields": ["id", {"name": "first_name", "as": "name"}], "incremental": "on_ack",
    "partition_by": [{"field": "created", "by": "day"}, {"field": "kind"}], "split": {"rows": 5},
    "deliver": [{"destination": "a b"}, {"destination": "c", "path": "{name}"}],
}  # fmt: skip
TRIGGER = {"once": "2126-01-05T04:00:00+01:00", "timezone": "UTC", "segment": {"index": "users", "rules": [RULE]}}
SNIPPETS = snippets_of(ExportBody('it\'s "new"', TARGET, TRIGGER), 7, "http://127.0.0.1:1", is_later=True)


def test_curl_sends_the_body_with_each_digit_of_its_numbers() -> None:
    body = shlex.split(SNIPPETS.curl)[-1]
    assert '"value":[9007199254740993,0.50]' in body
    assert json.loads(body, parse_float=Decimal) == {
        "chain": 7, "desc": "it's \"new\"", "target": TARGET, "trigger": TRIGGER,
    }  # fmt: skip


def test_python_has_the_arguments_of_the_client_and_names_what_it_lacks() -> None:
    assert "[9007199254740993, 0.50]" in SNIPPETS.python
    assert SNIPPETS.python.endswith("\n# not by the client: priority")
    calls = [each for each in ast.walk(ast.parse(SNIPPETS.python)) if isinstance(each, ast.Call)]
    call = next(each for each in calls if ast.unparse(each.func) == "client.exports.create")
    arguments = {each.arg: each.value for each in call.keywords}
    for name in ("fields", "incremental", "deletes", "partition_by", "split", "deliver"):
        assert ast.literal_eval(arguments[name]) == TARGET[name], name
    assert ast.unparse(arguments["at"]) == f"datetime.fromisoformat({TRIGGER['once']!r})"
    assert ast.literal_eval(arguments["desc"]) == 'it\'s "new"'


def test_command_has_its_options_and_names_what_it_lacks() -> None:
    _, command, lacks = SNIPPETS.cli.split("\n")
    assert shlex.split(command) == [
        "longshore", "export", "users", "--segment", "$segment", "--format", "csv",
        "--field", "id", "--field", "first_name", "--partition-by", "created:day", "--partition-by", "kind",
        "--split-rows", "5", "--deliver", "a b",
        "--deliver", "c:path={name}", "--at", TRIGGER["once"], "--timezone", "UTC", "--desc", "it's \"new\"",
    ]  # fmt: skip
    assert lacks.removeprefix("# not by the command line: ").split("; ") == [
        "priority", "incremental", "names of columns",
    ]  # fmt: skip


def test_command_stores_the_rules_first_with_each_digit_of_their_numbers() -> None:
    stores, *_ = SNIPPETS.cli.split("\n")
    name, _, command = stores.partition("=$(")
    assert name == "segment"
    words = shlex.split(command.removesuffix(")"))
    assert words[:2] == ["printf", "%s"]
    assert json.loads(words[2], parse_float=Decimal) == TRIGGER["segment"]
    assert words[3:] == ["|", "longshore", "segments", "create", 'it\'s "new"', "--index", "users", "--input", "-"]


def test_python_waits_only_for_an_export_that_begins_at_once() -> None:
    assert "task.wait()" not in SNIPPETS.python
    for trigger, waits in (({}, True), ({"repeat": "daily"}, False), ({"cron": "0 2 * * *"}, False)):
        python = snippets_of(ExportBody("", TARGET, trigger), 7, "http://127.0.0.1:1", is_later=False).python
        assert ("task.wait()\ntask.download()" in python) == waits, trigger


def test_python_writes_a_number_that_no_float_holds_as_a_decimal() -> None:
    rule = {**RULE, "value": [Decimal("12345678901234567.89"), Decimal("0.5")]}
    trigger = {**TRIGGER, "segment": {"index": "users", "rules": [rule]}}
    python = snippets_of(ExportBody("", TARGET, trigger), 7, "http://127.0.0.1:1", is_later=True).python
    assert '[Decimal("12345678901234567.89"), 0.5]' in python
    assert "\nfrom decimal import Decimal\n" in python
    assert "Decimal" not in SNIPPETS.python


def test_command_has_the_schedule_and_the_destinations_with_their_settings() -> None:
    deliver = [
        {"destination": "a", "table": "orders", "mode": "merge"},
        {"destination": "b", "path": "{index}/{run}-{name}", "overwrite": True},
        {"destination": "c", "path": "a,b=c/{name}"},
        {"destination": "d:e"},
    ]
    target = {"action": "export", "export_index": "users", "export_format": "csv", "deliver": deliver}
    trigger = {"cron": "0 2 * * *", "timezone": "Europe/Amsterdam", "until": "2127-01-01T00:00:00Z", "catch_up": "one"}
    snippets = snippets_of(ExportBody("", target, trigger), 7, "http://127.0.0.1:1", is_later=False)
    command, lacks = snippets.cli.split("\n")
    words = shlex.split(command)
    assert [delivery(words[at + 1]) for at, word in enumerate(words) if word == "--deliver"] == deliver
    assert "a:table=orders,mode=merge" in words
    assert words[-4:] == ["--cron", "0 2 * * *", "--timezone", "Europe/Amsterdam"]
    assert lacks == "# not by the command line: until; catch_up"


def test_command_with_rules_exports_the_rows_that_they_take(service: Longshore, tmp_path: Path) -> None:
    rule = {"field_name": "amount", "field_type": "number", "operator": "is_greater_than", "value": Decimal("10.5")}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    target = {"action": "export", "export_index": "wallet-ledger", "export_format": "jsonl", "fields": ["amount"]}
    export = ExportBody("", target, {"segment": segment})
    command = snippets_of(export, CHAIN, service.address, is_later=False).cli
    folder, programs = tmp_path / "files", f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    folder.mkdir()
    variables = {**os.environ, "PATH": programs, "XDG_CONFIG_HOME": str(tmp_path)}
    login = ["longshore", "login", "--address", service.address, "--chain", str(CHAIN)]
    subprocess.run(login, env=variables, input=service.token(), text=True, check=True)
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = folder.iterdir()
    amounts = [json.loads(line)["amount"] for line in file.read_text().splitlines()]
    assert amounts
    assert min(amounts) > 10.5
