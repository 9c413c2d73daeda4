"""Completion in shells: commands, options, and values of the service; nothing, and no error, where it is away."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from longshore import Longshore
from longshore.cli import complete
from longshore.client.api_types import Segment, SegmentRule
from tests.client.conftest import Cli

SHELLS = ("bash", "zsh", "fish")


def completed(cli: Cli, monkeypatch: pytest.MonkeyPatch, line: str, shell: str = "bash") -> list[str]:
    """The values that a shell is given for the last word of a line."""
    words = line.split(" ")
    monkeypatch.setenv("_LONGSHORE_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
    code, out, stderr = cli()
    monkeypatch.delenv("_LONGSHORE_COMPLETE")
    assert (code, stderr) == (0, "")
    if shell == "zsh":  # three lines for each: kind, value, description
        return out.split("\n")[1:-1:3]
    return [each.split(",", 1)[1].split("\t")[0] for each in out.splitlines() if each]


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_options_and_values_are_completed(
    logged_in: Cli, longshore: Longshore, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setattr(complete, "TIMEOUT_SECONDS", 60)  # the machine may be busy
    task = longshore.exports.create("users", cron="0 0 1 1 *").cancel()
    rule: SegmentRule = {"field_name": "id", "field_type": "number", "operator": "is", "value": 1}
    segment: Segment = {
        "entity": "people",
        "index": "users",
        "join": "all",
        "chain_id": longshore.chain,
        "rules": [rule],
    }
    stored = longshore.segments.create("some", "users", segment)
    for line, expected in (
        ("longshore tasks dow", ["download"]),
        ("longshore export --par", ["--partition-by"]),
        ("longshore export wallet", ["wallet-ledger"]),
        ("longshore export users --format j", ["json", "jsonl"]),
        ("longshore export users --field birth", ["birthday"]),
        ("longshore export users products --field cost", ["cost_price"]),
        (f"longshore tasks get {task.id}", [str(task.id)]),
        (f"longshore segments get {stored.id[:8]}", [stored.id]),
        ("longshore tasks list --status D", ["DONE"]),
        ("longshore tasks list --profile d", ["default"]),
        ("longshore destinations kinds sf", ["sftp"]),
        ("longshore completion z", ["zsh"]),
    ):
        assert completed(logged_in, monkeypatch, line, shell) == expected, line


@pytest.mark.parametrize("command", ["segments create large --index users", "request POST /segments"])
def test_shell_completes_the_name_of_a_file_of_input_by_itself(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    line = f"longshore {command} --input ru"
    monkeypatch.setenv("_LONGSHORE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    assert cli() == (0, "file,ru\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_text_of_others_adds_no_value_to_a_completion(
    logged_in: Cli, longshore: Longshore, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setattr(complete, "TIMEOUT_SECONDS", 60)  # the machine may be busy
    task = longshore.exports.create("users", cron="0 0 1 1 *", desc="x\nplain\nrm\n-rf\nplain,rm").cancel()
    assert completed(logged_in, monkeypatch, f"longshore tasks get {task.id}", shell) == [str(task.id)]


def test_value_that_is_not_printable_is_not_completed() -> None:
    assert [item.value for item in complete._items([("a\nb", ""), ("ab", "")], "a")] == ["ab"]


def test_completion_without_a_service_is_empty_and_silent(
    logged_in: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config" / "longshore" / "profiles.json"
    away = '{"logins": {"default": {"address": "http://127.0.0.1:1", "token": "a:b", "chain": 1}}}'
    for text in (away, "[", None):
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        for line in ("longshore export w", "longshore tasks get 1", "longshore export users --field x"):
            assert completed(logged_in, monkeypatch, line) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_script_of_a_shell_is_its_own(cli: Cli, shell: str) -> None:
    code, script, stderr = cli("completion", shell)
    assert (code, stderr) == (0, "")
    assert f"_LONGSHORE_COMPLETE={shell}_complete" in script
    if interpreter := shutil.which(shell):
        subprocess.run([interpreter, "-n"], input=script, text=True, check=True, timeout=60)
    assert cli("completion", "tcsh")[0] == 2


@pytest.mark.usefixtures("logged_in")
def test_bash_completes_a_line_with_the_script() -> None:
    program = Path(sys.executable).parent
    script = (
        f'PATH="{program}:$PATH"; source <(longshore completion bash);'
        'COMP_WORDS=(longshore export wallet); COMP_CWORD=2; _longshore_completion longshore; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, env={**os.environ})
    assert (done.stdout, done.stderr) == ("wallet-ledger\n", "")
