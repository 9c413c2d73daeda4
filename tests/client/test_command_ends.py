"""The ends of commands: closed pipes, Ctrl-C, full disks, odd locales, errors as problems, and long waits."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from longshore import Longshore
from longshore.cli import wait_notice
from tests.client.conftest import Cli
from tests.client.gateway import Gateway
from tests.conftest import SMALL_CHAIN

COMMAND = [sys.executable, "-m", "longshore"]


def in_shell(line: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `longshore` is this one, and print the exit codes of its pipe at the end."""
    script = f'longshore() {{ "{sys.executable}" -m longshore "$@"; }}; {line}; echo "${{PIPESTATUS[@]}}"'
    return subprocess.run(["bash", "-c", script], capture_output=True, timeout=100, env={**os.environ, **variables})


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize(
    "line",
    [
        "longshore export wallet-ledger --format jsonl -o - 2>/dev/null | head -1 >/dev/null",
        "longshore --help | true",
        "longshore tasks list | true",
        "longshore tasks get 999999999 2>&1 >/dev/null | true",
    ],
)
def test_closed_pipe_ends_a_command_quietly(line: str) -> None:
    done = in_shell(line)
    assert done.stderr == b""
    allowed = (b"141", b"3") if "999999999" in line else (b"141", b"0")  # 141 unless it wrote before the reader ended
    assert done.stdout.split()[0] in allowed


@pytest.mark.usefixtures("logged_in")
def test_closed_pipe_is_141_whatever_is_left_to_write() -> None:
    for arguments in (["--help"], ["indexes"], ["indexes", "nothing"]):
        near, far = os.pipe()
        os.close(near)
        done = subprocess.run([*COMMAND, *arguments], stdout=far, stderr=far, timeout=60)
        os.close(far)
        assert done.returncode == 141, arguments


@pytest.mark.usefixtures("logged_in")
def test_full_disk_is_an_error_of_the_command() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, "indexes"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert done.stderr == b"longshore: [Errno 28] No space left on device\n"


@pytest.mark.usefixtures("logged_in")
def test_locale_without_unicode_gets_escapes_and_json_stays_utf_8(longshore: Longshore) -> None:
    desc = "caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{EURO SIGN} \N{GRINNING FACE}"
    id = str(longshore.exports.create("users", desc=desc).wait().id)
    latin = {"PYTHONIOENCODING": "iso-8859-1", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = in_shell(f"longshore tasks get {id} | cat", **latin)
    assert b"caf\xe9 \\u20ac \\U0001f600" in done.stdout
    done = in_shell(f"longshore tasks get {id} --json | cat", **latin)
    assert json.loads(done.stdout.rpartition(b"}")[0] + b"}")["desc"] == desc
    for encoding in ("ascii", "iso-8859-1"):
        done = in_shell(f"longshore indexes {desc!r}", **{**latin, "PYTHONIOENCODING": encoding})
        assert (done.stdout, done.stderr[:10]) == (b"3\n", b"longshore:")
    done = in_shell(r"longshore indexes $'caf\xe9'")
    assert (done.stdout, done.stderr) == (b"2\n", b"longshore: an argument is no text in UTF-8\n")


def interrupted(*arguments: str, after: str) -> tuple[int, str]:
    """Run a command, send it SIGINT once its standard error has these words, and give code and standard error."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    stderr = ""
    for line in process.stderr:
        stderr += line
        if after in line:
            process.send_signal(signal.SIGINT)
            break
    stderr += process.communicate(timeout=60)[1]
    return process.returncode, stderr


@pytest.mark.usefixtures("logged_in")
def test_ctrl_c_says_that_the_task_runs_on_and_how_to_follow_it(longshore: Longshore) -> None:
    later = longshore.exports.create("users", cron="0 0 1 1 *")
    id = later.id
    for command in (("wait",), ("logs", "-f")):
        code, stderr = interrupted("tasks", *command, str(id), after="waiting for")
        assert code == 130
        assert stderr.splitlines() == [
            f"longshore: waiting for task {id}, which is READY",
            f"longshore: task {id} runs on; follow it with `longshore tasks logs -f {id}`, download its result with"
            f" `longshore tasks download {id}`, cancel it with `longshore tasks cancel {id}`",
        ]
    later.cancel()


def test_ctrl_c_while_the_commands_are_imported_ends_quietly() -> None:
    program = """
import os, sys
interrupts = iter([2])
sys.addaudithook(lambda event, about: event == "import" and about[0] == "longshore.cli.login"
                 and os.kill(os.getpid(), next(interrupts, 0)))
import longshore.__main__
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_ctrl_c_in_an_export_names_its_task(logged_in: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("longshore.client.Task.wait", interrupt)
    code, out, stderr = logged_in("export", "users")
    assert (code, out) == (130, "")
    id = stderr.splitlines()[0].removeprefix("task ")
    assert stderr.splitlines()[1].startswith(
        f"longshore: task {id} runs on; follow it with `longshore tasks logs -f {id}`"
    )
    code, _, stderr = logged_in("export", "users", "--json", "--profile", "default")
    assert (code, json.loads(stderr)["exit_code"]) == (130, 130)
    assert "--profile default`" in json.loads(stderr)["detail"]


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("tasks", "get", "999999999"), 3, {"status": 404, "type": "/problems/task-not-found"}),
        (("export", "wallet-leger"), 2, {"status": 400}),
        (("export", "users", "--where", "id > x"), 2, {"title": "The command line cannot be used"}),
        (("tasks", "get", "x"), 2, {"title": "The command line cannot be used"}),
        (("tasks", "list", "--profile", "other"), 2, {"title": "The login cannot be used"}),
        (("tasks", "deliveries", "999999999", "--run", "1"), 3, {"status": 404}),
    ],
)
def test_error_is_a_problem_on_standard_error_with_json(
    logged_in: Cli, arguments: tuple[str, ...], code: int, expected: dict[str, object]
) -> None:
    ended, out, stderr = logged_in(*arguments, "--json")
    assert (ended, out) == (code, "")
    problem = json.loads(stderr)
    assert problem == {**problem, **expected, "exit_code": code}
    assert problem["detail"]


