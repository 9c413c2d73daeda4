"""The commands for those who use a service: exit codes, what is shown where, and what is kept on the disk."""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from longshore import Longshore
from longshore.access.tokens import Level, Scope
from longshore.client.api_types import Segment, SegmentRule
from tests import service as services
from tests.client.conftest import Cli
from tests.conftest import SMALL_CHAIN
from tests.destinations.places import add_place

RULE: SegmentRule = {"field_name": "amount", "field_type": "number", "operator": "is", "value": 1}
SEGMENT: Segment = {
    "entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": SMALL_CHAIN, "rules": [RULE],
}  # fmt: skip


def test_login_keeps_the_token_for_its_owner_alone(
    cli: Cli, service: services.Longshore, token: str, tmp_path: Path
) -> None:
    code, out, _ = cli("login", "--address", service.address + "/", "--chain", str(SMALL_CHAIN), typed=token + "\n")
    file = tmp_path / "config" / "longshore" / "profiles.json"
    assert (code, out) == (0, f"stored as 'default' in {file}\n")
    assert file.stat().st_mode & 0o777 == 0o600
    login = {"address": service.address, "token": token, "chain": SMALL_CHAIN}
    assert json.loads(file.read_text()) == {"current": "default", "logins": {"default": login}}
    reader = service.token(Level.READ, SMALL_CHAIN)
    arguments = ("login", "--address", service.address, "--chain", str(SMALL_CHAIN), "--profile", "reader", "--json")
    assert token not in (shown := cli(*arguments, typed=reader)[1])
    assert json.loads(shown)["profile"] == "reader"
    assert set(json.loads(file.read_text())["logins"]) == {"default", "reader"}
    assert cli("tasks", "run", "1", "--profile", "reader")[0] in (3, 4)


def test_a_login_that_does_not_work_is_not_kept(cli: Cli, service: services.Longshore, tmp_path: Path) -> None:
    login = ("login", "--chain", "1", "--address")
    assert cli(*login, service.address, typed="a:b")[0] == 4
    assert cli(*login, service.address, typed="nonsense")[0] == 2
    assert cli(*login, "exports.example.com", typed="a:b")[0] == 2
    assert not (tmp_path / "config").exists()
    code, _, stderr = cli("tasks", "list")
    assert code == 2
    assert "`longshore login` makes one" in stderr


def test_an_export_becomes_a_file(logged_in: Cli, longshore: Longshore) -> None:
    code, out, stderr = logged_in("export", "wallet-ledger", "--last", "2000w", "--format", "csv", "-o", "ledger.csv")
    assert (code, out) == (0, "ledger.csv\n")
    lines = stderr.splitlines()
    id = int(lines[0].removeprefix("task "))
    assert [line.partition(" ")[2] for line in lines[1:]] == [
        "READY -> INPROGRESS", "success (2,000 of 2,000 rows)", "INPROGRESS -> DONE"
    ]  # fmt: skip
    assert len(Path("ledger.csv").read_text(encoding="utf-8").splitlines()) >= 2001
    rule = longshore.tasks.get(id).data.trigger["segment"]["rules"]
    assert rule == [{"field_name": "timestamp", "field_type": "date", "operator": "relative_less_than",
                     "time_factor": "week", "time_amount": 2000}]  # fmt: skip


def test_an_export_reports_json(logged_in: Cli) -> None:
    code, out, _ = logged_in(
        "export", "wallet-ledger", "--field", "id", "--field", "amount", "--format", "jsonl", "--json"
    )
    shown = json.loads(out)
    assert code == 0
    assert shown["file"] == shown["task"]["result"] == shown["run"]["result"]
    assert shown["task"]["target"]["fields"] == ["id", "amount"]
    assert Path(shown["file"]).stat().st_size == shown["run"]["bytes"]


