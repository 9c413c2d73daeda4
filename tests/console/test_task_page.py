"""The pages of a task and of a run in a real browser: failures, charts, results, first rows, log, links."""

import re
from collections.abc import Callable

import httpx2
from playwright.sync_api import BrowserContext, Page, expect

from longshore.access.tokens import Level
from longshore.tasks.model import HIDDEN_MESSAGE
from tests.access.users import User, new_user
from tests.console.conftest import sign_in
from tests.console.test_pages import go, violations
from tests.run_steps import play
from tests.service import CHAIN, Longshore, ended, export_body


def failed(client: httpx2.Client, **more: object) -> int:
    """A task that fails at once: its stored segment is gone when it runs."""
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": []}
    stored = client.post("/segments", json={"chain": CHAIN, "name": "gone", "segment": segment}).json()["id"]
    body = {**export_body(once="2126-01-05T03:00:00Z", segment_id=stored), **more}
    task: int = client.post("/tasks", json=body).json()["id"]
    assert client.delete(f"/segments/{stored}").status_code == 204
    client.post(f"/tasks/{task}/execute")
    return task


def test_failed_run_shows_its_reason_on_top_in_red_and_in_the_list(page: Page, client: httpx2.Client) -> None:
    task = failed(client, desc="fails " + "x" * 190)
    reason = client.get(f"/tasks/{task}", params={"log_limit": 100}).json()["logs"][-2]["msg"].removeprefix("failed: ")
    go(page, f"tasks/{task}")
    banner = page.locator(".problem.reason")
    expect(banner).to_contain_text(reason)
    ys = "['.problem.reason', '#runs'].map(each => document.querySelector(each).getBoundingClientRect().y)"
    above, below = page.evaluate(ys)
    assert above < below
    # Not of the locator's element, which an update of the page may just have replaced: that one has no style.
    red = page.evaluate("getComputedStyle(document.querySelector('.problem.reason')).color")
    expect(page.locator("#now progress")).to_have_class("failed")
    expect(page.locator("tr#run-1 .reason")).to_contain_text(reason[:50])
    go(page, f"tasks?q={task}")
    row = page.locator("tbody tr").first
    expect(row.locator(".reason")).to_contain_text(reason[:50])
    assert row.locator(".reason").evaluate("element => getComputedStyle(element).color") == red
    # 200 characters without a blank wrap, and the other columns stay on the page.
    assert page.evaluate("[...document.querySelectorAll('.wide')].every(each => each.scrollWidth <= each.clientWidth)")


def test_charts_of_runs_show_half_of_the_run_before_and_have_a_table(
    service: Longshore, page: Page, client: httpx2.Client
) -> None:
    task = client.post("/tasks", json=export_body()).json()["id"]
    ended(client, task)
    client.post(f"/tasks/{task}/execute")
    service.sql("update longshore.runs set rows = rows / 2 where task_id = $1 and run = 2", task)
    go(page, f"tasks/{task}")
    expect(page.locator(".change")).to_contain_text("50 % less than run 1")
    chart = page.locator("figure", has_text="Rows").locator("svg[aria-label^='Rows from run 1 to run 2']")
    heights = [float(bar.get_attribute("height") or 0) for bar in chart.locator("rect").all()]
    assert heights == [100.0, 50.0]
    assert "table below" in (chart.get_attribute("aria-label") or "")
    rows = [int(cell.inner_text().replace(",", "")) for cell in page.locator("tr[id^=run-] td[data-label=Rows]").all()]
    assert rows[0] * 2 == rows[1]
    expect(page.locator(".curve polyline")).to_have_attribute("points", re.compile(r"^0,100 .*100,"))


