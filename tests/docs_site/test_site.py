"""The site of the docs: its links lead somewhere, it asks no other host, and it reads on a phone."""

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request

from longshore.api.openapi import document
from longshore.settings import Settings
from longshore.web import build
from tests.console.conftest import chromium

DOCS = Path(__file__).parents[2] / "docs"
SITE = DOCS / "_build"
__all__ = ["chromium"]  # a fixture

PHONE = {"width": 360, "height": 740}
PAGES = sorted(SITE.rglob("*.html"))

pytestmark = pytest.mark.skipif(not PAGES, reason="`make docs` builds the site")


class PageParser(HTMLParser):
    """The links, ids and loaded addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in ("img", "script", "iframe") and "src" in found:
            self.loaded.append(found["src"])
        elif tag == "link" and found.get("rel") not in ("canonical", "prev", "next", "index", "search"):
            self.loaded.append(found.get("href", ""))


@cache
def parsed(page: Path) -> PageParser:
    parser = PageParser()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it() -> None:
    broken = []
    count = 0
    for page in PAGES:
        for link in parsed(page).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.is_file():
                broken.append(f"{page.relative_to(SITE)}: {link}")
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in parsed(target).ids:
                broken.append(f"{page.relative_to(SITE)}: {link} (no such place)")
    assert count > 5000
    assert broken == []


def test_no_page_loads_anything_from_another_host() -> None:
    loaded = {address for page in PAGES for address in parsed(page).loaded}
    assert [address for address in loaded if urlsplit(address).netloc] == []


def test_every_endpoint_has_a_page_with_an_example() -> None:
    whole = document(build(Settings()))
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            name = re.sub(r"(?=[A-Z])", "-", operation["operationId"]).lower()
            page = SITE / "reference" / "http" / f"{name}.html"
            text = page.read_text(encoding="utf-8")
            assert f"{method.upper()} {path}" in text
            assert "curl" in text
            assert ("highlight-json" in text) == (
                "example" in str(operation.get("requestBody")) or has_json_answer(operation)
            )


def has_json_answer(operation: dict[str, object]) -> bool:
    responses = operation["responses"]
    assert isinstance(responses, dict)
    return "application/json" in responses[min(responses)].get("content", {})


@pytest.fixture
def phone(chromium: Browser) -> Iterator[Page]:
    """A page as wide as a phone, whose requests all stay within the site."""
    context = chromium.new_context(viewport=PHONE, color_scheme="dark")  # type: ignore[arg-type]
    page = context.new_page()
    elsewhere: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith(("file://", "data:")):
            elsewhere.append(request.url)

    page.on("request", note)
    yield page
    context.close()
    assert elsewhere == []


def test_no_page_scrolls_sideways_on_a_phone(phone: Page) -> None:
    wide = {}
    for page in PAGES:
        phone.goto(page.as_uri(), wait_until="domcontentloaded")
        width = phone.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            wide[str(page.relative_to(SITE))] = width
    assert wide == {}


def test_site_is_dark_where_the_reader_wants_that_and_has_buttons_that_copy(phone: Page) -> None:
    phone.goto((SITE / "tutorial.html").as_uri())
    color = phone.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in color[4:-1].split(",")) < 64, color
    assert phone.locator("button.copybtn").count() >= phone.locator("div.highlight").count() > 5
    assert phone.locator(".theme-toggle").count() > 0


def test_search_finds_a_page(phone: Page) -> None:
    phone.goto(f"{(SITE / 'search.html').as_uri()}?q=watermark")
    phone.wait_for_selector("#search-results li a", timeout=30_000)
    assert phone.locator("#search-results li a").count() > 2
