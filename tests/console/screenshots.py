"""`make screenshots`: each page of the console at three widths and in both themes, with 0, 30 and 2,000 tasks."""

import tempfile
from pathlib import Path
from typing import Any, Literal

import httpx2
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from longshore.access.tokens import Level
from longshore.demo.seed import seed
from tests.access.users import User, new_user
from tests.console.conftest import launch, sign_in
from tests.console.test_pages import PAGES, held
from tests.service import CHAIN, Longshore, database_in, ended, export_body, in_own_loop

FOLDER = Path("screenshots")
WIDTHS = (360, 1024, 1920)
HEIGHT = 800
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
ROWS = 100_000
SOME_CHAIN, EMPTY_CHAIN = 9, 1765
OF_TASKS = ("tasks", "schedules", "system")
"""The pages that depend on how many tasks a chain has."""

# $1: chain, $2: tasks. They have run once in the last two weeks each; every twentieth has failed.
TASKS = """
with made as (
    insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, result, last_run_at, run,
                                 attempt_began_at, log_length, created_at, reason)
    select $1,
           case n % 10
               when 3 then 'ייצוא לילי של תנועות הארנק, כולל זיכויים וחיובים, עבור מחסן הנתונים'
               when 5 then 'export_' || repeat('of_a_name_without_a_blank_', 7)
               when 7 then 'Members with their cards, addresses and consents, as the newsletter''s agency takes'
                           || ' them each Thursday, without those who have left, by the day of their registration'
               else 'Ledger of branch ' || n
           end,
           'export', '{"once":"2026-01-01T00:00:00Z"}',
           json_build_object('action', 'export', 'export_index', (array['wallet-ledger', 'users'])[1 + n % 2],
                             'export_format', 'csv'),
           '', case when n % 20 = 7 then 'ERROR' else 'DONE' end, 'Wallet_Export-' || n || '.csv',
           now() - n * interval '14 days' / $2, 1, now(), 3, now() - n * interval '14 days' / $2,
           'relation "loyalty.wallet_ledger" does not exist'
    from generate_series(1, $2::int) n
    returning id, state, last_run_at, reason
),
runs as (
    insert into longshore.runs (task_id, run, state, first_attempt, attempt, due_at, began_at, ended_at, rows, bytes,
                                attempt_began_at, progress_at, reads, reason)
    select id, 1, state, 1, 1, last_run_at - interval '2 s' * (id % 9), last_run_at,
           last_run_at + interval '1 s' * (10 + id % 90), id % 977 * 1000, id % 977 * 171000, last_run_at,
           last_run_at, '[]', reason
    from made
)
insert into longshore.task_logs (task_id, seq, at, msg)
select id, seq, last_run_at + interval '1 s' * (10 + id % 90), msg
from made, lateral (values (0, 'READY -> INPROGRESS', ''), (1, 'success', reason),
                   (2, 'INPROGRESS -> DONE', 'INPROGRESS -> ERROR')) as entry (seq, good, bad)
cross join lateral (select case when state = 'ERROR' and bad <> '' then bad else good end as msg) chosen
"""

# $1: a task with one run, which becomes the last of 30 nights: one of them failed, the last has half of the rows.
NIGHTS = """
with last as (
    update longshore.runs set run = 30, rows = rows / 2, bytes = bytes / 2 where task_id = $1 returning *
),
task as (
    update longshore.tasks set run = 30 where id = $1
)
insert into longshore.runs (task_id, run, state, first_attempt, attempt, due_at, began_at, ended_at, rows, bytes,
                            attempt_began_at, progress_at, reads, interval_end)
select task_id, n, case when n = 21 then 'ERROR' else 'DONE' end, n, n, due_at - (30 - n) * interval '1 day',
       began_at - (30 - n) * interval '1 day',
       ended_at - (30 - n) * interval '1 day' + interval '1 s' * (n % 4),
       case when n = 21 then 0 else rows * 2 + n * 100 end, case when n = 21 then 0 else bytes * 2 + n * 9000 end,
       began_at, began_at, '[]', interval_end - (30 - n) * interval '1 day'
from last, generate_series(1, 29) n
"""