def test_result_is_described_and_its_first_rows_are_shown_and_audited(
    page: Page, client: httpx2.Client, service: Longshore
) -> None:
    body = export_body("json")
    body["target"] |= {"fields": ["id", "amount", "kind"], "compression": "gzip"}
    task = client.post("/tasks", json=body).json()["id"]
    ended(client, task)
    run = client.get(f"/tasks/{task}/runs/1").json()
    manifest = client.get(f"/tasks/{task}/runs/1/manifest").json()
    go(page, f"tasks/{task}")
    part = page.locator("section[aria-labelledby=result]")
    for text in (run["sha256"], manifest["schema"], "amount", "keyword"):
        expect(part).to_contain_text(text)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    part.get_by_role("button", name="Copy the checksum").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == run["sha256"]
    part.get_by_role("link", name="Show the first rows").click()
    shown = part.locator("#first-rows tbody tr")
    expect(shown).to_have_count(20)
    expect(part.locator("#first-rows th")).to_have_text(["id", "amount", "kind"])
    found = service.sql(
        "select details ->> 'run' from longshore.audit where object = $1 and action = 'result.preview'", f"task {task}"
    )
    assert [row[0] for row in found] == ["1"]
    with page.expect_download() as arriving:
        part.get_by_role("link", name="Manifest").click()
    assert arriving.value.suggested_filename == f"task-{task}-run-1.manifest.json"
    page.get_by_role("link", name="Download", exact=True).first.click()
    page.reload()
    links = page.locator("section[aria-labelledby=links]")
    links.get_by_role("button", name="Revoke").first.click()
    page.wait_for_url("**#links")
    expect(links).to_contain_text("revoked")
    page.wait_for_load_state("networkidle")  # an update of the part would make its entries new ones
    page.locator("#to-log-2").click()
    expect(page.locator("#log-2:target")).to_be_visible()
    assert violations(page) == []


def test_pages_of_runs_work_without_scripts_and_say_why_there_are_no_rows(
    context: Callable[..., BrowserContext], admin_user: User, client: httpx2.Client
) -> None:
    csv, parquet = (client.post("/tasks", json=export_body(form)).json()["id"] for form in ("csv", "parquet"))
    page = context(java_script_enabled=False).new_page()
    ended(client, csv), ended(client, parquet)
    sign_in(page, admin_user, f"/console/{CHAIN}/tasks/{csv}/runs/1")
    expect(page.get_by_role("heading", name="Run 1")).to_be_visible()
    page.get_by_role("link", name="Show the first rows").click()
    expect(page.locator("#first-rows tbody tr")).to_have_count(20)
    page.goto(f"/console/{CHAIN}/tasks/{parquet}/runs/1/rows")
    expect(page.locator("#first-rows")).to_contain_text("A Parquet file is read from its end")
    expect(page.locator(".copy").first).to_be_hidden()
    page.goto(f"/console/{CHAIN}/tasks/{csv}")
    page.get_by_role("button", name="Run now").click()
    page.wait_for_url(f"**/tasks/{csv}")
    ended(client, csv)
    page.reload()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name=f"Delete task {csv}").click()
    page.wait_for_url(f"**/console/{CHAIN}/tasks")
    assert client.get(f"/tasks/{csv}").status_code == 404
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"/console/{CHAIN}/tasks")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_pages_of_a_result_of_changes_say_how_many_rows_to_write_and_to_delete(
    service: Longshore, admin_user: User, client: httpx2.Client
) -> None:
    body = export_body(once="2126-01-05T03:00:00Z")
    body["target"] |= {"fields": ["id", {"name": "amount"}], "incremental": True, "deletes": True}
    task = client.post("/tasks", json=body).json()["id"]
    client.post(f"/tasks/{task}/execute")
    run = ended(client, task) and client.get(f"/tasks/{task}/runs/1").json()
    assert run["full"] is True
    headers = admin_user.session()
    for part in ("", "?fragment=live", "/runs/1"):
        answer = httpx2.get(f"{service.address}/console/{CHAIN}/tasks/{task}{part}", headers=headers)
        assert answer.status_code == 200, part
        changes = f"{run['rows']:,} rows to write, 0 to delete, after the copy is emptied"
        assert changes in answer.text, part
        assert "The copy then has" in answer.text, part
        assert "amount as None" not in answer.text, part
    assert client.get(f"/tasks/{task}").json()["target"]["fields"] == ["id", {"name": "amount"}]


def test_rows_of_a_result_need_the_right_to_download_it(service: Longshore) -> None:
    body = export_body()
    body["target"]["export_index"] = "audit"
    with service.client(Level.ADMIN) as admin:
        task = admin.post("/tasks", json=body).json()["id"]
        ended(admin, task)
    writer = new_user(service, _1764=Level.WRITE)
    for part in ("", "/rows", "/manifest", "/download"):
        answer = httpx2.get(f"{service.address}/console/{CHAIN}/tasks/{task}/runs/1{part}", headers=writer.session())
        assert answer.status_code == 403, part
        assert "token.create" not in answer.text


