"""The console's pages of destinations: forms made from a kind's schema, tests, deliveries, and no secret anywhere."""

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from longshore.access.tokens import Level
from longshore.api.service import TEST_RATE
from tests.access.users import User, new_user
from tests.console.conftest import request_of, sign_in
from tests.console.test_pages import WIDTHS, go, violations
from tests.destinations.memory import PASSWORD
from tests.destinations.places import settled
from tests.service import CHAIN, Longshore, ended, export_body

BASE = f"/console/{CHAIN}/destinations"


def new_name() -> str:
    return f"shelf-{uuid.uuid4().hex[:8]}"


def create_destination(client: httpx2.Client, name: str | None = None, **settings: Any) -> dict[str, Any]:
    body = {"name": name or new_name(), "kind": "memory", "settings": {"shelf": "top", **settings}}
    answer = client.post("/destinations", json={**body, "secret": {"password": PASSWORD}})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def delivered(client: httpx2.Client, destination: str, **trigger: Any) -> int:
    """A task with a delivery, that is over."""
    body = export_body(**trigger)
    body["target"]["deliver"] = [{"destination": destination}]
    answer = client.post("/tasks", json=body)
    assert answer.status_code == 201, answer.text
    id: int = answer.json()["id"]
    return id


@pytest.fixture
def admin(admin_user: User) -> Iterator[httpx2.Client]:
    """A client with a session of an admin."""
    with admin_user.client() as client:
        yield client


def test_destination_is_tested_made_changed_and_deleted_without_scripts(
    context: Callable[..., BrowserContext], admin_user: User, admin: httpx2.Client
) -> None:
    page = context(java_script_enabled=False).new_page()
    sign_in(page, admin_user, BASE)
    name = new_name()
    page.get_by_role("link", name="New destination").click()
    page.get_by_role("link", name="memory").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Shelf").fill("full")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_role("heading", name="The test failed")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="write")).to_contain_text("the shelf is full")
    expect(page.get_by_label("Shelf")).to_have_value("full")
    page.get_by_label("Shelf").fill("top")
    page.get_by_label("Size").select_option("large")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create destination").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    [found] = [each for each in admin.get("/destinations?limit=100").json() if each["name"] == name]
    assert found["settings"] == {"shelf": "top", "size": "large"}

    page.get_by_role("button", name="Test").click()
    expect(page.get_by_role("heading", name="The test worked")).to_be_visible()
    page.get_by_role("link", name="Change settings or secret").click()
    page.get_by_label("Prefix").fill("loyalty/")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".facts")).to_contain_text("loyalty/")
    page.get_by_role("link", name="Change settings or secret").click()
    page.get_by_label("Shelf").fill("other")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("group", name="Secret")).to_contain_text('is required, because a change of "shelf"')
    page.get_by_label("Password").fill("a wrong one")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_role("listitem").filter(has_text="connect")).to_contain_text("the password is wrong")
    page.get_by_text("Delete this destination").click()
    page.get_by_role("button", name=f"Delete {name}").click()
    expect(page.get_by_role("heading", name="Destinations", exact=True)).to_be_visible()
    assert admin.get(f"/destinations/{found['id']}").status_code == 404
    entries = admin.get("/audit", params={"object": f"destination {found['id']}", "limit": 100}).json()
    assert {each["actor"] for each in entries} == {f"user {admin_user.id}"}
    assert [each["action"] for each in reversed(entries)] == [
        "destination.create", "destination.test", "destination.change", "destination.change", "destination.test",
        "destination.delete",
    ]  # fmt: skip


def test_test_of_a_new_destination_keeps_what_is_typed(page: Page) -> None:
    go(page, "destinations/new?kind=memory")
    page.get_by_label("Name", exact=True).fill(new_name())
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#settings-1-problem")).to_have_text("is required")
    page.get_by_label("Shelf").fill("top")
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_role("heading", name="The test worked")).to_be_visible()
    expect(page.get_by_label("Password")).to_have_value(PASSWORD)
    page.get_by_role("button", name="Create destination").click()
    page.wait_for_url(re.compile(rf"{BASE}/[0-9a-f-]+$"))


