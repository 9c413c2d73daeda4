"""The console without scripts: each thing that a page offers is a plain form or a link."""

import re
import time
from collections.abc import Callable

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from longshore.access.tokens import Level
from tests.access.users import User, new_user
from tests.console.conftest import sign_in
from tests.service import CHAIN, Longshore, ended, export_body


@pytest.fixture
def plain(context: Callable[..., BrowserContext], admin_user: User) -> Page:
    """A page of an admin whose browser runs no scripts."""
    opened = context(java_script_enabled=False).new_page()
    sign_in(opened, admin_user)
    return opened


def go(page: Page, name: str) -> None:
    page.goto(f"/console/{CHAIN}/{name}")


def test_files_of_a_run_are_listed_and_their_addresses_revoked_without_scripts(
    plain: Page, client: httpx2.Client
) -> None:
    body = export_body()
    body["target"] |= {"split": {"rows": 9000}, "fields": ["id"]}
    task = client.post("/tasks", json=body).json()["id"]
    assert ended(client, task)["state"]["code"] == "DONE"
    go(plain, f"tasks/{task}/runs/1")
    plain.get_by_role("link", name="Files", exact=True).click()
    expect(plain.locator("tbody tr")).to_have_count(3)
    address = plain.locator("tbody a").first.get_attribute("href") or ""
    assert httpx2.get(address).text.startswith("id")
    go(plain, f"tasks/{task}")
    plain.get_by_role("button", name="Revoke").click()
    plain.wait_for_url("**#links")
    expect(plain.locator("section[aria-labelledby=links]")).to_contain_text("revoked")
    assert httpx2.get(address).status_code == 403


def test_backfill_is_ended_without_scripts(plain: Page, client: httpx2.Client) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z", repeat="daily")).json()["id"]
    client.post(f"/tasks/{task}/pause")
    span = {"start": "2026-05-01T03:00:00Z", "end": "2026-05-09T03:00:00Z"}
    client.post(f"/tasks/{task}/backfill", json=span)
    go(plain, f"tasks/{task}")
    plain.get_by_role("button", name="End backfill 1").click()
    expect(plain.locator("#part")).to_contain_text("CANCELLED")
    client.post(f"/tasks/{task}/cancel")


def test_clients_tokens_and_users_are_made_and_turned_off_without_scripts(plain: Page, service: Longshore) -> None:
    name = f"loader {time.time()}"
    go(plain, "access")
    plain.get_by_text("New service client").click()
    plain.locator("#client-name").fill(name)
    plain.get_by_role("button", name="Create client").click()
    plain.get_by_text("New access token").click()
    plain.get_by_label("Client", exact=True).select_option(label=name)
    plain.get_by_label("Only these indexes").select_option(["users", "products"])
    plain.get_by_label("Expires").fill("2126-01-05 23:30")
    plain.get_by_role("button", name="Create token").click()
    pair = (plain.locator("output.secret").text_content() or "").split()[-1]
    bearer = {"Authorization": f"Bearer {pair}"}
    found = httpx2.get(f"{service.address}/indexes", headers=bearer).json()
    assert {each["name"] for each in found} == {"users", "products"}
    credential = httpx2.get(f"{service.address}/credential", headers=bearer).json()
    assert credential["expires"] == "2126-01-05T23:30:00Z"
    row = plain.locator("tbody tr", has_text=name).first
    row.locator("summary").click()
    row.get_by_role("button", name=f"Turn off {name}").click()
    expect(plain.locator("tbody tr", has_text=name).first).to_contain_text("turned off")
    plain.get_by_role("button", name=f"Turn on {name}").click()
    user = f"bob-{time.time()}"
    plain.get_by_text("New user").click()
    plain.locator("#user-name").fill(user)
    plain.locator("#user-password").fill("correct horse battery staple")
    plain.get_by_role("button", name="Create user").click()
    plain.get_by_role("button", name=f"Turn off {user}").click()
    expect(plain.locator("tbody tr", has_text=user)).to_contain_text("read (off)")


