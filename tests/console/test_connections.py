"""Pages beside others: answers that are cut off, six connections for all pages, changes of another admin, odd texts."""

import html
import re
import uuid
from collections.abc import Callable

import httpx2
from playwright.sync_api import BrowserContext, Page, Route, expect

from longshore.access.tokens import Level
from tests.access.users import User, new_user
from tests.console.conftest import sign_in
from tests.console.test_pages import go
from tests.destinations.memory import PASSWORD
from tests.service import CHAIN, Longshore, export_body

SHOW = """hidden => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""
DESTINATION = {"kind": "memory", "settings": {"shelf": "top"}, "secret": {"password": PASSWORD}}
OTHER = {"shelf": "top", "prefix": "other"}
CONNECTIONS = 6  # of a browser to one host


def test_second_click_after_a_lost_answer_finds_the_task_of_the_first(
    page: Page, client: httpx2.Client, cut_off: set[str]
) -> None:
    def cut(route: Route) -> None:
        route.fetch(max_redirects=0)
        route.abort()

    def tasks() -> int:
        listed = client.get("/tasks", params={"limit": 20}).json()
        return sum(task["desc"].startswith("made once") for task in listed)

    go(page, "new")
    cut_off.add(f"/console/{CHAIN}/new")
    page.route("**/new", cut, times=1)
    page.get_by_label("Description").fill("made once")
    page.get_by_role("button", name="Create the export").click()
    expect(page.locator("#message")).to_contain_text("did not answer")
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url("**/tasks/*")
    assert tasks() == 1
    page.go_back()
    page.get_by_label("Description").fill("made once, and again")
    page.get_by_role("button", name="Create the export").click()
    page.wait_for_url("**/tasks/*")
    assert tasks() == 2


def test_pages_of_tasks_that_are_not_visible_hold_no_connection_and_catch_up(
    service: Longshore, context: Callable[..., BrowserContext], client: httpx2.Client
) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z")).json()["id"]
    user, browser = new_user(service, _1764=Level.WRITE), context()
    pages = [browser.new_page() for _ in range(CONNECTIONS + 1)]
    sign_in(pages[0], user)
    for page in pages[:CONNECTIONS]:
        go(page, f"tasks/{task}")
        page.evaluate(SHOW, True)
    go(pages[-1], f"tasks/{task}")
    expect(pages[-1].get_by_role("button", name="Cancel")).to_be_visible()
    client.post(f"/tasks/{task}/cancel")
    expect(pages[-1].get_by_role("button", name="Cancel")).to_be_hidden()
    expect(pages[0].get_by_role("button", name="Cancel")).to_be_visible()
    pages[0].evaluate(SHOW, False)
    expect(pages[0].get_by_role("button", name="Cancel")).to_be_hidden()


def show_again(page: Page) -> None:
    page.evaluate(SHOW, True)
    page.evaluate(SHOW, False)


def test_page_of_a_task_that_becomes_visible_again_does_not_read_its_whole_log_again(
    page: Page, client: httpx2.Client, admin_user: User
) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z")).json()["id"]
    client.post(f"/tasks/{task}/cancel")
    ended: list[str] = []  # the page closes the stream at its last event, at times before the end of the body is there
    page.on("requestfinished", lambda request: ended.append(request.url))
    page.on("requestfailed", lambda request: ended.append(request.url))
    go(page, f"tasks/{task}")
    for _ in range(200):
        if any("/events" in url for url in ended):
            break
        page.wait_for_timeout(100)
    with page.expect_request(lambda request: "/events" in request.url) as again:
        show_again(page)
    with admin_user.client() as reader:
        assert re.findall("^event: (.*)$", reader.get(again.value.url).text, re.M) == ["end"]


def test_page_of_a_task_whose_events_are_refused_tries_once_at_a_time_however_often_it_is_hidden(
    page: Page, client: httpx2.Client, cut_off: set[str]
) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z")).json()["id"]
    path = f"/console/{CHAIN}/tasks/{task}/events"
    cut_off.add(path)
    page.route(f"**{path}*", lambda route: route.fulfill(status=429))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url) if "/events" in request.url else None)
    go(page, f"tasks/{task}")
    for _ in range(5):
        page.wait_for_timeout(100)
        show_again(page)
    page.wait_for_timeout(100)
    del requests[:]
    page.wait_for_timeout(2000)  # the next try comes after one second, and another after two more
    assert len(requests) == 1


def test_page_of_a_deleted_task_says_so_and_asks_for_nothing_more(
    page: Page, client: httpx2.Client, cut_off: set[str]
) -> None:
    task = client.post("/tasks", json=export_body(once="2126-01-05T03:00:00Z")).json()["id"]
    path = f"/console/{CHAIN}/tasks/{task}"
    cut_off |= {path, f"{path}/events", "/console/static/htmx.min.js"}  # the browser notes the answers 404
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url) if path in request.url else None)
    go(page, f"tasks/{task}")
    client.post(f"/tasks/{task}/cancel")
    assert client.delete(f"/tasks/{task}").status_code == 204
    page.evaluate(SHOW, True)
    page.evaluate(SHOW, False)
    expect(page.locator("#message")).to_have_text("This task was deleted.")
    page.wait_for_timeout(500)
    del requests[:]
    page.evaluate(SHOW, True)
    page.evaluate(SHOW, False)
    page.wait_for_timeout(3000)
    assert not [url for url in requests if "/events" in url]


def test_change_that_another_admin_made_meanwhile_is_not_overwritten(admin_user: User) -> None:
    with admin_user.client() as admin:
        made = admin.post("/destinations", json=DESTINATION | {"name": f"shelf-{uuid.uuid4().hex[:8]}"}).json()
        path = f"/console/{CHAIN}/destinations/{made['id']}/change"
        [revision] = re.findall(r'name="revision" value="([^"]+)"', admin.get(path).text)
        form = {"revision": html.unescape(revision), "/settings/shelf": "top", "/settings/prefix": "this"}
        assert admin.patch(f"/destinations/{made['id']}", json={"settings": OTHER}).status_code == 200
        for _ in range(2):
            refused = admin.post(path, data=form)
            assert (refused.status_code, "open the form again" in refused.text) == (412, True)
        assert admin.get(f"/destinations/{made['id']}").json()["settings"] == OTHER
        [revision] = re.findall(r'name="revision" value="([^"]+)"', admin.get(path).text)
        assert admin.post(path, data=form | {"revision": html.unescape(revision)}).status_code == 303
        assert admin.get(f"/destinations/{made['id']}").json()["settings"]["prefix"] == "this"


LEAKS = """mark => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    while (texts.nextNode()) {
        const { data, parentElement } = texts.currentNode;
        if (!data.includes("\u202e") || parentElement.closest("option, script, template")) continue;
        const isAlone = data.trim() === mark && getComputedStyle(parentElement).unicodeBidi.startsWith("isolate");
        if (!isAlone) found.push(parentElement.outerHTML);
    }
    return found;
}"""


def test_texts_with_characters_that_reverse_what_follows_reverse_themselves_alone(
    page: Page, client: httpx2.Client, admin_user: User
) -> None:
    mark = "\u202egnp.exe"
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": CHAIN, "rules": []}
    stored = client.post("/segments", json={"chain": CHAIN, "name": mark, "segment": segment}).json()["id"]
    body = {**export_body(cron="0 3 * * *", segment_id=stored), "desc": mark, "debug": mark}
    body["trigger"].pop("once")
    made = client.post("/tasks", json=body)
    assert made.status_code == 201, made.text
    task = made.json()["id"]
    with admin_user.client() as admin:
        assert admin.post("/service_clients", json={"name": mark, "contact": mark}).status_code == 201
    for path in ("tasks", f"tasks/{task}", "schedules", "segments", "access"):
        go(page, path)
        assert mark in (page.locator("main").text_content() or ""), path
        assert page.evaluate(LEAKS, mark) == [], path
    client.delete(f"/tasks/{task}")
    client.delete(f"/segments/{stored}")
