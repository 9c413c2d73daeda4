"""`longshore request`: any request from a shell, with exact values, and exit codes by the status."""

import json
from pathlib import Path

import pytest

from longshore.cli.output import pretty
from tests.client.conftest import Cli
from tests.conftest import SMALL_CHAIN

TASK = {"chain": SMALL_CHAIN, "desc": "\N{EURO SIGN} 1", "trigger": {"once": "2099-01-01T00:00:00Z"},
        "target": {"action": "export", "export_index": "users", "export_format": "csv"}}  # fmt: skip


def test_body_comes_from_fields_a_file_and_standard_input(logged_in: Cli) -> None:
    fields = ("-F", f"chain={SMALL_CHAIN}", "-f", "desc=€ 1", "-F", f"trigger={json.dumps(TASK['trigger'])}",
              "-F", f"target={json.dumps(TASK['target'])}")  # fmt: skip
    Path("task.json").write_text(json.dumps(TASK))
    Path("of-windows.json").write_text(json.dumps(TASK), encoding="utf-8-sig")
    files = ("task.json", "of-windows.json")
    given = ((fields, ""), *((("--input", file), "") for file in files), (("--input", "-"), json.dumps(TASK)))
    for arguments, typed in given:
        code, out, stderr = logged_in("request", "post", "/tasks", *arguments, typed=typed)
        assert (code, stderr) == (0, "")
        made = json.loads(out)
        assert {key: made[key] for key in TASK} == TASK
        assert logged_in("request", "DELETE", f"tasks/{made['id']}")[:2] == (0, "")


def test_fields_keep_what_looks_like_a_number(logged_in: Cli) -> None:
    for text in ("1.0", "0120117117", "12345678901234567890", "true", "null", "+5", ""):
        body = ("-F", f"chain={SMALL_CHAIN}", "-f", f"desc={text}", "-F", f"trigger={json.dumps(TASK['trigger'])}",
                "-F", f"target={json.dumps(TASK['target'])}")  # fmt: skip
        made = json.loads(logged_in("request", "POST", "/tasks", *body)[1])
        assert made["desc"] == text
        assert logged_in("request", "DELETE", f"/tasks/{made['id']}")[0] == 0


def test_fields_of_get_are_parameters(logged_in: Cli) -> None:
    code, out, _ = logged_in("request", "GET", "/tasks", "-F", "limit=1", "-f", "status=DONE")
    assert code == 0
    assert len(json.loads(out)) <= 1
    assert logged_in("request", "GET", "/tasks?limit=1")[0] == 0


def test_status_and_header_fields_come_first(logged_in: Cli) -> None:
    code, out, _ = logged_in("request", "GET", "/indexes/users", "-i", "-H", "X-Request-Id: mine")
    head, _, body = out.partition("\n\n")
    assert code == 0
    assert head.startswith("HTTP 200\n")
    assert "\ncontent-type: application/json" in head
    assert json.loads(body)["name"] == "users"


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (("GET", "/tasks?limit=0"), 2, 400),
        (("POST", "/tasks", "--input", "-"), 2, 400),
        (("GET", "/users"), 4, 403),
        (("GET", "/tasks/999999999"), 3, 404),
        (("PUT", "/tasks"), 1, 405),
    ],
)
def test_exit_code_follows_the_status_and_the_problem_goes_to_standard_error(
    logged_in: Cli, arguments: tuple[str, ...], code: int, status: int
) -> None:
    ended, out, stderr = logged_in("request", *arguments, typed="{}")
    assert (ended, out) == (code, "")
    assert json.loads(stderr)["status"] == status


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("GET", "C:/Program Files/Git/tasks"), "leave out its first slash"),
        (("GET", "https://example.com/tasks"), "expected a path of the API"),
        (("POST", "/tasks", "-f", "desc"), "expected a name"),
        (("POST", "/tasks", "-F", "desc=x"), "strings need quotes"),
        (("POST", "/tasks", "-H", "If-Match"), "expected a name"),
        (("POST", "/tasks", "--input", "missing.json"), "missing.json cannot be read: No such file"),
        (("POST", "/tasks", "--input", "-", "-f", "a=b"), "not both"),
    ],
)
def test_wrong_usage_of_request_is_refused_before_it_is_sent(
    logged_in: Cli, arguments: tuple[str, ...], words: str
) -> None:
    code, out, stderr = logged_in("request", *arguments)
    assert (code, out) == (2, "")
    assert words in stderr


def test_answer_that_is_no_json_is_passed_on(logged_in: Cli) -> None:
    assert "longshore_" in logged_in("request", "GET", "/metrics")[1]


def test_json_on_a_terminal_has_no_character_that_it_would_execute(monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps({"desc": "gpj\u202eexe \x9b1m \U000e0041 é"}, ensure_ascii=False).encode()
    assert pretty(content).decode() == content.decode().replace("{", "{\n  ").replace("}", "\n}")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = pretty(content).decode()
    assert shown.replace("\n", "").isprintable()
    assert "é" in shown
    assert json.loads(shown) == json.loads(content)