def test_problem_of_a_request_has_its_violations_and_its_number(logged_in: Cli) -> None:
    problem = json.loads(logged_in("export", "users", "--field", "nothing", "--json")[2])
    assert problem["errors"][0]["pointer"].startswith("/target/fields")
    assert problem["request_id"]


def test_failed_task_is_the_only_thing_on_standard_error_with_json(logged_in: Cli, longshore: Longshore) -> None:
    later = longshore.exports.create("users", cron="0 0 1 1 *").cancel()
    problem = json.loads(logged_in("tasks", "wait", str(later.id), "--json")[2])
    assert problem["title"] == "The task failed"
    assert str(later.id) in problem["detail"]


def test_page_of_a_proxy_is_an_error_and_no_json_of_ours(cli: Cli, gateway: Gateway, token: str) -> None:
    assert cli("login", "--address", gateway.address, "--chain", str(SMALL_CHAIN), typed=token)[0] == 0
    gateway.faults += ["garble"]
    code, out, stderr = cli("indexes", "--json")
    assert (code, out) == (1, "")
    assert json.loads(stderr)["title"] == "The service does not answer"


def test_wait_for_the_service_is_reported_once(
    cli: Cli, gateway: Gateway, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_notice, "SECONDS", 0.05)
    assert cli("login", "--address", gateway.address, "--chain", str(SMALL_CHAIN), typed=token)[0] == 0
    gateway.faults += ["refuse"]  # with Retry-After: 1
    code, _, stderr = cli("indexes")
    assert (code, stderr) == (0, f"longshore: waiting for {gateway.address}\n")
    gateway.faults += ["refuse"]
    assert cli("indexes", "--json")[2] == ""


def test_outer_wait_is_not_reported_during_an_inner_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wait_notice, "SECONDS", 0.05)

    def until(words: str) -> str:
        stderr, deadline = "", time.monotonic() + 30
        while words not in stderr:
            assert time.monotonic() < deadline, stderr
            stderr += capsys.readouterr().err
            time.sleep(0.01)
        return stderr

    with wait_notice.wait_notice("the service"):
        with wait_notice.wait_notice("a task") as waits_for:
            assert until("task") == "longshore: waiting for a task\n"
            waits_for("a task")
            waits_for("its end")
            assert until("end") == "longshore: waiting for its end\n"
        assert until("service") == "longshore: waiting for the service\n"
    assert threading.active_count() < 20
    assert capsys.readouterr().err == ""


def test_version_is_printed(cli: Cli) -> None:
    from longshore import __version__

    assert cli("--version") == (0, f"longshore {__version__}\n", "")


def test_help_has_two_groups_of_commands(cli: Cli) -> None:
    users, _, operators = cli("--help")[1].partition("Use a service:")[2].partition("Run a service:")
    assert [f"\n  {name}  " in users for name in ("export", "tasks", "serve")] == [True, True, False]
    assert [f"\n  {name}  " in operators for name in ("export", "serve", "token")] == [False, True, True]


@pytest.mark.usefixtures("logged_in")
def test_closed_standard_streams_are_no_fault() -> None:
    for closed, code in (("2>&-", b"3"), (">&-", b"3"), (">&- 2>&-", b"3")):
        assert in_shell(f"longshore indexes nothing {closed}").stdout.split() == [code]


@pytest.mark.usefixtures("logged_in")
def test_output_to_a_closed_stream_is_an_error_of_the_command() -> None:
    done = in_shell("longshore tasks list >&-")
    assert done.stdout.split() == [b"1"]
    assert done.stderr.startswith(b"longshore: [Errno 9]")
    assert b"Traceback" not in done.stderr


@pytest.mark.usefixtures("logged_in")
def test_closed_or_odd_standard_input_is_reported_in_a_line() -> None:
    done = in_shell("longshore request POST /tasks --input - <&-")
    assert (done.stdout, b"Traceback" in done.stderr) == (b"2\n", False)
    done = in_shell(r"printf '\xe9\n' | longshore login http://127.0.0.1:1 --chain 1 --token-file -")
    assert b"Traceback" not in done.stderr


@pytest.mark.usefixtures("logged_in")
def test_sigterm_removes_what_a_command_keeps_for_a_while(longshore: Longshore, tmp_path: Path) -> None:
    id = longshore.exports.create("wallet-ledger", format="jsonl").wait().id
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [*COMMAND, "tasks", "download", str(id), "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.read(1)  # the rest does not fit the pipe, so the command waits with its copy
        assert list((tmp_path / "tmp").iterdir())
        process.terminate()
        assert process.wait(20) == 143
        assert list((tmp_path / "tmp").iterdir()) == []
