"""The list of tasks in a real browser: search, filters that stay, pages, and tasks that are changed together."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx2
from playwright.sync_api import BrowserContext, Page, expect

from longshore.access.tokens import Level
from tests.access.users import User, new_user
from tests.console.conftest import sign_in
from tests.console.test_pages import go
from tests.service import CHAIN, Longshore, ended, export_body

LATER = "2126-01-05T03:00:00Z"

WEEK_CHAIN = 1790


def make(client: httpx2.Client, desc: str, **trigger: object) -> int:
    body = export_body()
    body["trigger"] = {"once": LATER, **trigger}
    task: int = client.post("/tasks", json={**body, "desc": desc}).json()["id"]
    return task


def test_search_finds_by_number_text_and_result_and_stays_when_the_chain_changes(
    page: Page, client: httpx2.Client
) -> None:
    word = f"word{time.time_ns()}"
    tasks = [make(client, f"{word} {number}") for number in range(30)]
    done = make(client, "other", once="2026-05-26T12:00:00Z")
    ended(client, done)
    go(page, "tasks")
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type(word.upper())
    page.wait_for_url(f"**?q={word.upper()}")
    expect(page.locator("#total")).to_have_text("30 tasks")
    expect(page.locator("#table tbody tr")).to_have_count(25)
    page.get_by_label("Order").select_option("oldest")
    page.wait_for_url("**&sort=oldest")
    expect(page.locator("#table tbody th").first).to_have_text(str(tasks[0]))
    page.get_by_role("link", name="Next").click()
    page.wait_for_url("**&offset=25")
    expect(page.locator(".paging")).to_contain_text("Page 2 of 2")
    expect(page.locator("#table tbody tr")).to_have_count(5)
    page.wait_for_timeout(2500)  # the list keeps itself up to date, and keeps its page
    expect(page.locator("#table tbody tr")).to_have_count(5)
    page.locator(".menu summary").click()
    page.locator(".menu a", has_text="1765").click()
    page.wait_for_url(f"**/console/1765/tasks?q={word.upper()}&sort=oldest")
    expect(page.get_by_role("heading", name="No tasks match")).to_be_visible()
    go(page, f"tasks?q={tasks[3]}")
    expect(page.locator("#table tbody th").first).to_have_text(str(tasks[3]))
    go(page, f"tasks?q={tasks[3]}&status=DONE")
    expect(page.get_by_role("heading", name="No tasks match")).to_be_visible()
    go(page, f"tasks?q=export-{done}.csv")
    expect(page.locator("#table tbody tr")).to_have_count(1)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    for task in tasks:
        client.delete(f"/tasks/{task}")


def test_selected_tasks_are_cancelled_run_and_deleted_together_and_refusals_are_shown(
    page: Page, client: httpx2.Client
) -> None:
    word = f"word{time.time_ns()}"
    tasks = [make(client, f"{word} {number}") for number in range(3)]
    go(page, f"tasks?q={word}")
    button = page.locator("#cancel-selected")
    expect(button).to_be_disabled()
    page.locator(f"#select-{tasks[0]}").check()
    page.wait_for_timeout(2500)  # a list with selected tasks stands still
    expect(page.locator(f"#select-{tasks[0]}")).to_be_checked()
    page.get_by_label("Select all of this page").check()
    button.click()
    expect(page.get_by_role("heading", name="Cancel 3 tasks?")).to_be_visible()
    page.get_by_role("button", name="Cancel 3 tasks").click()
    page.wait_for_url(f"**/tasks?q={word}")
    expect(page.locator("#table .state.error")).to_have_count(3)
    page.get_by_label("Select all of this page").check()
    page.locator("#run-selected").click()
    page.wait_for_url(f"**/tasks?q={word}")
    expect(page.locator("#table .state.done")).to_have_count(3, timeout=30_000)
    client.delete(f"/tasks/{tasks[1]}")
    expect(page.locator("#table tbody tr")).to_have_count(2)
    again: dict[str, str | float | bool] = {
        "id": str(tasks[1]),
        "do": "delete",
        "confirmed": "1",
        "back": "https://example.com/",
    }
    html = page.request.post(
        f"/console/{CHAIN}/tasks/selected", form=again, headers={"Origin": page.url.split("/con")[0]}
    )
    assert f"Task {tasks[1]}</a>: <bdi>This chain has no task of that number." in html.text()
    assert "example.com" not in html.text()
    page.get_by_label("Select all of this page").check()
    page.locator("#delete-selected").click()
    page.get_by_role("button", name="Delete 2 tasks").click()
    page.wait_for_url(f"**/tasks?q={word}")
    expect(page.get_by_role("heading", name="No tasks match")).to_be_visible()


def test_list_works_without_scripts(
    context: Callable[..., BrowserContext], admin_user: User, client: httpx2.Client
) -> None:
    word = f"word{time.time_ns()}"
    task = make(client, word)
    page = context(java_script_enabled=False).new_page()
    sign_in(page, admin_user, f"/console/{CHAIN}/tasks")
    page.get_by_label("Search").fill(word)
    page.get_by_label("State").select_option("READY")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#total")).to_have_text("1 task")
    page.get_by_label(f"Select task {task}").check()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name=f"Cancel task {task}").click()
    page.wait_for_url(re.compile(f"q={word}&status=READY"))
    expect(page.get_by_role("heading", name="No tasks match")).to_be_visible()
    assert client.delete(f"/tasks/{task}").status_code == 204


def test_week_has_a_line_for_each_task_in_the_days_of_the_viewer(
    context: Callable[..., BrowserContext], service: Longshore
) -> None:
    # In a chain without other tasks: the more tasks a page has, the fewer runs of each are drawn.
    user = new_user(service, _1790=Level.ADMIN)
    client = service.client(Level.ADMIN, WEEK_CHAIN)
    made = []
    weekday = (datetime.now(UTC) + timedelta(days=3)).isoweekday()
    for desc, cron in (("quarters", "*/15 * * * *"), ("weekly", f"30 22 * * {weekday}")):
        body = export_body(chain=WEEK_CHAIN, cron=cron, timezone="UTC")
        del body["trigger"]["once"]
        body["desc"] = f"{desc} {time.time_ns()}"
        made.append((client.post("/tasks", json=body).json()["id"], body["desc"]))
    page = context(timezone_id="Asia/Tokyo").new_page()
    sign_in(page, user, f"/console/{WEEK_CHAIN}/schedules")
    expect(page.get_by_label("Days in the time zone")).to_have_value("Asia/Tokyo")
    for (_, desc), bars, text in zip(made, (1, 1), ("^[56][0-9][0-9] runs", "^1 run "), strict=True):
        line = page.locator(".line", has_text=desc)
        expect(line.locator("rect")).to_have_count(bars)
        expect(line.locator(".grid .note")).to_contain_text(re.compile(text))
    # 22:30 in UTC is 07:30 of the next day in Tokyo.
    x = float(page.locator(".line", has_text=made[1][1]).locator("rect").get_attribute("x", timeout=5000)[:-1])  # type: ignore[index]
    assert abs(x * 7 / 100 % 1 - 7.5 / 24) < 0.01
    line = page.locator(".line", has_text=made[1][1])
    line.get_by_role("button", name="Pause").click()
    expect(line.get_by_text("PAUSED")).to_be_visible()
    line.get_by_role("button", name="Resume").click()
    expect(line.get_by_role("button", name="Pause")).to_be_visible()
    expect(line.get_by_role("link", name="Backfill")).to_have_attribute("href", re.compile("#backfill$"))
    line.get_by_role("button", name="Run now").click()
    page.wait_for_url(f"**/tasks/{made[1][0]}")
    ended(client, made[1][0])
    page.close()  # it asks for its task again and again
    for task, _ in made:
        service.sql("delete from longshore.tasks where id = $1", task)
