"""The console's pages in a real browser: what a user does with them, and that everybody can."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pyotp
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from longshore.access.tokens import Level
from longshore.exports.formats import FORMATS
from longshore.exports.segments.operators import OPERATORS
from tests.access.users import User, new_user
from tests.console.conftest import request_of, sign_in
from tests.service import CHAIN, Longshore, ended, export_body

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("tasks", "new", "schedules", "segments", "destinations", "access", "audit", "system")
WIDTHS = (360, 1440)


@contextlib.contextmanager
def held(service: Longshore, table: str = "loyalty.wallet_ledger") -> Iterator[None]:
    """Keep exports of a table waiting in the middle of their run."""
    with psycopg.connect(service.url) as connection:
        connection.execute(f"lock table {table} in access exclusive mode")
        yield
        connection.rollback()


def go(page: Page, name: str) -> None:
    page.goto(f"/console/{CHAIN}/{name}")


def state(page: Page) -> Any:
    return page.locator("#part .state").first


def add_rule(page: Page, field: str, operator: str, *operands: str) -> None:
    page.get_by_role("button", name="Add a rule").click()
    number = page.locator("#rules li").count()
    line = page.locator("#rules li").nth(number - 1)
    line.get_by_label(f"Rule {number}: field").select_option(field)
    page.locator("#rules li").nth(number - 1).get_by_label(f"Rule {number}: operator").select_option(operator)
    for at, value in enumerate(operands):
        line.locator("input:enabled, select:enabled:nth-of-type(n+3)").nth(at).fill(value)


def test_signing_in_leads_to_where_one_wanted_to_go(context: Callable[..., BrowserContext], admin_user: User) -> None:
    page = context().new_page()
    page.goto(f"/console/{CHAIN}/tasks?status=DONE")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Name", exact=True).fill(admin_user.name)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("The name or the password is wrong")
    page.get_by_label("Password").fill(admin_user.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/console/{CHAIN}/tasks?status=DONE")
    [cookie] = [each for each in page.context.cookies() if each["name"] == "longshore"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(re.compile("/sign-in"))
    page.goto(f"/console/{CHAIN}/tasks")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_passcode_is_asked_for_where_it_is_on(context: Callable[..., BrowserContext], service: Longshore) -> None:
    user = new_user(service, totp=True, _1764=Level.READ)
    page = context().new_page()
    page.goto(f"/console/{CHAIN}/segments")
    page.get_by_label("Name", exact=True).fill(user.name)
    page.get_by_label("Password").fill(user.password)
    page.get_by_role("button", name="Sign in").click()
    assert user.totp
    page.get_by_label("six digits").fill(pyotp.TOTP(user.totp).now())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/console/{CHAIN}/segments")


@pytest.mark.parametrize("there", ["https://example.com/", "//example.com", "/\\example.com", "javascript:x"])
def test_no_other_site_is_where_signing_in_leads(service: Longshore, admin_user: User, there: str) -> None:
    form = {"username": admin_user.name, "password": admin_user.password, "next": there}
    answer = httpx2.post(f"{service.address}/sign-in", data=form, headers={"Origin": service.address})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert httpx2.post(f"{service.address}/sign-in", data=form, headers={"Origin": there}).status_code == 403


def test_an_export_is_made_with_a_segment_watched_to_its_end_and_downloaded(
    service: Longshore, page: Page, admin_user: User, client: httpx2.Client
) -> None:
    go(page, "new")
    page.get_by_label("Index").select_option("wallet-ledger")
    page.get_by_label("Description").fill("large amounts")
    add_rule(page, "amount", "is_greater_than", "10")
    add_rule(page, "kind", "is_not", "no such kind")
    counted = service.sql("select count(*) from loyalty.wallet_ledger where chain_id = 1764 and amount > 10")[0][0]
    expect(page.locator("#count")).to_contain_text(f"{counted:,} rows")
    page.get_by_role("button", name="None").click()
    page.get_by_label("Find a column").fill("amo")
    expect(page.locator("#fields input[value=id]")).to_be_hidden()
    page.locator("#fields input[value=amount]").check()
    page.get_by_label("Find a column").fill("")
    page.locator("#fields input[value=id]").check()
    audited = "select count(*) from longshore.audit where action = 'segment.preview' and actor = $1"
    assert service.sql(audited, str(admin_user.id))[0][0] == 0  # counting shows no rows
    page.get_by_role("button", name="Show the first rows").click()
    expect(page.locator("#sample tbody tr")).to_have_count(10)
    expect(page.locator("#sample th")).to_have_count(2)
    assert service.sql(audited, str(admin_user.id))[0][0] == 1
    with held(service):
        page.get_by_role("button", name="Create the export").click()
        page.wait_for_url(re.compile(rf"/console/{CHAIN}/tasks/\d+$"))
        expect(state(page)).to_have_text("INPROGRESS")
        page.evaluate("window.neverReloaded = true")
    expect(state(page)).to_have_text("DONE", timeout=30_000)
    expect(page.locator("#part progress")).to_have_attribute("value", "100.0")
    expect(page.locator(".log")).to_contain_text("INPROGRESS -> DONE")
    assert page.evaluate("window.neverReloaded"), "the page came anew"
    expect(page.get_by_text("amount is greater than 10").first).to_be_visible()
    with page.expect_download() as arriving:
        page.get_by_role("link", name="Download", exact=True).first.click()
    id = int(page.url.rpartition("/")[2])
    assert arriving.value.suggested_filename == f"Wallet_Export-{id}.csv"
    content = Path(arriving.value.path()).read_bytes()
    url = client.get(f"/tasks/{id}/download_url").json()["url"]
    assert content == httpx2.get(url).content
    assert content.startswith(b"id,amount\r\n")
    assert content.count(b"\r\n") == counted + 1


def test_a_running_export_is_cancelled(service: Longshore, page: Page, client: httpx2.Client) -> None:
    with held(service):
        task = client.post("/tasks", json=export_body()).json()["id"]
        go(page, f"tasks/{task}")
        expect(state(page)).to_have_text("INPROGRESS")
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name=f"Cancel task {task}").click()
        page.wait_for_url(f"**/tasks/{task}")
        expect(state(page)).to_have_text("ERROR")
    expect(page.locator(".log")).to_contain_text("cancelled")
    expect(page.locator(".problem.reason")).to_contain_text("cancelled by user")
    page.get_by_role("button", name="Run now").click()
    expect(state(page)).to_have_text("DONE", timeout=30_000)
    expect(page.locator(".problem.reason")).to_have_count(0)
    expect(page.locator("tr[id^=run-]")).to_have_count(2)


def test_form_that_is_sent_twice_has_one_effect(page: Page, client: httpx2.Client) -> None:
    body = export_body(once="2126-01-05T03:00:00Z", repeat="daily")
    task = client.post("/tasks", json=body).json()["id"]
    assert client.post(f"/tasks/{task}/pause").status_code == 200
    go(page, f"tasks/{task}")
    page.get_by_label("Times after").fill("2026-05-01T04:00")
    page.get_by_label("Up to").fill("2026-05-03T03:00")
    page.get_by_role("button", name="Backfill", exact=True).dblclick()
    expect(page.locator("#part")).to_contain_text("0 of 2 done")
    go(page, f"tasks/{task}")
    form = page.locator("form[action$=backfill]").evaluate("form => Object.fromEntries(new FormData(form))")
    form |= {"start": "2026-05-05T02:00", "end": "2026-05-06T03:00"}
    address, headers = f"/console/{CHAIN}/tasks/{task}/backfill", {"Origin": page.url.split("/console")[0]}
    for _ in range(2):  # as a browser without scripts sends it
        assert page.request.post(address, form=form, headers=headers).ok
    assert len(client.get(f"/tasks/{task}/backfills").json()) == 2
    for key in ("\x00", "k" * 65):
        form |= {"idempotency_key": key, "start": "2026-05-07T02:00", "end": "2026-05-08T03:00"}
        assert page.request.post(address, form=form, headers=headers).ok
    assert len(client.get(f"/tasks/{task}/backfills").json()) == 4
    assert client.post(f"/tasks/{task}/cancel").status_code == 200


def test_runs_deliveries_and_destinations_are_made_once_by_a_form_that_is_sent_twice(
    page: Page, client: httpx2.Client
) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z")).json()["id"]
    address, headers = f"/console/{CHAIN}/tasks/selected", {"Origin": page.url.split("/console")[0]}
    for _ in range(2):
        form: dict[str, str | float | bool] = {"id": str(task), "do": "run", "idempotency_key": f"key-{task}"}
        assert page.request.post(address, form=form, headers=headers).ok
        assert ended(client, task)["state"]["code"] == "DONE"
    assert len(client.get(f"/tasks/{task}/runs").json()) == 1
    go(page, "destinations/new?kind=memory")
    form = page.locator("#destination").evaluate("form => Object.fromEntries(new FormData(form))")
    form |= {"name": f"twice-{task}", "/settings/shelf": "top", "/secret/password": "x", "save": "yes"}
    for _ in range(2):
        sent = page.request.post(f"/console/{CHAIN}/destinations/new", form=form, headers=headers)
        assert (sent.status, f"twice-{task}" in sent.text()) == (200, True)


def test_pages_are_not_kept_by_the_browser_and_back_shows_the_page_anew(page: Page, client: httpx2.Client) -> None:
    word = f"word{time.time_ns()}"
    task = client.post("/tasks", json={**export_body(once="2126-01-05T03:00:00Z"), "desc": word}).json()["id"]
    go(page, "tasks")
    page.locator("#search").fill(word)
    page.wait_for_url(f"**?q={word}")
    page.locator(f"#task-{task}").click()
    page.wait_for_url(f"**/tasks/{task}")
    assert page.evaluate("sessionStorage.getItem('htmx-history-cache')") is None
    assert client.post(f"/tasks/{task}/cancel").status_code == 200
    page.go_back()
    page.wait_for_url(f"**?q={word}")
    expect(page.locator("#table .state.error")).to_have_count(1)


def test_address_of_a_chain_leads_to_its_tasks(page: Page) -> None:
    for path in (f"/console/{CHAIN}", f"/console/{CHAIN}/"):
        page.goto(path)
        page.wait_for_url(f"**/console/{CHAIN}/tasks")


def test_schedule_is_paused_resumed_and_backfilled_without_scripts(
    context: Callable[..., BrowserContext], admin_user: User, client: httpx2.Client
) -> None:
    body = export_body(once="2126-01-05T03:00:00Z", repeat="daily", timezone="Europe/Amsterdam")
    task = client.post("/tasks", json=body).json()["id"]
    page = context(java_script_enabled=False).new_page()
    sign_in(page, admin_user, f"/console/{CHAIN}/tasks/{task}")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#part .row")).to_contain_text("PAUSED")
    page.get_by_label("Times after").fill("2026-05-01T04:00")
    page.get_by_label("Up to").fill("2026-05-03T04:00")
    page.get_by_role("button", name="Backfill", exact=True).click()
    expect(page.locator("#part")).to_contain_text("0 of 2 done")
    [backfill] = client.get(f"/tasks/{task}/backfills").json()
    assert (backfill["start"], backfill["end"]) == ("2026-05-01T02:00:00Z", "2026-05-03T02:00:00Z")
    page.get_by_label("Times after").fill("2026-05-01T04:00")
    page.get_by_label("Up to").fill("2026-05-01T04:00")
    page.get_by_role("button", name="Backfill", exact=True).click()
    expect(page.locator(".problem")).to_contain_text("expected a time after `start`")
    page.goto(f"/console/{CHAIN}/tasks/{task}")
    page.get_by_label("Missed runs").select_option("none")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    logs = client.get(f"/tasks/{task}").json()["logs"]
    assert any(entry["msg"].startswith("resumed by user ") for entry in logs)
    assert client.post(f"/tasks/{task}/cancel").status_code in (200, 409)


def test_a_session_that_expires_is_asked_for_again_and_goes_on_there(
    service: Longshore, page: Page, admin_user: User
) -> None:
    go(page, "tasks?status=DONE")
    service.sql("delete from longshore.sessions where user_id = $1", admin_user.id)
    page.wait_for_url("**/sign-in?next=*")  # the list keeps itself up to date, and so finds out
    page.get_by_label("Name", exact=True).fill(admin_user.name)
    page.get_by_label("Password").fill(admin_user.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/console/{CHAIN}/tasks?status=DONE")
    go(page, "new")
    expect(page.locator("#count")).to_contain_text("rows")  # no preview is on its way, which would find out first
    service.sql("delete from longshore.sessions where user_id = $1", admin_user.id)
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url("**/sign-in?next=*")


def test_two_tabs_show_the_same_task_and_each_its_own_chain(
    service: Longshore, page: Page, client: httpx2.Client
) -> None:
    task = client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    other = page.context.new_page()
    for tab in (page, other):
        go(tab, f"tasks/{task}")
        expect(state(tab)).to_have_text("READY")
    other.get_by_role("button", name="Run now").click()
    expect(state(page)).to_have_text("DONE", timeout=30_000)
    go(page, "tasks")
    other.goto("/console/1765/tasks")
    page.get_by_label("State").select_option("DONE")
    page.wait_for_url("**status=DONE**")
    expect(page.locator("tbody th").first).to_be_visible()
    expect(other.locator(".menu summary")).to_have_text("Chain 1765")
    expect(page.locator(".menu summary")).to_have_text("Chain 1764")
    expect(other.get_by_role("link", name="New export")).to_have_count(0)  # they only read there
    assert service.address in page.url


def test_the_list_is_filtered_and_keeps_itself_up_to_date(page: Page, client: httpx2.Client) -> None:
    go(page, "tasks")
    page.get_by_label("Index").select_option("users")
    page.wait_for_url("**index=users**")
    body = export_body()
    body["target"]["export_index"] = "users"
    body["desc"] = f"users {time.time()}"
    client.post("/tasks", json=body)
    row = page.locator("tbody tr", has_text=body["desc"])
    expect(row).to_be_visible()
    expect(row.locator(".state")).to_have_text("DONE", timeout=30_000)
    indexes = page.locator("td[data-label=Description] .note")
    expect(indexes.filter(has_not_text=re.compile(r"\busers\b"))).to_have_count(0)  # a bundle has others, too
    page.goto(f"/console/{CHAIN}/tasks?index=no-such-index")
    expect(page.get_by_role("heading", name="No tasks match")).to_be_visible()


def test_every_operator_can_be_built_and_is_counted(page: Page, client: httpx2.Client) -> None:
    go(page, "new")
    page.get_by_label("Index").select_option("transactions")
    page.get_by_role("button", name="Add a rule").click()
    line = page.locator("#rules li").first
    fields = {"date": "timestamp", "keyword": "type", "text": "notes", "number": "total", "boolean": ""}
    nested = {"keyword": "items.barcode", "number": "items.price", "boolean": "items.is_promotional"}
    tried = 0
    for operator, about in OPERATORS.items():
        for kind in about.types:
            for field in filter(None, (fields[kind], nested.get(kind, ""))):
                choices = (
                    line.get_by_label("Rule 1: field").locator("option").evaluate_all("all => all.map(o => o.value)")
                )
                if field not in choices:
                    continue
                line.get_by_label("Rule 1: field").select_option(field)
                line.get_by_label("Rule 1: operator").select_option(operator)
                for need in about.operands:
                    operand = line.get_by_label(f"Rule 1: {need.replace('_', ' ')}")
                    if operand.evaluate("element => element.tagName") == "INPUT":
                        number = {"max": "9", "end_date": "2026-06-01T00:00:00Z"}
                        usual = {"date": "2026-05-01T00:00:00Z", "number": "5"}.get(kind, "x")
                        operand.fill(number.get(need, "3" if need == "time_amount" else usual))
                segment = request_of(page)["trigger"]["segment"]
                answer = client.post("/segments/preview", json={"segment": segment, "fields": ["id"]})
                assert answer.status_code == 200, (operator, field, answer.text, segment)
                tried += 1
    assert tried >= 25


def test_compression_is_offered_for_formats_that_have_none_of_their_own(page: Page) -> None:
    go(page, "new")
    for name, about in FORMATS.items():
        page.get_by_label("Format").select_option(name)
        expect(page.get_by_label("Compression")).to_be_enabled(enabled=about.compression == "external")


def test_the_same_request_from_elsewhere_is_the_same(
    service: Longshore, page: Page, client: httpx2.Client, tmp_path: Path
) -> None:
    go(page, "new")
    page.get_by_label("Index").select_option("users")
    page.get_by_label("Description").fill("it's the same")
    page.get_by_label("Format").select_option("jsonl")
    page.get_by_label("Compression").select_option("gzip")
    page.get_by_role("button", name="None").click()
    page.locator("#fields input[value=id]").check()
    expect(page.locator("#cli")).to_contain_text("--field id --compression gzip")
    cli = page.locator("#cli").text_content() or ""
    add_rule(page, "username", "is_not_empty")
    expect(page.locator("#python")).to_contain_text("username")
    curl, python = (page.locator(f"#{id}").text_content() or "" for id in ("curl", "python"))
    token = service.token(Level.WRITE)
    done = subprocess.run(["bash", "-c", curl], env={"TOKEN": token, "PATH": "/usr/bin:/bin"}, capture_output=True)
    by_curl = json.loads(done.stdout)
    names: dict[str, Any] = {"token": token}
    exec(python.replace("task.download()", ""), names)
    by_python = client.get(f"/tasks/{names['task'].id}").json()
    assert by_curl["target"] == by_python["target"] == {
        "action": "export", "export_index": "users", "export_format": "jsonl", "fields": ["id"], "compression": "gzip",
    }  # fmt: skip
    assert by_curl["trigger"]["segment"] == by_python["trigger"]["segment"]
    assert by_curl["desc"] == by_python["desc"] == "it's the same"
    home = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    login = f"longshore login --address {service.address} --chain {CHAIN}"
    subprocess.run(["bash", "-c", login], env=home, input=token, text=True, check=True)
    made = subprocess.run(["bash", "-c", f"{cli} --json"], env=home, cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["task"]["target"] == by_curl["target"]


def test_export_of_changes_and_one_of_many_files_are_made(page: Page, client: httpx2.Client) -> None:
    go(page, "new")
    page.get_by_label("Index").select_option("wallet-ledger")
    expect(page.get_by_label("which rows are gone")).to_be_hidden()
    page.get_by_label("Each run takes").select_option("true")
    page.get_by_label("which rows are gone").check()
    assert request_of(page)["target"] == {
        "action": "export", "export_index": "wallet-ledger", "export_format": "csv", "incremental": True,
        "deletes": True,
    }  # fmt: skip
    expect(page.locator("#cli")).to_have_text("longshore export wallet-ledger --format csv --deletes")
    page.get_by_label("Each run takes").select_option("")
    page.get_by_label("Files of at most").fill("9000")
    page.get_by_label("A folder for each").fill("timestamp:year, kind")
    assert "deletes" not in request_of(page)["target"]
    expect(page.locator("#cli")).to_contain_text("--partition-by timestamp:year --partition-by kind --split-rows 9000")
    expect(page.locator("#keys option[value='timestamp:day']")).to_have_count(1)
    page.get_by_text("With other indexes").click()
    page.get_by_role("checkbox", name="users").check()
    add_rule(page, "kind", "is_not", "no such kind")
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url(re.compile(rf"/console/{CHAIN}/tasks/\d+$"))
    task = int(page.url.rpartition("/")[2])
    found = ended(client, task)
    assert found["state"]["code"] == "DONE", found["logs"]
    assert found["target"] == {
        "action": "export", "export_indexes": ["wallet-ledger", "users"], "export_format": "csv",
        "split": {"rows": 9000},
        "partition_by": {"wallet-ledger": [{"field": "timestamp", "by": "year"}, {"field": "kind"}]},
    }  # fmt: skip
    assert list(found["trigger"]["segment"]) == ["wallet-ledger"]
    go(page, f"new?from={task}")
    expect(page.locator("#count")).to_contain_text("rows")
    again = request_of(page)
    assert (again["target"], again["trigger"]["segment"]) == (found["target"], found["trigger"]["segment"])


def test_new_export_is_made_without_scripts(
    context: Callable[..., BrowserContext], admin_user: User, client: httpx2.Client
) -> None:
    page = context(java_script_enabled=False).new_page()
    sign_in(page, admin_user, f"/console/{CHAIN}/new")
    expect(page.get_by_role("button", name="Add a rule")).to_be_hidden()
    page.get_by_label("Index").select_option("wallet-ledger")
    page.get_by_text("With other indexes").click()
    for name in ("wallet-ledger", "products"):  # the first is the index itself
        page.get_by_role("checkbox", name=name).check()
    page.get_by_label("Description").fill("without a script")
    page.get_by_label("Format").select_option("csv")
    page.get_by_label("CSV for").select_option("excel")
    page.get_by_label("Files of at most").fill("5000")
    page.get_by_label("A folder for each").fill("timestamp:year")
    page.get_by_label("Begins").select_option("at")
    page.get_by_label("Time", exact=True).fill("2126-01-05T03:00")
    page.get_by_label("Repeats").select_option("daily")
    page.get_by_label("By the clock of").fill("Europe/Amsterdam")
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url(re.compile(rf"/console/{CHAIN}/tasks/\d+$"))
    found = client.get(f"/tasks/{page.url.rpartition('/')[2]}").json()
    assert found["desc"] == "without a script"
    assert found["target"] == {
        "action": "export", "export_format": "csv", "export_indexes": ["wallet-ledger", "products"],
        "csv": {"profile": "excel"}, "split": {"rows": 5000},
        "partition_by": {"wallet-ledger": [{"field": "timestamp", "by": "year"}]},
    }  # fmt: skip
    assert found["trigger"] == {"once": "2126-01-05T02:00:00Z", "repeat": "daily", "timezone": "Europe/Amsterdam"}
    assert client.post(f"/tasks/{found['id']}/cancel").status_code == 200
    go(page, "new")
    page.get_by_label("Each run takes").select_option("true")
    page.get_by_label("which rows are gone").check()
    page.get_by_label("Files of at most").fill("many")
    page.get_by_label("Begins").select_option("cron")
    page.get_by_label("Cron expression").fill("every day")
    page.get_by_role("button", name="Create the export").click()
    expect(page.locator(".problem")).to_contain_text("/target/split")
    expect(page.locator(".problem")).to_contain_text("/trigger/cron")


def test_files_of_a_run_of_several_indexes_are_listed_with_links(page: Page, client: httpx2.Client) -> None:
    body = export_body()
    del body["target"]["export_index"]
    body["target"] |= {
        "export_indexes": ["users", "wallet-ledger"],
        "partition_by": {"wallet-ledger": [{"field": "kind"}]},
        "fields": {"users": ["id"]},
    }
    task = client.post("/tasks", json=body).json()["id"]
    assert ended(client, task)["state"]["code"] == "DONE"
    go(page, f"tasks/{task}")
    expect(page.get_by_text("users, wallet-ledger").first).to_be_visible()
    page.get_by_role("link", name="Files", exact=True).click()
    link = page.get_by_role("link", name="users/part-00001.csv")
    assert httpx2.get(link.get_attribute("href") or "").text.startswith("id")
    assert violations(page) == []
    page.get_by_role("link", name="run 1").click()
    expect(page.get_by_role("heading", name="Run 1")).to_be_visible()


def test_a_task_is_repeated_as_new_with_what_it_was_asked(page: Page, client: httpx2.Client) -> None:
    rules = [
        {"field_name": "timestamp", "field_type": "date", "operator": "relative_less_than", "time_factor": "week",
         "time_amount": 900},
        {"field_name": "kind", "field_type": "keyword", "operator": "is_one_of", "value": ["credit", "debit"]},
    ]  # fmt: skip
    segment = {"entity": "people", "index": "wallet-ledger", "join": "any", "chain_id": CHAIN, "rules": rules}
    body = export_body(segment=segment)
    body["target"] |= {"fields": ["id", "kind"], "csv": {"profile": "excel"}}
    task = client.post("/tasks", json=body).json()
    go(page, f"tasks/{task['id']}")
    expect(page.get_by_text("timestamp is less than 900 weeks ago").first).to_be_visible()
    page.get_by_role("link", name="Repeat as new").click()
    page.wait_for_url("**/new?from=*")
    expect(page.locator("#count")).to_contain_text("rows")
    again = request_of(page)
    assert again["target"] == task["target"]
    assert again["trigger"]["segment"] == task["trigger"]["segment"]


def test_a_bundle_in_folders_and_files_of_a_size_is_repeated_as_new(page: Page, client: httpx2.Client) -> None:
    body = export_body(once="2126-01-05T03:00:00Z")
    del body["target"]["export_index"]
    body["target"] |= {
        "export_indexes": ["users", "wallet-ledger"], "fields": {"users": ["id"]}, "split": {"rows": 1000},
        "partition_by": {"wallet-ledger": [{"field": "kind"}]},
    }  # fmt: skip
    created = client.post("/tasks", json=body)
    assert created.status_code == 201, created.text
    task = created.json()
    client.post(f"/tasks/{task['id']}/cancel")
    go(page, f"tasks/{task['id']}")
    expect(page.locator("[aria-labelledby=definition] time[datetime^='2126-01-05T03']")).to_be_visible()
    page.get_by_role("link", name="Repeat as new").click()
    page.wait_for_url("**/new?from=*")
    assert request_of(page)["target"] == task["target"]


def kept_by_repeating(client: httpx2.Client) -> dict[str, Any]:
    """A task with all that the form of a new export does not show."""
    rules = [
        {"field_name": "kind", "field_type": "keyword", "operator": "is_one_of",
         "value": ["Smith, John", "", ' the "best" ', "credit"]},
        {"field_name": "amount", "field_type": "number", "operator": "is_one_of", "value": [9007199254740993, 0.5]},
        {"field_name": "kind", "field_type": "keyword", "operator": "is_not", "value": "two\nlines"},
    ]  # fmt: skip
    segment = {"entity": "people", "index": "wallet-ledger", "join": "any", "chain_id": CHAIN, "rules": rules}
    plan: dict[str, Any] = {
        "repeat": "daily",
        "timezone": "Europe/Amsterdam",
        "until": "2127-01-05T03:00:00Z",
        "catch_up": "all",
    }
    body = export_body(once="2126-01-05T03:00:00Z", segment=segment, **plan)
    body["target"] |= {
        "fields": ["kind", {"name": "id", "as": "number"}, "amount"], "csv": {"profile": "excel", "header": False},
        "priority": 3, "timeout_seconds": 77, "result_days": 1.5,
    }  # fmt: skip
    created = client.post("/tasks", json=body)
    assert created.status_code == 201, created.text
    assert client.post(f"/tasks/{created.json()['id']}/cancel").status_code == 200
    task: dict[str, Any] = created.json()
    return task


@pytest.mark.parametrize("scripts", [True, False])
def test_repeated_task_keeps_what_the_form_does_not_show(
    context: Callable[..., BrowserContext], admin_user: User, client: httpx2.Client, scripts: bool
) -> None:
    task = kept_by_repeating(client)
    page = context(java_script_enabled=scripts).new_page()
    sign_in(page, admin_user, f"/console/{CHAIN}/new?from={task['id']}")
    page.get_by_label("Begins").select_option("at")
    page.locator("#at").fill("2126-01-05 04:00")
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url(re.compile(rf"/console/{CHAIN}/tasks/\d+$"))
    again = client.get(f"/tasks/{page.url.rpartition('/')[2]}").json()
    client.post(f"/tasks/{again['id']}/cancel")
    assert again["id"] != task["id"]
    assert (again["desc"], again["target"]) == (task["desc"], task["target"])
    assert {**again["trigger"], "once": ""} == {**task["trigger"], "once": ""}


@pytest.mark.parametrize("scripts", [True, False])
def test_export_of_a_stored_segment_never_becomes_one_of_every_row(
    context: Callable[..., BrowserContext], admin_user: User, client: httpx2.Client, service: Longshore, scripts: bool
) -> None:
    rules = [{"field_name": "total", "field_type": "number", "operator": "is_greater_than", "value": 10}]
    segment = {"entity": "people", "index": "transactions", "join": "all", "chain_id": CHAIN, "rules": rules}
    stored = client.post("/segments", json={"chain": CHAIN, "name": "old one", "segment": segment}).json()["id"]
    older = "update longshore.segments set created_at = now() - interval '1 year' where id = $1"
    more = """
        insert into longshore.segments (chain_id, name, index, segment)
        select chain_id, 'newer', index, segment from longshore.segments, generate_series(1, 101) where id = $1
    """
    service.sql(older, stored), service.sql(more, stored)
    page = context(java_script_enabled=scripts).new_page()
    sign_in(page, admin_user, f"/console/{CHAIN}/new?segment={stored}")
    expect(page.get_by_label("Segment", exact=True)).to_have_value(stored)
    expect(page.get_by_label("Index", exact=True)).to_have_value("transactions")
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url(re.compile(rf"/console/{CHAIN}/tasks/\d+$"))
    task = page.url.rpartition("/")[2]
    assert client.get(f"/tasks/{task}").json()["trigger"]["segment_id"] == stored
    ended(client, int(task))
    service.sql("delete from longshore.segments where name in ('newer', 'old one')")
    for address in (f"new?segment={stored}", f"new?from={task}"):
        go(page, address)
        expect(page.get_by_label("Segment", exact=True).locator("option:checked")).to_contain_text("does not exist")
        page.get_by_role("button", name="Create the export").click()
        expect(page.locator(".problem").first).to_contain_text("segment_id")


def test_forecast_of_a_stored_segment_compares_large_numbers_exactly(
    page: Page, client: httpx2.Client, service: Longshore
) -> None:
    rule = {"field_name": "receipt_id", "field_type": "number", "operator": "is", "value": 9007199254740993}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    stored = client.post("/segments", json={"chain": CHAIN, "name": "one receipt", "segment": segment}).json()["id"]
    row, old = service.sql("select id, receipt_id from loyalty.wallet_ledger where chain_id = $1 limit 1", CHAIN)[0]
    change = "update loyalty.wallet_ledger set receipt_id = $2 where id = $1"
    service.sql(change, row, 9007199254740993)
    try:
        go(page, f"new?segment={stored}")
        expect(page.locator("#count")).to_contain_text("1 rows")
        page.get_by_role("button", name="Show the first rows").click()
        expect(page.locator("#sample tbody tr")).to_have_count(1)
        expect(page.locator("#sample")).to_contain_text("9007199254740993")
    finally:
        service.sql(change, row, old)
        client.delete(f"/segments/{stored}")


def test_repeated_export_with_a_rule_on_a_field_that_is_gone_is_shown_and_refused(
    page: Page, client: httpx2.Client, service: Longshore
) -> None:
    rules = [
        {"field_name": name, "field_type": "keyword", "operator": "is", "value": "credit"} for name in ("kind", "type")
    ]
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": rules[:1]}
    task = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z", segment=segment)).json()["id"]
    client.post(f"/tasks/{task}/cancel")
    change = (
        "update longshore.tasks set trigger = jsonb_set(trigger::jsonb, '{segment,rules}', $2::jsonb) where id = $1"
    )
    service.sql(change, task, json.dumps(rules))
    go(page, f"new?from={task}")
    expect(page.locator("#count")).to_contain_text("/segment/rules/1/field_name")
    expect(page.get_by_label("Rule 2: field")).to_have_value("type")
    page.get_by_label("Rule 2: field").select_option("kind")
    page.get_by_label("Rule 2: operator").select_option("is")
    page.get_by_label("Rule 2: value").fill("credit")
    expect(page.locator("#count")).to_contain_text("rows")
    assert request_of(page)["trigger"]["segment"]["rules"] == [rules[0]] * 2


def test_form_without_columns_is_refused_with_and_without_scripts(page: Page, service: Longshore) -> None:
    go(page, "new")
    page.get_by_role("button", name="None").click()
    expect(page.locator("#count")).to_contain_text("/fields expected at least one field")
    page.get_by_role("button", name="Create the export").click()
    expect(page.locator("#violations")).to_contain_text("/target/fields expected at least one field")
    form: dict[str, str | float | bool] = {"index": "users", "columns-of": "users", "format": "csv"}
    headers = {"Origin": service.address}
    answer = page.request.post(f"{service.address}/console/{CHAIN}/new", form=form, headers=headers)
    assert answer.status == 400
    assert "expected at least one field" in answer.text()


def test_repeated_export_to_a_destination_that_was_deleted_is_refused(
    page: Page, client: httpx2.Client, service: Longshore
) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z")).json()["id"]
    deliver = """update longshore.tasks set target = jsonb_set(target::jsonb, '{deliver}', '[{"destination": "gone"}]')
        where id = $1"""
    service.sql(deliver, task)
    client.post(f"/tasks/{task}/cancel")
    go(page, f"new?from={task}")
    expect(page.get_by_label("Destination").locator("option:checked")).to_contain_text("does not exist")
    page.get_by_role("button", name="Create the export").click()
    expect(page.locator("#violations")).to_contain_text("/target/deliver/0/destination")


def test_violation_of_an_export_is_shown_beside_it(page: Page) -> None:
    go(page, "new")
    page.get_by_label("Begins").select_option("cron")
    page.get_by_label("Cron expression").fill("every day")
    page.get_by_role("button", name="Create the export").click()
    expect(page.locator("#violations")).to_contain_text("/trigger/cron")
    assert page.url.endswith("/new")


def test_rules_are_stored_and_shown_in_words(page: Page, service: Longshore) -> None:
    service.sql("delete from longshore.segments where name = 'credits'")
    go(page, "new")
    page.get_by_label("Index").select_option("wallet-ledger")
    add_rule(page, "kind", "is", "credit")
    page.once("dialog", lambda dialog: dialog.accept("credits"))
    page.get_by_role("button", name="Store these rules").click()
    expect(page.get_by_label("Segment")).not_to_have_value("")
    go(page, "segments")
    row = page.locator("tbody tr", has_text="credits")
    expect(row).to_contain_text("kind is “credit”")
    row.get_by_role("link", name="Export").click()
    expect(page.get_by_label("Index")).to_have_value("wallet-ledger")
    go(page, "segments")
    row.locator("summary").click()
    row.get_by_role("button", name="Delete credits").click()
    expect(page.locator("tbody tr", has_text="credits")).to_have_count(0)


def test_a_client_and_its_token_are_made_and_revoked(page: Page, service: Longshore) -> None:
    name = f"loader {time.time()}"
    go(page, "access")
    page.get_by_text("New service client").click()
    page.get_by_label("Name", exact=True).first.fill(name)
    page.get_by_role("button", name="Create client").click()
    expect(page.locator("tbody th", has_text=name)).to_be_visible()
    page.wait_for_load_state()
    page.get_by_text("New access token").click()
    page.get_by_label("Client", exact=True).select_option(label=name)
    page.get_by_label("Hidden columns").select_option("users.phone_number")
    page.get_by_role("button", name="Create token").click()
    expect(page.locator("output.secret")).to_be_visible()
    pair = (page.locator("output.secret").text_content() or "").split()[-1]
    bearer = {"Authorization": f"Bearer {pair}"}
    assert "phone_number" not in httpx2.get(f"{service.address}/indexes/users", headers=bearer).text
    go(page, "access")
    expect(page.locator("output.secret")).to_have_count(0)
    row = page.locator("tbody tr", has_text=name).filter(has_text="Not users.phone_number")
    row.locator("summary").click()
    row.get_by_role("button", name="Revoke").click()
    expect(row).to_contain_text("revoked")
    time.sleep(1.2)
    assert httpx2.get(f"{service.address}/tasks", headers=bearer).status_code == 401
    go(page, "audit?action=token.revoke")
    expect(page.locator("tbody tr").first).to_contain_text(pair[:8])


def test_times_are_shown_in_the_viewers_zone_with_utc_beside(
    context: Callable[..., BrowserContext], admin_user: User, client: httpx2.Client
) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-05T23:30:00Z")).json()["id"]
    page = context(timezone_id="Asia/Tokyo").new_page()
    sign_in(page, admin_user)
    due = page.locator("tbody tr", has=page.get_by_role("link", name=str(task))).locator(
        "td[data-label='Next run'] time"
    )
    expect(due).to_have_text(re.compile("in [0-9]+ y"))
    expect(due).to_have_attribute("title", "6 Jan 2126, 08:30:00 (2126-01-05 23:30:00 UTC)")
    american = context(timezone_id="America/New_York", locale="en-US").new_page()
    sign_in(american, admin_user, f"/console/{CHAIN}/tasks/{task}")
    created = american.locator("section[aria-labelledby=definition] time").first
    expect(created).to_have_attribute("title", re.compile("UTC$"))
    expect(created).not_to_contain_text("M")  # neither AM nor PM


def test_the_keyboard_reaches_everything(page: Page, client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body()).json()["id"]
    ended(client, task)
    go(page, f"tasks/{task}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert {"Tasks", "Download", "Run now", "Repeat as new"} <= set(seen)


def test_the_focus_stays_where_it_is_while_a_page_follows_its_tasks(page: Page, client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body()).json()["id"]
    ended(client, task)
    for name, place, focused in (
        ("tasks", "#table", page.get_by_role("link", name=str(task), exact=True)),
        (f"tasks/{task}", "#part", page.get_by_role("button", name="Run now")),
    ):
        go(page, name)
        focused.focus()
        page.evaluate("place => { document.querySelector(place).firstElementChild.id = 'old' }", place)
        page.evaluate("place => htmx.ajax('GET', document.querySelector(place).getAttribute('hx-get'), place)", place)
        expect(page.locator("#old")).to_have_count(0)
        expect(focused).to_be_focused()


def test_a_click_is_not_lost_when_the_page_has_news_in_the_middle_of_it(page: Page, client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body()).json()["id"]
    ended(client, task)
    go(page, f"tasks/{task}")
    page.get_by_role("button", name="Run now").hover()
    page.mouse.down()
    page.evaluate("""async () => {
        const part = document.querySelector("#part");
        part.firstElementChild.id = "old";
        await htmx.ajax("GET", part.getAttribute("hx-get"), part);
    }""")
    assert page.locator("#old").count(), "what was under the mouse is another element now"
    page.mouse.up()
    expect(page.locator("tr[id^=run-]")).to_have_count(2)


def test_every_page_says_what_it_is_in_a_policy_that_runs_no_other_script(service: Longshore, admin_user: User) -> None:
    for name in PAGES:
        answer = httpx2.get(f"{service.address}/console/{CHAIN}/{name}", headers=admin_user.session())
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*(src=|application/json))|\son\w+=|style=", answer.text)
        assert answer.headers["cache-control"] == "no-store"
        # One that is sent before its script is there must not put what was typed, such as a password, into an address.
        assert not re.search(r"<form(?![^>]*method=)", answer.text)


def test_a_page_is_shown_from_its_level_on(service: Longshore, client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    reader, stranger = (new_user(service, _1764=Level.READ), new_user(service, _1765=Level.ADMIN))
    base = f"{service.address}/console/{CHAIN}"
    mine = reader.session()
    for name in PAGES:
        expected = 403 if name in ("new", "destinations", "audit") else 200
        assert httpx2.get(f"{base}/{name}", headers=mine).status_code == expected
        assert httpx2.get(f"{base}/{name}", headers=stranger.session()).status_code == 403
        for headers in ({}, {"Authorization": f"Bearer {service.token()}"}):  # a console is for people
            answer = httpx2.get(f"{base}/{name}", headers=headers)
            assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/sign-in")
    shown = httpx2.get(f"{base}/tasks/{task}", headers=mine)
    assert shown.status_code == 200
    assert "Run now" not in shown.text
    theirs = f"{service.address}/console/1765/tasks/{task}"
    assert httpx2.get(theirs, headers=stranger.session(1765)).status_code == 404
    assert httpx2.get(f"{theirs}/events", headers=stranger.session(1765)).status_code == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier_in_a_page(
    context: Callable[..., BrowserContext], admin_user: User, client: httpx2.Client, scheme: str
) -> None:
    task = client.post("/tasks", json=export_body()).json()["id"]
    ended(client, task)
    page = context(color_scheme=scheme).new_page()
    page.goto("/sign-in")
    found = {"sign-in": violations(page)}
    sign_in(page, admin_user)
    paused = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z", repeat="daily")).json()["id"]
    client.post(f"/tasks/{paused}/pause")
    span = {"start": "2026-05-01T03:00:00Z", "end": "2026-05-09T03:00:00Z"}
    assert client.post(f"/tasks/{paused}/backfill", json=span).status_code == 202
    for name in (*PAGES, f"tasks/{task}", f"tasks/{paused}"):
        go(page, name)
        if name == "new":
            add_rule(page, "timestamp", "is_not_empty")
            page.get_by_role("button", name="Show the first rows").click()
            expect(page.locator("#sample tbody tr").first).to_be_visible()
        if name == "access":
            for summary in page.locator("summary").all():
                summary.click()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            found[f"{name} at {width}"] = violations(page)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide at {width}"
    assert {where: what for where, what in found.items() if what} == {}


def violations(page: Page) -> list[str]:
    """Return the violations that axe-core calls serious or critical."""
    page.evaluate(AXE.read_text())
    result = page.evaluate("axe.run(document)")
    return [
        f"{each['id']}: {[node['html'][:120] for node in each['nodes']][:3]}"
        for each in result["violations"]
        if each["impact"] in ("serious", "critical")
    ]