def test_reason_of_a_failure_is_hidden_from_a_user_who_may_not_see_all_that_the_task_has_read(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    task = idle_client.post("/tasks", json=export_body()).json()["id"]
    play(idle_service, task, "begin", "fail")
    reader = new_user(idle_service, _1764=Level.READ)
    address = f"{idle_service.address}/console/{CHAIN}/tasks/{task}"
    seen = httpx2.get(address, headers=reader.session()).text
    assert seen.count("on purpose") == 3, "above all, beside its run, and in the log"
    read = '[{"index": "audit", "level": "admin", "columns": null}]'
    idle_service.sql("update longshore.tasks set reads = $2 where id = $1", task, read)
    hidden = httpx2.get(address, headers=reader.session()).text
    assert "on purpose" not in hidden
    assert hidden.count(HIDDEN_MESSAGE) > 2


def test_page_does_not_say_every_row_where_the_rules_of_the_task_are_hidden(
    idle_service: Longshore, idle_client: httpx2.Client
) -> None:
    rule = {"field_name": "amount", "field_type": "number", "operator": "is_greater_than", "value": 10}
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    task = idle_client.post("/tasks", json=export_body(segment=segment)).json()["id"]
    reader = new_user(idle_service, _1764=Level.READ)
    address = f"{idle_service.address}/console/{CHAIN}/tasks/{task}"
    assert "amount is greater than 10" in httpx2.get(address, headers=reader.session()).text
    read = '[{"index": "audit", "level": "admin", "columns": null}]'
    idle_service.sql("update longshore.tasks set reads = $2 where id = $1", task, read)
    hidden = httpx2.get(address, headers=reader.session()).text
    assert "amount is greater than 10" not in hidden
    assert "every row" not in hidden
    assert f'<dd><span class="note">{HIDDEN_MESSAGE}' in hidden


def test_long_log_is_paged_from_its_end(service: Longshore, page: Page, client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z")).json()["id"]
    service.sql(
        """
        with more as (
            insert into longshore.task_logs (task_id, seq, at, msg)
            select $1, l.log_length + n, now(), 'entry ' || n
            from longshore.tasks l, generate_series(0, 299) n
            where l.id = $1
        )
        update longshore.tasks set log_length = log_length + 300 where id = $1
        """,
        task,
    )
    go(page, f"tasks/{task}")
    expect(page.locator(".log li").last).to_contain_text("entry 299")
    newest = page.locator(".log li").count()
    page.get_by_role("link", name="Earlier entries").click()
    assert newest == 200
    expect(page.locator(".log li").last).to_contain_text(re.compile("entry 99$"))
    client.post(f"/tasks/{task}/cancel")


def test_page_of_a_run_whose_result_has_expired_says_so_and_offers_no_file(
    service: Longshore, admin_user: User, client: httpx2.Client
) -> None:
    task = client.post("/tasks", json=export_body()).json()["id"]
    ended(client, task)
    path = f"/console/{CHAIN}/tasks/{task}/runs/1"
    with admin_user.client() as admin:
        assert f'href="{path}/download"' in admin.get(path).text
        service.sql("update longshore.runs set expires_at = null where task_id = $1", task)  # as its removal does
        text = admin.get(path).text
        assert "The file has expired or was deleted; its manifest is kept." in text
        assert f'href="{path}/download"' not in text
        assert f'href="{path}/rows"' not in text
        assert f'href="{path}/manifest"' in text


def test_opened_table_stays_open_and_a_closed_one_closed_in_updates(page: Page, client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body()).json()["id"]
    ended(client, task)
    go(page, f"tasks/{task}")
    page.get_by_text("Rows over time as a table").click()
    schema = page.locator("details", has=page.locator("#schema-1"))
    was_open = schema.get_attribute("open") is not None
    page.locator("#schema-1").click()
    for part, event in (("#now", "progress"), ("#part", "changed")):
        page.evaluate("document.querySelector('#curve-values').dataset.old = ''")
        page.evaluate("([part, event]) => htmx.trigger(part, event)", [part, event])
        expect(page.locator("#curve-values:not([data-old])")).to_be_visible()
        assert (schema.get_attribute("open") is None) == was_open