def test_violations_of_a_destination_stand_beside_their_fields(admin: httpx2.Client) -> None:
    form = {"kind": "sftp", "name": "no name!", "/settings/host": "127.0.0.1", "/settings/port": "many"}
    form |= {"/secret/private_key": "line\r\nline", "/secret/password": "hidden words"}
    answer = admin.post(f"{BASE}/new", data=form)
    assert answer.status_code == 400
    beside = dict(re.findall(r'<span class="problem beside" id="([a-z0-9-]+)-problem">([^<]*)', answer.text))
    assert set(beside) == {"name", "settings-2", "settings-3"}
    assert beside["settings-2"] == "is required"
    assert "expected an integer" in beside["settings-3"]
    assert 'value="many"' in answer.text
    assert "hidden words" not in answer.text
    form |= {"name": new_name(), "/settings/username": "anna", "/settings/port": "22"}
    answer = admin.post(f"{BASE}/new", data=form)
    beside = dict(re.findall(r'<span class="problem beside" id="([a-z0-9-]+)-problem">([^<]*)', answer.text))
    assert beside["secret"] == "expected a password or a private_key"


def test_problem_of_a_destination_is_shown_on_its_page(admin: httpx2.Client) -> None:
    found = create_destination(admin)
    form = {"kind": "memory", "name": found["name"], "/settings/shelf": "top", "/secret/password": PASSWORD}
    answer = admin.post(f"{BASE}/new", data=form)
    assert answer.status_code == 409
    assert f"has a destination &#34;{found['name']}&#34; already" in answer.text
    task = delivered(admin, found["name"], once="2126-05-26T12:00:00Z")
    answer = admin.post(f"{BASE}/{found['id']}/delete")
    assert answer.status_code == 409
    assert "A task that names it is delivering, or has a run to come." in answer.text
    assert admin.post(f"/tasks/{task}/cancel").status_code == 200
    answer = admin.post(f"{BASE}/{found['id']}/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, BASE)
    for path in (found["id"], f"{found['id']}/change", "no-id"):
        assert admin.get(f"{BASE}/{path}").status_code == 404
    for path in ("test", "change", "delete"):
        assert admin.post(f"{BASE}/{found['id']}/{path}").status_code == 404
    assert admin.post(f"{BASE}/new", data={"kind": "no such kind"}).status_code == 400


def test_pages_of_destinations_never_hold_a_secret(admin: httpx2.Client) -> None:
    secret = f"secret-{uuid.uuid4().hex}"
    form = {"kind": "memory", "name": new_name(), "/settings/shelf": "top", "/secret/password": secret}
    pages = [admin.post(f"{BASE}/new", data=form | {"test": "yes"})]
    pages.append(admin.post(f"{BASE}/new", data=form | {"/settings/shelf": ""}))
    there = admin.post(f"{BASE}/new", data=form).headers["location"]
    assert admin.get(there, headers={"If-None-Match": "*"}).status_code == 200, "a condition is for the API"
    pages += [admin.get(there), admin.get(f"{there}/change"), admin.post(f"{there}/test"), admin.get(BASE)]
    pages.append(admin.post(f"{there}/change", data=form | {"/settings/shelf": "ü"}))
    assert [answer.status_code for answer in pages] == [200, 400, 200, 200, 200, 200, 400]
    assert not [answer for answer in pages if secret in answer.text]


def test_deliveries_are_shown_with_what_was_read_back(admin: httpx2.Client) -> None:
    found = create_destination(admin, shelf="of the console")
    assert "Nothing has been delivered yet" in admin.get(f"{BASE}/{found['id']}").text
    task = delivered(admin, found["name"])
    assert ended(admin, task)["state"]["code"] == "DONE"
    [delivery] = admin.get(f"/tasks/{task}/runs/1/deliveries").json()
    for path in (f"{BASE}/{found['id']}", f"/console/{CHAIN}/tasks/{task}"):
        text = admin.get(path).text
        assert '<span class="state delivered">DELIVERED</span>' in text
        assert delivery["address"] in text
        assert delivery["evidence"]["sha256"] in text
    listed = admin.get(BASE).text
    assert re.search(rf"DELIVERED</span> <a href=\"/console/{CHAIN}/tasks/{task}\">", listed)


def test_failed_delivery_is_explained_and_done_again_with_a_new_secret(page: Page, admin: httpx2.Client) -> None:
    found = create_destination(admin, shelf="of a new secret")
    there = f"/destinations/{found['id']}"
    assert admin.patch(there, json={"secret": {"password": "an old one"}}).status_code == 200
    task = delivered(admin, found["name"])
    assert ended(admin, task)["state"]["code"] == "ERROR"
    go(page, f"tasks/{task}")
    expect(page.get_by_role("row", name=re.compile(r"^1 shelf-.* FAILED"))).to_contain_text("the password is wrong")
    admin.patch(there, json={"secret": {"password": PASSWORD}})
    page.get_by_role("button", name="Deliver run 1 again").click()
    expect(page.locator("#part .state").first).to_have_text("DONE", timeout=30_000)
    expect(page.get_by_role("row", name="DELIVERED")).to_contain_text("memory://of a new secret/")
    expect(page.get_by_role("button", name="Deliver run 1 again")).to_have_count(0)


def test_run_is_delivered_again_without_scripts(
    context: Callable[..., BrowserContext], admin_user: User, admin: httpx2.Client
) -> None:
    found = create_destination(admin, shelf="without scripts")
    there = f"/destinations/{found['id']}"
    assert admin.patch(there, json={"secret": {"password": "an old one"}}).status_code == 200
    task = delivered(admin, found["name"])
    assert ended(admin, task)["state"]["code"] == "ERROR"
    admin.patch(there, json={"secret": {"password": PASSWORD}})
    page = context(java_script_enabled=False).new_page()
    sign_in(page, admin_user, f"/console/{CHAIN}/tasks/{task}")
    page.get_by_role("button", name="Deliver run 1 again").click()
    page.wait_for_url("**#deliveries")
    settled(admin, task)
    assert ended(admin, task)["state"]["code"] == "DONE"


def test_new_export_is_delivered_where_its_form_says(page: Page, admin: httpx2.Client) -> None:
    found = create_destination(admin, shelf="of a form")
    where = {"host": "127.0.0.1", "database": "none", "username": "anna", "sslmode": "disable"}
    body = {"name": new_name(), "kind": "postgresql", "settings": where, "secret": {"password": "x"}}
    tables = admin.post("/destinations", json=body).json()
    go(page, "new")
    page.get_by_label("Destination", exact=True).select_option(tables["name"])
    expect(page.get_by_label("Path of each file")).to_be_hidden()
    page.get_by_label("Table", exact=True).fill("ledger")
    page.get_by_label("The rows").select_option("replace")
    entry = {"destination": tables["name"], "table": "ledger", "mode": "replace"}
    assert request_of(page)["target"]["deliver"] == [entry]
    page.get_by_label("Destination", exact=True).select_option(found["name"])
    expect(page.get_by_label("Table", exact=True)).to_be_hidden()
    expect(page.locator("#cli")).to_contain_text(f"--deliver {found['name']}")
    page.get_by_label("Path of each file").fill("loyalty/{index}/{name}")
    expect(page.locator("#python")).to_contain_text("deliver=[")
    page.get_by_role("button", name="Create the export").click()
    expect(page.locator(".problem")).to_contain_text("has no {run}")
    page.get_by_label("Replace files that lie there").check()
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url(re.compile(rf"/console/{CHAIN}/tasks/\d+$"))
    expect(page.locator("#part .state").first).to_have_text("DONE", timeout=30_000)
    expect(page.locator("#part")).to_contain_text("memory://of a form/loyalty/")
    id = int(page.url.rpartition("/")[2])
    [entry] = admin.get(f"/tasks/{id}").json()["target"]["deliver"]
    assert entry == {"destination": found["name"], "path": "loyalty/{index}/{name}", "overwrite": True}
    page.get_by_role("link", name="Repeat as new").click()
    page.wait_for_url("**/new?from=*")
    assert request_of(page)["target"]["deliver"] == [entry]


def test_new_export_to_a_destination_is_made_without_scripts(admin: httpx2.Client) -> None:
    found = create_destination(admin)
    form = {"index": "users", "format": "csv", "when": "at", "at": "2126-05-26T12:00", "deliver": found["name"]}
    there = admin.post(f"/console/{CHAIN}/new", data=form | {"path": "", "table": "", "mode": "append"})
    assert there.status_code == 303, there.text
    id = there.headers["location"].rpartition("/")[2]
    assert admin.get(f"/tasks/{id}").json()["target"]["deliver"] == [{"destination": found["name"]}]
    assert admin.post(f"/tasks/{id}/cancel").status_code == 200
    refused = admin.post(f"/console/{CHAIN}/new", data=form | {"table": "users", "mode": "merge"})
    assert refused.status_code == 400
    assert "takes files" in refused.text


def test_page_of_a_destination_is_shown_from_its_level_on(service: Longshore, admin: httpx2.Client) -> None:
    found = create_destination(admin)
    writer, stranger = new_user(service, _1764=Level.WRITE), new_user(service, _1765=Level.ADMIN)
    with writer.client() as theirs:
        for path in ("", f"/{found['id']}"):
            shown = theirs.get(f"{BASE}{path}")
            assert shown.status_code == 200
            assert "/destinations/" not in "".join(re.findall(r'<form method="post" action="[^"]*"', shown.text))
            assert "/destinations/new" not in shown.text
        for path in ("/new", f"/{found['id']}/change"):
            assert theirs.get(f"{BASE}{path}").status_code == 403
        for path in ("/new", f"/{found['id']}/change", f"/{found['id']}/test", f"/{found['id']}/delete"):
            assert theirs.post(f"{BASE}{path}").status_code == 403
    with stranger.client(1765) as theirs:
        assert theirs.get(f"/console/1765/destinations/{found['id']}").status_code == 404
        assert found["name"] not in theirs.get("/console/1765/destinations").text
    assert admin.get(f"/destinations/{found['id']}").status_code == 200


def test_form_of_another_site_makes_no_destination(service: Longshore, admin_user: User) -> None:
    ours = {"Origin": service.address}
    answer = httpx2.post(
        f"{service.address}/sign-in", data={"username": admin_user.name, "password": admin_user.password}, headers=ours
    )
    cookie = {"Cookie": answer.headers["set-cookie"].split(";")[0]}
    form = {"kind": "memory", "name": new_name(), "/settings/shelf": "top", "/secret/password": PASSWORD}
    address = f"{service.address}{BASE}/new"
    assert httpx2.post(address, data=form, headers=cookie | {"Origin": "https://example.com"}).status_code == 403
    assert httpx2.post(address, data=form, headers=cookie).status_code == 403
    assert httpx2.post(address, data=form, headers=cookie | ours).status_code == 303  # so its name was free


def test_limit_of_tests_is_shown_on_the_page_of_a_destination(service: Longshore) -> None:
    with new_user(service, _81=Level.ADMIN).client(81) as theirs:
        found = create_destination(theirs)
        there = f"/console/81/destinations/{found['id']}"
        statuses = [theirs.post(f"/destinations/{found['id']}/test").status_code for _ in range(TEST_RATE.requests)]
        assert statuses == [200] * TEST_RATE.requests
        refused = theirs.post(f"{there}/test")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert "A chain may test destinations 30 times in 60 seconds." in refused.text
        form = {"kind": "memory", "name": new_name(), "/settings/shelf": "top", "/secret/password": PASSWORD}
        refused = theirs.post("/console/81/destinations/new", data=form | {"test": "yes"})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0


def test_destination_whose_kind_is_not_installed_is_shown_and_can_be_deleted(
    service: Longshore, admin: httpx2.Client
) -> None:
    found = create_destination(admin)
    service.sql("update longshore.destinations set kind = 'gone' where id = $1", uuid.UUID(found["id"]))
    shown = admin.get(f"{BASE}/{found['id']}")
    assert shown.status_code == 200
    assert "gone (not installed)" in shown.text
    assert f"{found['id']}/change" not in shown.text
    assert admin.get(BASE).status_code == 200
    assert admin.get(f"{BASE}/{found['id']}/change").status_code == 409
    assert found["name"] not in admin.get(f"/console/{CHAIN}/new").text
    assert admin.post(f"{BASE}/{found['id']}/delete").status_code == 303


def test_destination_whose_settings_cannot_be_decoded_breaks_no_page(service: Longshore, admin: httpx2.Client) -> None:
    found = create_destination(admin)
    service.sql("update longshore.destinations set settings = '[]' where id = $1", uuid.UUID(found["id"]))
    for path in (BASE, f"{BASE}/{found['id']}", f"{BASE}/{found['id']}/change"):
        assert admin.get(path).status_code == 200, path
    assert admin.post(f"{BASE}/{found['id']}/delete").status_code == 303


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier_in_the_pages_of_destinations(
    context: Callable[..., BrowserContext], admin_user: User, admin: httpx2.Client, scheme: str
) -> None:
    found = create_destination(admin)
    task = delivered(admin, found["name"])
    ended(admin, task)
    page = context(color_scheme=scheme).new_page()
    sign_in(page, admin_user)
    wrong = {}
    kinds = [f"destinations/new?kind={each['kind']}" for each in admin.get("/destination_kinds").json()]
    one = f"destinations/{found['id']}"
    for name in ("destinations", "destinations/new", *kinds, one, f"{one}/change", f"tasks/{task}"):
        go(page, name)
        if name.endswith("kind=memory"):
            page.get_by_role("button", name="Test").click()
            expect(page.locator(".beside").first).to_be_visible()
        if name == one:
            page.get_by_role("button", name="Test").click()
            expect(page.get_by_role("heading", name="The test worked")).to_be_visible()
            page.get_by_text("Delete this destination").click()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            wrong[f"{name} at {width}"] = violations(page)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide at {width}"
    assert {where: what for where, what in wrong.items() if what} == {}