@pytest.mark.usefixtures("logged_in")
def test_an_export_goes_to_stdout_and_leaves_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "longshore", "export", "wallet-ledger", "--format", "jsonl", "-o", "-"]
    done = subprocess.run(command, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 2000
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.usefixtures("logged_in")
def test_a_terminal_gets_a_bar_and_a_pipe_does_not() -> None:
    near, far = pty.openpty()
    command = [sys.executable, "-m", "longshore", "export", "wallet-ledger", "-o", "x.csv"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=far, env=environment)
    os.close(far)
    shown = b""
    try:
        while part := os.read(near, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    assert done.communicate(timeout=60)[0] == b"x.csv\n"
    os.close(near)
    assert "━" in shown.decode()
    assert "2,000 rows" in shown.decode()
    assert "READY ->" not in shown.decode()


def test_tasks_are_listed_shown_run_and_downloaded(logged_in: Cli) -> None:
    assert logged_in("export", "wallet-ledger", "--desc", "first\x1b[2J")[0] == 0
    found = json.loads(logged_in("tasks", "list", "--limit", "1", "--json")[1])[0]
    id = str(found["id"])
    code, out, _ = logged_in("tasks", "list", "--limit", "1", "--status", "DONE")
    assert code == 0
    assert out.split("\t")[0:2] == [id, "DONE"]
    assert "\x1b" not in out
    assert f"result\t{found['result']}" in logged_in("tasks", "get", id)[1]
    assert logged_in("tasks", "wait", id)[1] == f"task {id} is DONE\n"
    assert logged_in("tasks", "run", id)[1] == f"task {id} is DONE\n"
    assert logged_in("tasks", "download", id, "-o", "again.csv")[1] == "again.csv\n"
    assert logged_in("tasks", "download", id, "-o", "first.csv", "--run", "1", "--manifest")[1] == "first.csv\n"
    assert sorted(path.name for path in Path().glob("first*")) == [
        "first.csv", "first.csv.manifest.json", "first.csv.manifest.json.jws",
    ]  # fmt: skip
    shown = json.loads(logged_in("tasks", "download", id, "--run", "1", "--clobber", "--json")[1])
    assert (shown["run"]["run"], Path(shown["file"]).read_bytes()) == (1, Path("first.csv").read_bytes())
    assert logged_in("tasks", "download", id, "--run", "1", "-o", "-")[1] == Path("first.csv").read_bytes().decode()
    assert logged_in("tasks", "download", id, "--run", "9")[0] == 3
    assert logged_in("tasks", "ack", id, "--run", "1")[0] == 1
    whole = logged_in("tasks", "logs", id)[1]
    assert whole.count("READY -> INPROGRESS") + whole.count("DONE -> INPROGRESS") == 2
    assert logged_in("tasks", "logs", id, "-f")[1] == whole
    assert len(json.loads(logged_in("tasks", "logs", id, "--json")[1])) == len(whole.splitlines())
    runs = [line.split("\t") for line in logged_in("tasks", "runs", id)[1].splitlines()]
    assert [(run, state) for run, state, *_ in runs] == [("2", "DONE"), ("1", "DONE")]
    newest = json.loads(logged_in("tasks", "runs", id, "--limit", "1", "--json")[1])[0]
    assert (newest["due"], newest["interval"]["start"]) == (None, None)
    assert runs[0][2:4] == ["", newest["interval"]["end"].replace("T", " ")]
    code, _, error = logged_in("tasks", "run", id, "--interval-end", "2026-05-26T03:00:00Z")
    assert code != 0
    assert "neither `repeat` nor `cron`" in error


def test_all_backfills_of_a_task_are_listed(logged_in: Cli, longshore: Longshore) -> None:
    begin = datetime.now(UTC) - timedelta(days=40)
    task = longshore.exports.create("vouchers", at=begin, repeat="daily", catch_up="none").pause()
    for day in range(27):
        made = task.backfill(begin + timedelta(days=day, hours=1), begin + timedelta(days=day + 1, hours=1))
        task.end_backfill(made.id)  # a task may have ten unfinished ones
    listed = logged_in("tasks", "backfills", str(task.id))[1].splitlines()
    assert [line.split("\t")[0] for line in listed] == [str(number) for number in range(27, 0, -1)]
    task.cancel()


def test_full_run_is_asked_of_an_incremental_task(logged_in: Cli) -> None:
    id = str(json.loads(logged_in("export", "vouchers", "--deletes", "-o", "first.csv", "--json")[1])["task"]["id"])
    assert logged_in("tasks", "run", id)[0] == 0
    assert logged_in("tasks", "run", id, "--full")[1] == f"task {id} is DONE\n"
    runs = json.loads(logged_in("tasks", "runs", id, "--json")[1])
    assert [run["full"] for run in runs] == [True, False, True]
    assert runs[0]["rows"] == runs[2]["rows"] > 0
    id = str(json.loads(logged_in("export", "vouchers", "-o", "all.csv", "--json")[1])["task"]["id"])
    code, _, error = logged_in("tasks", "run", id, "--full")
    assert (code, "not `incremental`" in error) == (1, True)


def test_a_task_is_cancelled(logged_in: Cli) -> None:
    task = json.loads(logged_in("export", "wallet-ledger", "--at", "2099-01-01T00:00:00Z", "--json")[1])
    assert logged_in("tasks", "cancel", str(task["id"]))[0] == 0
    assert logged_in("tasks", "wait", str(task["id"]))[0] == 1


def test_nightly_export_is_paused_resumed_and_backfilled(logged_in: Cli) -> None:
    nightly = ("export", "wallet-ledger", "--timezone", "Europe/Amsterdam")
    task = json.loads(logged_in(*nightly, "--cron", "0 0 * * *", "--json")[1])
    assert task["trigger"] == {"cron": "0 0 * * *", "timezone": "Europe/Amsterdam"}
    id = str(task["id"])
    assert logged_in("tasks", "pause", id)[:2] == (0, f"task {id} is paused\n")
    span = ("--start", "2026-05-01T00:00:00+02:00", "--end", "2026-05-03T00:00:00+02:00")
    assert logged_in("tasks", "backfill", id, *span)[:2] == (0, f"backfill 1 of task {id} has 2 runs\n")
    shown = "1\t{}\t2026-04-30 22:00Z\t2026-05-02 22:00Z\t2\t0\t0\t{}\n"
    assert logged_in("tasks", "backfills", id)[:2] == (0, shown.format("INPROGRESS", 2))
    assert logged_in("tasks", "backfills", id, "--stop", "1")[:2] == (0, shown.format("CANCELLED", 0))
    assert json.loads(logged_in("tasks", "backfills", id, "--json")[1])[0]["state"] == "CANCELLED"
    assert logged_in("tasks", "resume", id, "--catch-up", "none")[:2] == (0, f"task {id} is resumed\n")
    assert logged_in("tasks", "cancel", id)[0] == 0
    assert logged_in("tasks", "pause", id)[0] == 1
    at = json.loads(logged_in(*nightly, "--repeat", "daily", "--at", "2099-01-01T03:00:00+01:00", "--json")[1])
    assert at["trigger"] == {"once": "2099-01-01T02:00:00Z", "repeat": "daily", "timezone": "Europe/Amsterdam"}
    assert logged_in("tasks", "cancel", str(at["id"]))[0] == 0


def test_exit_codes_say_what_happened(logged_in: Cli) -> None:
    later = json.loads(logged_in("export", "wallet-ledger", "--at", "2099-01-01T00:00:00Z", "--json")[1])
    assert "a number of at most nine digits" in logged_in("export", "wallet-ledger", "--last", "100000000000w")[2]
    cases: list[tuple[int, tuple[str, ...]]] = [
        (1, ("tasks", "download", str(later["id"]))),
        (2, ("export", "wallet-leger")),
        (2, ("export", "wallet-ledger", "--last", "soon")),
        (2, ("export", "wallet-ledger", "--last", "1d", "--segment", "x")),
        (2, ("export", "wallet-ledger", "--at", "2099-01-01")),
        (2, ("export", "wallet-ledger", "--repeat", "daily", "--cron", "0 0 * * *")),
        (2, ("tasks", "delete", str(later["id"]))),
        (2, ("tasks", "backfill", str(later["id"]), "--start", "2026-05-01", "--end", "2026-05-02T00:00:00Z")),
        (2, ("export", "wallet-ledger", "--json", "-o", "-")),
        (2, ("tasks", "get", "x")),
        (2, ("tasks", "list", "--profile", "other")),
        (3, ("tasks", "get", "999999999")),
        (3, ("indexes", "wallet-leger")),
        (3, ("segments", "get", "00000000-0000-4000-8000-000000000000")),
        (5, ("tasks", "wait", str(later["id"]), "--timeout", "0.2")),
    ]
    for expected, arguments in cases:
        code, out, stderr = logged_in(*arguments)
        assert (code, out) == (expected, ""), (arguments, stderr)
        assert stderr
        assert "Traceback" not in stderr


def test_indexes_and_segments_are_listed(logged_in: Cli, longshore: Longshore) -> None:
    assert "wallet-ledger\ttimestamp\t" in logged_in("indexes")[1]
    assert "items.sku\tkeyword\t" in logged_in("indexes", "transactions")[1]
    assert json.loads(logged_in("indexes", "users", "--json")[1])["name"] == "users"
    stored = longshore.segments.create("by hand", "wallet-ledger", SEGMENT)
    code, listed, stderr = logged_in("segments", "list")
    assert (code, stderr) == (0, "")
    assert f"{stored.id}\twallet-ledger\t1\tby hand\n" in listed
    assert json.loads(logged_in("segments", "get", stored.id)[1])["segment"] == SEGMENT
    assert stored.id in [found["id"] for found in json.loads(logged_in("segments", "list", "--json")[1])]


def test_segments_whose_rules_a_token_may_not_see_are_listed_without_them(
    cli: Cli, service: services.Longshore, longshore: Longshore
) -> None:
    stored = longshore.segments.create("seen by few", "wallet-ledger", SEGMENT)
    reader = service.token(Level.READ, SMALL_CHAIN, Scope(indexes=["users"]))
    assert cli("login", "--address", service.address, "--chain", str(SMALL_CHAIN), typed=reader)[0] == 0
    code, listed, stderr = cli("segments", "list")
    assert (code, stderr) == (0, "")
    assert f"{stored.id}\t\t\tseen by few\n" in listed


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out/", "'out' does not exist; make the folder first"),
        ("missing/dir/f.csv", "'missing/dir' does not exist"),
        ("file/", "'file' is a file, not a folder"),
    ],
)
@pytest.mark.parametrize("command", [("export", "wallet-ledger"), ("tasks", "download", "1")])
def test_a_folder_that_is_missing_is_refused_before_anything_is_exported_or_fetched(
    logged_in: Cli, tmp_path: Path, command: tuple[str, ...], output: str, message: str
) -> None:
    (tmp_path / "here" / "file").touch()
    code, out, stderr = logged_in(*command, "-o", output)
    assert (code, out) == (2, "")
    assert message in " ".join(stderr.replace("│", " ").split())
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["file"]


def test_export_is_delivered_and_its_deliveries_are_listed(
    logged_in: Cli, service: services.Longshore, tmp_path: Path
) -> None:
    place = add_place(service, tmp_path, chain=SMALL_CHAIN)
    code, out, _ = logged_in("export", "wallet-ledger", "--deliver", place.name, "--json")
    assert code == 0
    task = str(json.loads(out)["task"]["id"])
    code, out, _ = logged_in("tasks", "deliveries", task, "--run", "1", "--json")
    [delivery] = json.loads(out)
    assert (code, delivery["state"], delivery["destination"]) == (0, "delivered", place.name)
    code, out, _ = logged_in("tasks", "deliveries", task, "--run", "1", "--again")
    assert code == 0
    assert out.count(place.name) >= 2