def test_refused_form_of_access_comes_back_with_what_was_typed_but_for_passwords(
    plain: Page, service: Longshore
) -> None:
    go(plain, "access")
    plain.get_by_text("New user").click()
    taken = plain.locator("section[aria-labelledby=users] tbody th").first.inner_text()
    plain.locator("#user-name").fill(taken)
    plain.locator("#user-password").fill("correct horse battery staple")
    plain.locator("#user-level").select_option("write")
    plain.get_by_role("button", name="Create user").click()
    expect(plain.get_by_role("alert")).to_be_visible()
    expect(plain.locator("#user-name")).to_have_value(taken)
    expect(plain.locator("#user-level")).to_have_value("write")
    assert "correct horse" not in plain.content()
    plain.get_by_text("Change your password").click()
    plain.locator("#old-password").fill("not the password")
    plain.locator("#new-password").fill("correct horse battery staple")
    plain.get_by_role("button", name="Change it").click()
    expect(plain.get_by_role("alert")).to_be_visible()
    reader = new_user(service, _1764=Level.READ)
    for path in ("clients", "tokens", "users", "clients/1", "users/1"):
        url = f"{service.address}/console/{CHAIN}/access/{path}"
        headers = {**reader.session(), "Origin": service.address}
        assert httpx2.post(url, headers=headers, data={"enabled": "false"}).status_code == 403, path


def test_password_is_changed_and_a_session_ended_without_scripts(plain: Page, admin_user: User) -> None:
    go(plain, "access")
    plain.get_by_text("Change your password").click()
    plain.locator("#old-password").fill(admin_user.password)
    plain.locator("#new-password").fill("a new horse battery staple")
    plain.get_by_role("button", name="Change it").click()
    expect(plain.get_by_role("heading", name="Sign in")).to_be_visible()
    plain.get_by_label("Name", exact=True).fill(admin_user.name)
    plain.get_by_label("Password").fill("a new horse battery staple")
    plain.get_by_role("button", name="Sign in").click()
    go(plain, "access")
    plain.locator("section[aria-labelledby=sessions] tbody tr", has_text="this one").get_by_role("button").click()
    expect(plain.get_by_role("heading", name="Sign in")).to_be_visible()


def rule(page: Page, number: int, field: str, operator: str, value: str = "", second: str = "") -> None:
    page.get_by_label(f"Rule {number}: field").select_option(field)
    page.get_by_label(f"Rule {number}: operator").select_option(operator)
    page.get_by_label(f"Rule {number}: value").fill(value)
    page.get_by_label(f"Rule {number}: second value").fill(second)


def test_export_has_columns_and_rules_without_scripts_and_rules_are_stored(plain: Page, client: httpx2.Client) -> None:
    go(plain, "new")
    plain.get_by_label("Columns and rules of").select_option("transactions")
    plain.get_by_role("button", name="Show", exact=True).click()
    expect(plain.get_by_label("Index", exact=True)).to_have_value("transactions")
    for box in plain.locator("#fields input").all():
        box.set_checked(box.get_attribute("value") in ("id", "total"))
    rule(plain, 1, "total", "is_greater_than", "10.5")
    rule(plain, 2, "timestamp", "relative_less_than", "900", "weeks")
    rule(plain, 3, "items.sku", "is_one_of", "a, b")
    plain.locator("#join-lines").select_option("any")
    plain.get_by_label("Description").fill("rules without a script")
    plain.get_by_role("button", name="Create the export").click()
    plain.wait_for_url(re.compile(rf"/console/{CHAIN}/tasks/\d+$"))
    found = client.get(f"/tasks/{plain.url.rpartition('/')[2]}").json()
    assert found["target"]["fields"] == ["id", "total"]
    assert found["trigger"]["segment"] == {
        "entity": "people", "index": "transactions", "join": "any", "chain_id": CHAIN,
        "rules": [
            {"field_name": "total", "field_type": "number", "operator": "is_greater_than", "value": 10.5},
            {"field_name": "timestamp", "field_type": "date", "operator": "relative_less_than",
             "time_amount": 900, "time_factor": "week"},
            {"field_name": "sku", "field_type": "keyword", "operator": "is_one_of", "value": ["a", "b"],
             "nested": True, "nesting_path": "items"},
        ],
    }  # fmt: skip
    go(plain, "new?index=wallet-ledger")
    name = f"large {time.time()}"
    rule(plain, 1, "amount", "is_greater_than", "10")
    plain.get_by_label("Store these rules").fill(name)
    plain.get_by_role("button", name="Store", exact=True).click()
    row = plain.locator("tbody tr", has_text=name)
    expect(row).to_contain_text("amount is greater than 10")
    row.locator("summary").click()
    row.get_by_role("button", name=f"Delete {name}").click()
    expect(plain.locator("tbody tr", has_text=name)).to_have_count(0)
    go(plain, "new?index=wallet-ledger")
    rule(plain, 1, "amount", "is_greater_than", "many")
    plain.get_by_role("button", name="Create the export").click()
    expect(plain.locator(".problem")).to_contain_text("/trigger/segment/rules/0/value")
