"""The panel "Read it from…" of a task that is shared as a table, and sharing in New export."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx2
from playwright.sync_api import BrowserContext, Page, expect

from longshore.access.tokens import Level
from tests.access.users import User, new_user
from tests.console.conftest import request_of, sign_in
from tests.service import CHAIN, Longshore, export_body

FUTURE = "2126-05-26T12:00:00Z"


def shared_task(client: httpx2.Client, name: str) -> int:
    """A task whose results are shared as a table."""
    body = export_body("parquet", once=FUTURE)
    body["target"]["share_as"] = name
    created = client.post("/tasks", json=body)
    assert created.status_code == 201, created.text
    return int(created.json()["id"])


def profile_of(page: Page, folder: Path) -> dict[str, str]:
    """The profile file that the panel's button gives."""
    with page.expect_download() as started:
        page.get_by_role("button", name="Get the profile file").click()
    assert started.value.suggested_filename == f"longshore-{CHAIN}.share"
    file = folder / "longshore.share"
    started.value.save_as(file)
    found: dict[str, str] = json.loads(file.read_text())
    return found


def test_panel_has_a_snippet_for_each_program_and_copies_it(
    context: Callable[..., BrowserContext], admin_user: User, service: Longshore, client: httpx2.Client
) -> None:
    task = shared_task(client, "copied")
    page = context(permissions=["clipboard-read", "clipboard-write"]).new_page()
    sign_in(page, admin_user, f"/console/{CHAIN}/tasks/{task}")
    panel = page.locator("#read-from")
    address = f'"longshore-{CHAIN}.share#{CHAIN}.exports.copied"'
    for name in ("pandas", "Spark"):
        expect(panel.get_by_label(name, exact=True)).to_contain_text(address)
    path = f"shares/{CHAIN}/schemas/exports/tables/copied/query"
    expect(panel.get_by_label("DuckDB", exact=True)).to_contain_text(path)
    expect(panel.get_by_label("Power BI", exact=True)).to_have_text(f"{service.address}/delta-sharing/")
    panel.get_by_role("button", name="Copy for pandas").click()
    expect(page.get_by_role("status").last).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[-1] == f"rows = delta_sharing.load_as_pandas({address})"


def test_profile_file_is_made_without_scripts_for_as_long_as_chosen(
    context: Callable[..., BrowserContext], service: Longshore, client: httpx2.Client, tmp_path: Path
) -> None:
    task = shared_task(client, "plain")
    reader = new_user(service, _1764=Level.READ)
    page = context(java_script_enabled=False).new_page()
    sign_in(page, reader, f"/console/{CHAIN}/tasks/{task}")
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    page.get_by_label("Good for").select_option("a day")
    profile = profile_of(page, tmp_path)
    assert profile["endpoint"] == f"{service.address}/delta-sharing/"
    bearer = {"Authorization": f"Bearer {profile['bearerToken']}"}
    assert httpx2.get(f"{profile['endpoint']}shares", headers=bearer).json()["items"][0]["name"] == str(CHAIN)
    expect(page.locator("#read-from")).to_be_visible()


def test_user_finds_an_own_profile_file_on_the_page_access_and_revokes_it(
    context: Callable[..., BrowserContext], service: Longshore, client: httpx2.Client, tmp_path: Path
) -> None:
    task = shared_task(client, "revoked")
    reader = new_user(service, _1764=Level.READ)
    page = context().new_page()
    sign_in(page, reader, f"/console/{CHAIN}/tasks/{task}")
    id = profile_of(page, tmp_path)["bearerToken"][:8]
    page.get_by_role("link", name="Your profile files").click()
    files = page.get_by_role("region", name="Your profile files")
    expect(files.get_by_role("row")).to_have_count(2)
    files.locator("summary").click()
    files.get_by_role("button", name=f"Revoke your {id}").click()
    expect(files.get_by_role("row", name=id)).to_contain_text("revoked")
    expect(files.get_by_role("button")).to_have_count(0)


def test_form_that_asks_for_too_long_a_time_is_refused(service: Longshore, client: httpx2.Client) -> None:
    assert client
    reader = new_user(service, _1764=Level.READ)
    with reader.client() as session:
        for days in ("91", "0", "", "-1", "1.5", "9" * 400, "²"):
            answer = session.post(f"/console/{CHAIN}/profile", data={"days": days})
            assert answer.status_code == 400, days


def test_task_that_is_not_shared_has_no_panel(page: Page, client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body("parquet", once=FUTURE)).json()["id"]
    page.goto(f"/console/{CHAIN}/tasks/{task}")
    expect(page.locator("#read-from")).to_have_count(0)


def test_new_export_is_shared_as_a_table_and_a_repeated_one_is_not(page: Page, client: httpx2.Client) -> None:
    page.goto(f"/console/{CHAIN}/new")
    page.get_by_label("Format").select_option("csv")
    expect(page.get_by_label("Shared as the table")).to_be_hidden()
    page.get_by_label("Format").select_option("parquet")
    page.get_by_label("Shared as the table").fill("from_the_form")
    expect(page.locator("#cli")).to_contain_text("--share-as from_the_form")
    expect(page.locator("#python")).to_contain_text('share_as="from_the_form"')
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url(re.compile(rf"/console/{CHAIN}/tasks/\d+$"))
    task = client.get(f"/tasks/{page.url.rpartition('/')[2]}").json()
    assert task["target"]["share_as"] == "from_the_form"
    page.goto(f"/console/{CHAIN}/new?from={task['id']}")
    expect(page.locator("#count")).to_contain_text("rows")
    assert "share_as" not in request_of(page)["target"]


def test_new_export_is_shared_without_scripts(
    context: Callable[..., BrowserContext], admin_user: User, client: httpx2.Client
) -> None:
    page = context(java_script_enabled=False).new_page()
    sign_in(page, admin_user, f"/console/{CHAIN}/new")
    page.get_by_label("Format").select_option("parquet")
    page.get_by_label("Shared as the table").fill("no_script")
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url(re.compile(rf"/console/{CHAIN}/tasks/\d+$"))
    assert client.get(f"/tasks/{page.url.rpartition('/')[2]}").json()["target"]["share_as"] == "no_script"
