"""A real Chromium, a service with a worker, and people who sign in."""

import html
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    expect,
    sync_playwright,
)

from longshore.access.tokens import Level
from tests.access.users import User, new_user
from tests.service import Longshore

# As root Chromium has no sandbox; and left to itself it asks hosts elsewhere, whatever page it shows.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

expect.set_options(timeout=30_000)

REFUSED = re.compile(r"status of (400|401|403|409) ")
"""The entries of Chromium where a test asks for a thing that is refused; a missing or broken file has others."""
ABORTED = re.compile(r"htmx:(sendAbort|afterRequest)")
"""The entries of htmx for each request that was aborted; `ABORTABLE` has those that may be."""
ABORTABLE = re.compile(r"/console/[0-9]+/(new(/preview)?|system|tasks(/[0-9]+)?)(\?.*)?")
"""Addresses of requests that a newer one may replace, or that end with their page.

The answer to `new` opens the page of the task. Where that page comes before the end of the answer is reported,
Playwright says that the request failed.
"""


def launch(playwright: Playwright) -> Browser:
    """Start the system's Chromium."""
    program = shutil.which("chromium")
    assert program, "Chromium is not there; `make browser` installs it"
    return playwright.chromium.launch(executable_path=program, args=ARGUMENTS)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser. Its driver runs a loop in this thread until the module's tests have ended."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def admin_user(service: Longshore) -> User:
    """An admin of chain 1764 who also reads chain 1765."""
    return new_user(service, _1764=Level.ADMIN, _1765=Level.READ)


@pytest.fixture
def cut_off() -> set[str]:
    """The paths whose answers a test cuts off; it adds them."""
    return set()


@pytest.fixture
def context(chromium: Browser, service: Longshore, cut_off: set[str]) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browsers' contexts, and sees that no page of theirs complains or asks another host."""
    wrong: list[str] = []
    made: list[BrowserContext] = []

    def hear(message: ConsoleMessage) -> None:
        is_preview = "/new/preview" in message.location["url"]  # of a segment that is gone
        is_cut = cut_off and ("htmx:sendError" in message.text or urlsplit(message.location["url"]).path in cut_off)
        is_expected = is_preview or is_cut or REFUSED.search(message.text) or ABORTED.search(message.text)
        if message.type == "error" and not is_expected:
            wrong.append(f"console: {message.text}")

    def fail(asked: Request) -> None:
        address = urlsplit(asked.url)
        path = address._replace(scheme="", netloc="").geturl()
        if "hx-request" in asked.headers and address.path not in cut_off and not ABORTABLE.fullmatch(path):
            wrong.append(f"aborted: {asked.url}")

    def see(asked: Request) -> None:
        ours = urlsplit(asked.url).netloc == urlsplit(service.address).netloc
        if not ours and not asked.url.startswith(("data:", "blob:")):
            wrong.append(f"another host: {asked.url}")

    def watch(page: Page) -> None:
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", hear)
        page.on("request", see)
        page.on("requestfailed", fail)

    def make(**options: object) -> BrowserContext:
        options = {"locale": "en-GB", "timezone_id": "UTC", "viewport": {"width": 1440, "height": 900}, **options}
        context = chromium.new_context(base_url=service.address, **options)  # type: ignore[arg-type]  # passed on
        context.on("page", watch)
        made.append(context)
        return context

    yield make
    for each in made:
        each.close()
    assert not wrong, wrong


def sign_in(page: Page, admin_user: User, path: str = "/") -> None:
    """Sign in by the form, on the way to a path."""
    page.goto(path)
    page.get_by_label("Name", exact=True).fill(admin_user.name)
    page.get_by_label("Password").fill(admin_user.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/console/" in url)


@pytest.fixture
def page(context: Callable[..., BrowserContext], admin_user: User) -> Page:
    """A page of a user who has signed in, on the tasks of chain 1764."""
    opened = context().new_page()
    sign_in(opened, admin_user)
    return opened


SNIPPETS = """async () => {
    const form = document.getElementById("export"), body = new URLSearchParams(new FormData(form));
    const answer = await fetch(`${form.getAttribute("action")}/preview?fragment=snippets`, {method: "POST", body});
    return answer.text();
}"""


def request_of(page: Page) -> Any:
    """Return the body of the request that the form of a new export stands for now, as its snippet for curl has it."""
    [snippet] = re.findall('<pre id="curl"[^>]*>(.*?)</pre>', page.evaluate(SNIPPETS), re.DOTALL)
    return json.loads(shlex.split(html.unescape(snippet))[-1])
