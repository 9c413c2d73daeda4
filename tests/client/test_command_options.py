"""The options of exports, the lists of tasks, the stored logins and segments, from a shell."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from longshore import Longshore
from longshore.access.tokens import Level, Scope
from longshore.cli import download as downloads
from longshore.cli import export_options
from longshore.cli.exits import CommandError
from longshore.exports.catalog import load
from longshore.exports.catalog_page import page
from tests import service as services
from tests.client.conftest import Cli
from tests.conftest import SMALL_CHAIN
from tests.destinations.places import add_place
from tests.odd_values_table import CHAIN

LATER = ("--at", "2099-01-01T00:00:00Z", "--json")


def created(cli: Cli, *arguments: str) -> dict[str, Any]:
    """A task that `longshore export` makes and does not wait for."""
    code, out, stderr = cli("export", *arguments)
    assert (code, stderr) == (0, "")
    task: dict[str, Any] = json.loads(out)
    return task


def test_conditions_become_rules_that_must_all_hold(logged_in: Cli) -> None:
    where = ("--where", "amount > 10.5", "--where", "currency_symbol is_one_of €,PTN", "--last", "7d")
    segment = created(logged_in, "wallet-ledger", *where, *LATER)["trigger"]["segment"]
    assert segment["join"] == "all"
    assert [(rule["field_name"], rule["operator"]) for rule in segment["rules"]] == [
        ("amount", "is_greater_than"), ("currency_symbol", "is_one_of"), ("timestamp", "relative_less_than")
    ]  # fmt: skip


def test_last_and_the_lists_name_the_field_that_has_the_column_of_times(
    cli: Cli, odd_values_service: services.Longshore
) -> None:
    assert (
        cli("login", "--address", odd_values_service.address, "--chain", str(CHAIN), typed=odd_values_service.token())[
            0
        ]
        == 0
    )
    [rule] = created(cli, "renamed", "--last", "24h", *LATER)["trigger"]["segment"]["rules"]
    assert (rule["field_name"], rule["operator"]) == ("when", "relative_less_than")
    listed = {name: field for name, field, _ in (line.split("\t") for line in cli("indexes")[1].splitlines())}
    assert (listed["renamed"], listed["odd"], listed["baskets"]) == ("when", "at", "")
    code, _, stderr = cli("export", "baskets", "--last", "24h", *LATER)
    assert code == 2
    assert "the index baskets has no time field" in stderr
    assert "the time field is `when`" in page(load(str(odd_values_service.data / "catalog.toml")))
    hiding = odd_values_service.token(scope=Scope(hidden_columns=["renamed.when"]))
    with Longshore(odd_values_service.address, hiding, chain=CHAIN) as limited:
        assert limited.indexes.get("renamed").time is None


def test_export_of_a_condition_has_its_rows_alone(logged_in: Cli) -> None:
    columns = ("--field", "id", "--field", "amount", "--format", "jsonl", "-o", "-")
    some = logged_in("export", "wallet-ledger", "--where", "amount > 0", *columns)[1].splitlines()
    assert 0 < len(some) < 2000
    assert all(json.loads(line)["amount"] > 0 for line in some)


def test_condition_holds_for_each_of_several_indexes(logged_in: Cli) -> None:
    task = created(logged_in, "users", "transactions", "--where", "id is_not_empty", *LATER)
    assert {index: len(one["rules"]) for index, one in task["trigger"]["segment"].items()} == {
        "users": 1, "transactions": 1
    }  # fmt: skip
    code, _, stderr = logged_in("export", "users", "wallet-ledger", "--where", "amount > 0", *LATER)
    assert code == 2
    assert "users has no field 'amount'" in stderr


def test_wrong_condition_is_shown_with_a_mark_before_anything_is_made(logged_in: Cli, longshore: Longshore) -> None:
    newest = longshore.tasks.list(limit=1)
    code, out, stderr = logged_in("export", "wallet-ledger", "--where", "amount > ten")
    assert (code, out) == (2, "")
    assert stderr.endswith("expected a number, got 'ten', at character 10:\n  amount > ten\n           ^\n")
    assert [task.id for task in longshore.tasks.list(limit=1)] == [task.id for task in newest]


@pytest.mark.parametrize(
    ("options", "trigger"),
    [
        (("--cron", "0 2 * * *"), {"cron": "0 2 * * *"}),
        (("--cron", "0 2 * * *", "--timezone", "Europe/Amsterdam"),
         {"cron": "0 2 * * *", "timezone": "Europe/Amsterdam"}),
        (("--repeat", "weekly", "--at", "2099-01-01T03:00:00+01:00"),
         {"once": "2099-01-01T02:00:00Z", "repeat": "weekly"}),
        (("--at", "2099-01-01T00:00:00Z", "--timezone", "Asia/Tokyo"),
         {"once": "2099-01-01T00:00:00Z", "timezone": "Asia/Tokyo"}),
    ],
)  # fmt: skip
def test_schedule_of_an_export_is_made_from_options(
    logged_in: Cli, options: tuple[str, ...], trigger: dict[str, str]
) -> None:
    task = created(logged_in, "users", *options, "--json")
    assert task["trigger"] == trigger
    assert logged_in("tasks", "cancel", str(task["id"]))[0] == 0


def test_planned_export_needs_no_folder_and_takes_no_output(
    logged_in: Cli, longshore: Longshore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "removed").mkdir()
    monkeypatch.chdir(tmp_path / "removed")
    (tmp_path / "removed").rmdir()
    id = created(logged_in, "users", *LATER)["id"]
    newest = [task.id for task in longshore.tasks.list(limit=1)]
    assert newest == [id]
    for schedule in (LATER, ("--cron", "0 2 * * *"), ("--repeat", "daily")):
        code, _, error = logged_in("export", "users", *schedule, "-o", str(tmp_path / "a.csv"))
        assert (code, "nothing is downloaded with --at, --repeat or --cron" in error) == (2, True), error
    assert [task.id for task in longshore.tasks.list(limit=1)] == newest
    longshore.tasks.get(id).cancel()


def test_planned_export_says_when_it_runs(logged_in: Cli) -> None:
    code, out, _ = logged_in("export", "users", "--cron", "0 2 * * *", "--timezone", "Europe/Amsterdam")
    assert code == 0
    id = out.split()[1]
    assert out == f"task {id} is READY, runs at 0 2 * * *, Europe/Amsterdam\n"
    assert logged_in("tasks", "cancel", id)[0] == 0


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("archive", {"destination": "archive"}),
        ("warehouse:table=orders,mode=merge", {"destination": "warehouse", "table": "orders", "mode": "merge"}),
        ("archive:path={index}/{interval_end:%Y,%m}/{name},overwrite=true",
         {"destination": "archive", "path": "{index}/{interval_end:%Y,%m}/{name}", "overwrite": True}),
        ('{"destination": "warehouse", "table": "a"}', {"destination": "warehouse", "table": "a"}),
    ],
)  # fmt: skip
def test_delivery_is_read_from_its_short_form(text: str, entry: dict[str, Any]) -> None:
    assert export_options.delivery(text) == entry


@pytest.mark.parametrize(
    "text", ["warehouse:", "warehouse:table", "warehouse:table=", "a:mode=append,mode=merge", "{x"]
)
def test_delivery_that_cannot_be_read_is_wrong_usage(logged_in: Cli, text: str) -> None:
    code, out, stderr = logged_in("export", "users", "--deliver", text, *LATER)
    assert (code, out) == (2, "")
    assert "--deliver" in stderr


def test_deliveries_are_those_of_the_last_run(logged_in: Cli, service: services.Longshore, tmp_path: Path) -> None:
    place = add_place(service, tmp_path, chain=SMALL_CHAIN)
    task = created(logged_in, "users", "--deliver", f"{place.name}:path={{run}}/{{name}}", *LATER)
    id = str(task["id"])
    assert task["target"]["deliver"] == [{"destination": place.name, "path": "{run}/{name}"}]
    code, _, stderr = logged_in("tasks", "deliveries", id)
    assert (code, stderr) == (3, f"longshore: task {id} has not run yet\n")
    for run in (1, 2):
        assert logged_in("tasks", "run", id)[0] == 0
        assert json.loads(logged_in("tasks", "deliveries", id, "--json")[1])[0]["path"] == f"{run}/{{name}}"
    assert logged_in("tasks", "delete", id, "--yes")[:2] == (0, f"task {id} is deleted\n")
    assert logged_in("tasks", "get", id)[0] == 3


def test_tasks_are_listed_by_index_and_time_over_several_pages(logged_in: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longshore.client.blocking.resource.PAGE", 2)
    ids = [created(logged_in, index, *LATER)["id"] for index in ("users", "products", "users", "vouchers", "users")]

    def listed(*options: str) -> list[int]:
        return [
            task["id"] for task in json.loads(logged_in("tasks", "list", "--status", "READY", "--json", *options)[1])
        ]

    assert listed("--limit", "5") == ids[::-1]
    assert listed("--index", "users", "--limit", "3") == [ids[4], ids[2], ids[0]]
    assert listed("--search", "VOUCH", "--limit", "1") == [ids[3]]
    assert listed("--search", str(ids[1]), "--limit", "1") == [ids[1]]
    assert listed("--search", "no task has this", "--limit", "1") == []
    everything = listed("--all")
    assert everything[:5] == ids[::-1]
    assert everything == sorted(set(everything), reverse=True)
    assert listed("--since", "1h", "--all")[:5] == ids[::-1]
    assert listed("--since", "2099-01-01T00:00:00Z") == []
    assert listed("--since", "999999999w", "--limit", "1") == ids[4:]
    for options in (("--since", "yesterday"), ("--since", "2026-05-26"), ("--status", "finished")):
        assert logged_in("tasks", "list", *options)[0] == 2


def test_address_of_a_tasks_page_is_printed(logged_in: Cli, service: services.Longshore) -> None:
    id = created(logged_in, "users", *LATER)["id"]
    assert logged_in("tasks", "open", str(id))[:2] == (0, f"{service.address}/console/{SMALL_CHAIN}/tasks/{id}\n")


def test_segment_is_created_from_conditions_and_from_a_file(logged_in: Cli) -> None:
    made = ("segments", "create", "large ones", "--index", "wallet-ledger")
    code, out, _ = logged_in(*made, "--where", "amount > 100", "--where", "currency_symbol = €")
    assert code == 0
    stored = json.loads(logged_in("segments", "get", out.strip())[1])
    assert [rule["operator"] for rule in stored["segment"]["rules"]] == ["is_greater_than", "is"]
    assert created(logged_in, "wallet-ledger", "--segment", out.strip(), *LATER)["trigger"]["segment_id"] == out.strip()
    Path("rules.json").write_text(json.dumps(stored["segment"]))
    again = json.loads(logged_in(*made, "--input", "rules.json", "--json")[1])
    assert again["segment"] == stored["segment"]
    assert logged_in("segments", "delete", again["id"])[0] == 0
    assert logged_in("segments", "get", again["id"])[0] == 3
    Path("no.json").write_text("[")
    for options in ((), ("--input", "no.json"), ("--input", "missing.json"), ("--where", "amount >")):
        assert logged_in(*made, *options)[0] == 2


def test_existing_file_is_replaced_only_with_clobber(logged_in: Cli, longshore: Longshore) -> None:
    file = Path("users.csv")
    file.write_text("precious")
    newest = longshore.tasks.list(limit=1)[0].id
    code, out, stderr = logged_in("export", "users", "-o", "users.csv")
    assert (code, out, stderr) == (1, "", "longshore: users.csv exists; --clobber replaces it\n")
    assert longshore.tasks.list(limit=1)[0].id == newest
    assert file.read_text() == "precious"
    assert logged_in("export", "users", "-o", "users.csv", "--clobber")[:2] == (0, "users.csv\n")
    id = str(longshore.tasks.list(limit=1)[0].id)
    for place in ((), ("-o", ".")):
        assert logged_in("tasks", "download", id, *place, "--clobber")[0] == 0
        named = Path(longshore.tasks.get(int(id)).result)
        named.write_text("precious")
        code, _, stderr = logged_in("tasks", "download", id, *place)
        assert (code, stderr) == (1, f"longshore: {named} exists; --clobber replaces it\n")
        assert named.read_text() == "precious"


def test_files_of_another_split_task_in_the_same_folder_are_replaced_only_with_clobber(
    logged_in: Cli, longshore: Longshore
) -> None:
    first, second = (
        longshore.exports.create("users", fields=fields, split={"rows": 10}).wait(60)
        for fields in (["id"], ["id", "birthday"])
    )
    folder = Path("out")
    folder.mkdir()
    assert logged_in("tasks", "download", str(first.id), "-o", "out/")[0] == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    part = folder / first.files(1)[0].path
    code, out, stderr = logged_in("tasks", "download", str(second.id), "-o", "out/")
    assert (code, out, stderr) == (1, "", f"longshore: {part} exists; --clobber replaces it\n")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    next(path for path in before if path.name.endswith(".manifest.json")).unlink()
    assert logged_in("tasks", "download", str(first.id), "-o", "out/")[0] == 0, "resumed beside whole files"
    assert logged_in("tasks", "download", str(second.id), "-o", "out/", "--clobber")[0] == 0
    assert part.read_bytes() != before[part]


def test_manifest_and_signature_of_another_file_are_replaced_only_with_clobber(
    logged_in: Cli, longshore: Longshore
) -> None:
    task = str(longshore.exports.create("users").wait(60).id)
    for name in ("x.csv.manifest.json", "x.csv.manifest.json.jws"):
        Path(name).write_text("precious")
        code, _, stderr = logged_in("tasks", "download", task, "-o", "x.csv", "--manifest")
        assert (code, stderr) == (1, f"longshore: {name} exists; --clobber replaces it\n")
        assert (Path("x.csv").exists(), Path(name).read_text()) == (False, "precious")
        assert logged_in("tasks", "download", task, "-o", "x.csv", "--manifest", "--clobber")[0] == 0
        for path in Path().glob("x.csv*"):
            path.unlink()


def test_file_that_appeared_while_an_export_ran_is_not_replaced(longshore: Longshore, tmp_path: Path) -> None:
    task = longshore.exports.create("users").wait(60)
    file = tmp_path / "users.csv"
    file.write_text("precious")
    with pytest.raises(CommandError, match="exists; --clobber replaces it"):
        downloads.download(task, str(file))
    assert file.read_text() == "precious"


def test_device_is_not_replaced_by_a_file(logged_in: Cli) -> None:
    os.mkfifo("pipe")  # in place of a device: none of the machine's own is put at risk
    code, _, stderr = logged_in("export", "users", "-o", "pipe")
    assert code == 2
    assert "'pipe' is not a regular file, but a device or a pipe; write to it with `-o - > pipe`" in stderr
    assert Path("pipe").is_fifo()


def test_json_of_an_export_is_that_of_the_task(logged_in: Cli) -> None:
    exported = json.loads(logged_in("export", "users", "--json")[1])
    shown = json.loads(logged_in("tasks", "get", str(exported["task"]["id"]), "--json")[1])
    assert exported["task"] == shown
    assert shown["logs"][0]["msg"] == "READY -> INPROGRESS"
    assert json.loads(logged_in("tasks", "wait", str(shown["id"]), "--json")[1]) == shown


def test_profiles_are_listed_chosen_and_removed(
    logged_in: Cli, service: services.Longshore, token: str, tmp_path: Path
) -> None:
    reader = service.token(Level.READ, SMALL_CHAIN, Scope(indexes=["users"]))
    login = ("login", "--address", service.address, "--chain", str(SMALL_CHAIN), "--profile", "reader")
    assert logged_in(*login, typed=reader)[0] == 0
    rows = f"*\tdefault\t{service.address}\t{SMALL_CHAIN}\n\treader\t{service.address}\t{SMALL_CHAIN}\n"
    assert logged_in("profiles", "list")[:2] == (0, rows)
    assert token not in logged_in("profiles", "list", "--json")[1]
    assert json.loads(logged_in("whoami", "--json")[1])["level"] == "write"
    assert logged_in("profiles", "use", "reader")[:2] == (0, "commands use 'reader'\n")
    shown = dict(line.split("\t") for line in logged_in("whoami")[1].splitlines())
    assert shown == {
        "profile": "reader", "address": service.address, "chain": str(SMALL_CHAIN), "expires": "never",
        "token": f"{reader.split(':')[0]} test", "level": "read, some indexes or columns are hidden",
    }  # fmt: skip
    assert json.loads(logged_in("whoami", "--profile", "default", "--json")[1])["limited"] is False
    assert logged_in("profiles", "use", "nobody")[0] == 2
    assert reader.split(":")[0] in logged_in("logout")[1]
    assert reader not in (tmp_path / "config" / "longshore" / "profiles.json").read_text()
    code, _, stderr = logged_in("whoami")
    assert (code, stderr.split(";")[0]) == (2, "longshore: there is no profile 'reader'")
    assert logged_in("login", *login[1:5], typed=token)[0] == 0
    assert json.loads(logged_in("whoami", "--json")[1])["profile"] == "default"


def test_profiles_that_others_can_read_are_reported_and_closed_by_the_next_login(
    logged_in: Cli, service: services.Longshore, token: str, tmp_path: Path
) -> None:
    file = tmp_path / "config" / "longshore" / "profiles.json"
    file.chmod(0o644)
    code, _, stderr = logged_in("tasks", "list", "--limit", "1")
    assert (code, stderr) == (0, f"longshore: other users can read the tokens in {file}; `chmod 600` it\n")
    assert logged_in("tasks", "list", "--json")[2] == ""
    assert logged_in("login", "--address", service.address, "--chain", str(SMALL_CHAIN), typed=token)[0] == 0
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("tasks", "get", "abc"), "'abc' is not a valid integer."),
        (("tasks", "list", "--since", "yesterday"), "or a period until now, such as 7d"),
        (("export", "users", "--format", "cvs"), "'cvs' is not one of 'csv', "),
    ],
)
def test_wrong_value_is_answered_with_those_that_are_expected(
    logged_in: Cli, command: tuple[str, ...], words: str
) -> None:
    code, out, stderr = logged_in(*command)
    assert (code, out) == (2, "")
    assert words in stderr


def test_words_of_an_option_may_have_any_case(logged_in: Cli) -> None:
    assert created(logged_in, "users", "--format", "JSONL", *LATER)["target"]["export_format"] == "jsonl"
    assert logged_in("tasks", "list", "--status", "error", "--limit", "1")[0] == 0


def test_rules_without_any_in_a_file_are_judged_by_the_service(logged_in: Cli) -> None:
    Path("rules.json").write_text("{}", encoding="utf-8")
    code, out, stderr = logged_in("segments", "create", "none", "--index", "wallet-ledger", "--input", "rules.json")
    assert (code, out) == (2, "")
    assert "/segment" in stderr
