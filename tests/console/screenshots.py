"""`make screenshots`: each page of the console, at both widths and in both themes, with data to look at."""

import tempfile
from pathlib import Path
from typing import Any, Literal

import httpx2
from playwright.sync_api import Browser, sync_playwright

from longshore.access.tokens import Level
from longshore.demo.seed import seed
from tests.access.users import Person, new_person
from tests.console.conftest import launch, sign_in
from tests.console.test_pages import PAGES
from tests.service import CHAIN, Longshore, database_in, ended, export_body, in_own_loop

FOLDER = Path("screenshots")
WIDTHS = (360, 1440)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
ROWS = 300_000


def segment(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": list(rules)}


RECENT = {
    "field_name": "timestamp", "field_type": "date", "operator": "relative_less_than", "time_factor": "week",
    "time_amount": 200,
}  # fmt: skip
LARGE = {"field_name": "amount", "field_type": "number", "operator": "is_greater_than", "value": 10}


def fill(client: httpx2.Client) -> int:
    """Make things to look at, and give a task that is done."""

    def make(desc: str, **trigger: Any) -> int:
        body = {**export_body(**trigger), "desc": desc}
        if "cron" in trigger:
            del body["trigger"]["once"]
        made = client.post("/tasks", json=body)
        assert made.status_code == 201, made.text
        found: int = made.json()["id"]
        return found

    done = make("Ledger of the last weeks, for the warehouse", segment=segment(RECENT, LARGE))
    ended(client, done)
    client.post(f"/tasks/{done}/execute")
    make("Nightly ledger", cron="30 2 * * *", timezone="Europe/Amsterdam")
    make("Weekly ledger", once="2026-05-25T06:00:00Z", repeat="weekly")
    users = export_body()
    users["target"] |= {"export_index": "users", "export_format": "parquet"}
    client.post("/tasks", json={**users, "desc": "Members"})
    failing = export_body("csv", segment=segment({**LARGE, "value": 10**6}))
    failing["target"]["timeout_seconds"] = 1
    client.post("/tasks", json={**failing, "desc": "Very large amounts"})
    client.post("/segments", json={"chain": CHAIN, "name": "Large and recent", "segment": segment(RECENT, LARGE)})
    owner = client.post("/service_clients", json={"name": "warehouse", "contact": "data-team@example.com"}).json()["id"]
    limits = {"hidden_columns": ["users.phone_number"], "indexes": ["users"]}
    client.post("/access_tokens", json={"client_id": owner, "level": "read", **limits})
    return done


def take(browser: Browser, service: Longshore, person: Person, task: int) -> None:
    """Take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    for theme in THEMES:
        for width in WIDTHS:
            size: Any = {"width": width, "height": 800}
            context = browser.new_context(
                base_url=service.address, viewport=size, color_scheme=theme, timezone_id="Europe/Amsterdam"
            )
            page = context.new_page()
            page.goto("/sign-in")
            page.screenshot(path=FOLDER / f"sign-in-{theme}-{width}.png", full_page=True)
            sign_in(page, person)
            for name in (*PAGES, f"tasks/{task}"):
                page.goto(f"/console/{CHAIN}/{name}{f'?from={task}' if name == 'new' else ''}")
                if name == "new":
                    page.locator("#sample tbody tr").first.wait_for()
                file = "task" if "/" in name else name
                page.screenshot(path=FOLDER / f"{file}-{theme}-{width}.png", full_page=True)
            context.close()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="longshore-screenshots-") as folder:
        data = Path(folder)
        with database_in(data) as url, sync_playwright() as playwright:
            in_own_loop(seed(url, ROWS, lambda _: None))
            service = Longshore(data, url)
            try:
                service.start("worker")
                service.start_api()
                with service.client(Level.ADMIN) as client:
                    task = fill(client)
                take(launch(playwright), service, new_person(service, _1764=Level.ADMIN, _1765=Level.READ), task)
            finally:
                service.stop()
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}/")


if __name__ == "__main__":
    main()