def segment(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": list(rules)}


RECENT = {
    "field_name": "timestamp", "field_type": "date", "operator": "relative_less_than", "time_factor": "week",
    "time_amount": 200,
}  # fmt: skip
LARGE = {"field_name": "amount", "field_type": "number", "operator": "is_greater_than", "value": 10}


def fill(client: httpx2.Client, service: Longshore) -> dict[str, int]:
    """Make things to look at, and return the tasks that have pages of their own, by the name of the picture."""

    def make(desc: str, **trigger: Any) -> int:
        body = {**export_body(**trigger), "desc": desc}
        if "cron" in trigger:
            del body["trigger"]["once"]
        made = client.post("/tasks", json=body)
        assert made.status_code == 201, made.text
        found: int = made.json()["id"]
        return found

    for chain, tasks in ((SOME_CHAIN, 30), (CHAIN, 2000)):
        service.sql(TASKS, chain, tasks)
    nights = make("Ledger of the last weeks, for the warehouse", segment=segment(RECENT, LARGE))
    ended(client, nights)
    service.sql(NIGHTS, nights)
    make("Nightly ledger", cron="30 2 * * *", timezone="Europe/Amsterdam")
    make("Every quarter of an hour in the shops' hours", cron="*/15 8-20 * * 1-6", timezone="Europe/Amsterdam")
    make("כל רבע שעה", cron="*/15 * * * *")
    make("Weekly ledger", once="2026-05-25T06:00:00Z", repeat="weekly")
    users = export_body()
    users["target"] |= {"export_index": "users", "export_format": "parquet"}
    client.post("/tasks", json={**users, "desc": "Members"})
    stored = {"chain": CHAIN, "name": "Large and recent", "segment": segment(RECENT, LARGE)}
    gone = client.post("/segments", json=stored).json()["id"]
    failed = make("Very large amounts", once="2126-01-01T00:00:00Z", segment_id=gone)
    client.delete(f"/segments/{gone}")
    client.post("/segments", json=stored)
    client.post(f"/tasks/{failed}/execute")
    owner = client.post("/service_clients", json={"name": "warehouse", "contact": "data-team@example.com"}).json()["id"]
    limits = {"hidden_columns": ["users.phone_number"], "indexes": ["users"]}
    client.post("/access_tokens", json={"client_id": owner, "level": "read", **limits})
    return {"task": nights, "task-failed": failed}


def take(context: BrowserContext, admin_user: User, tasks: dict[str, int], theme: str, width: int) -> None:
    """Take the pictures of one width and theme."""
    suffix = f"{theme}-{width}"
    page = context.new_page()
    page.goto("/sign-in")
    page.screenshot(path=FOLDER / f"sign-in-{suffix}.png", full_page=True)
    sign_in(page, admin_user)
    pages = {name: f"{CHAIN}/{name}" for name in PAGES}
    pages |= {f"{name}-{count}": f"{chain}/{name}" for name in OF_TASKS
              for chain, count in ((EMPTY_CHAIN, 0), (SOME_CHAIN, 30))}  # fmt: skip
    pages |= {name: f"{CHAIN}/tasks/{task}" for name, task in tasks.items()}
    pages["new"] += f"?from={tasks['task']}"
    pages |= {"run": f"{CHAIN}/tasks/{tasks['task']}/runs/30/rows", "not-found": f"{CHAIN}/tasks/123456789"}
    for name, path in pages.items():
        page.goto(f"/console/{path}")
        if name == "new":
            page.get_by_text("rows, ").first.wait_for()
        # The whole page as one screen, so that what sticks to the end of a screen is at the end of the page.
        page.set_viewport_size({"width": width, "height": page.evaluate("document.documentElement.scrollHeight")})
        page.screenshot(path=FOLDER / f"{name}-{suffix}.png", full_page=True)
        page.set_viewport_size({"width": width, "height": HEIGHT})


def take_all(browser: Browser, service: Longshore, admin_user: User, tasks: dict[str, int]) -> None:
    """Take the pictures of all widths and themes."""
    FOLDER.mkdir(exist_ok=True)
    for theme in THEMES:
        for width in WIDTHS:
            size: Any = {"width": width, "height": HEIGHT}
            with browser.new_context(
                base_url=service.address, viewport=size, color_scheme=theme, timezone_id="Europe/Amsterdam"
            ) as context:
                take(context, admin_user, tasks, theme, width)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="longshore-screenshots-") as folder:
        data = Path(folder)
        with database_in(data) as url, sync_playwright() as playwright:
            in_own_loop(seed(url, ROWS, lambda _: None))
            service = Longshore(data, url)
            try:
                service.start("worker")
                service.start_api()
                user = new_user(service, _1764=Level.ADMIN, _1765=Level.READ, _9=Level.READ)
                with service.client(Level.ADMIN) as client:
                    tasks = fill(client, service)
                    with held(service, "loyalty.users"):
                        running = export_body()
                        running["target"]["export_index"] = "users"
                        tasks["task-running"] = client.post("/tasks", json=running).json()["id"]
                        take_all(launch(playwright), service, user, tasks)
            finally:
                service.stop()
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}/")


if __name__ == "__main__":
    main()
