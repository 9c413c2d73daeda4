"""The answers to the form of a new export, as htmx asks for them, over plain HTTP."""

import asyncio
import time
import uuid
from collections.abc import Iterator

import httpx2
import pytest

from tests.access.users import User
from tests.event_loop import MAX_SECONDS, AppAnswer, AppRequest, application, ask
from tests.service import CHAIN, Longshore

NEW = f"/console/{CHAIN}/new"
FORM = {"index": "users", "format": "csv", "when": "now", "desc": "asked twice"}
HTMX = {"HX-Request": "true"}


@pytest.fixture
def admin(admin_user: User) -> Iterator[httpx2.Client]:
    with admin_user.client() as opened:
        yield opened


def test_form_that_is_sent_again_with_its_key_creates_one_export(admin: httpx2.Client) -> None:
    form = FORM | {"idempotency_key": str(uuid.uuid4())}
    first = admin.post(NEW, data=form, headers=HTMX)
    assert first.status_code == 200, first.text
    time.sleep(1.1)  # so that it begins at another second
    again = admin.post(NEW, data=form, headers=HTMX)
    assert (again.status_code, again.headers["HX-Redirect"]) == (200, first.headers["HX-Redirect"])
    other = admin.post(NEW, data=form | {"desc": "another one"}, headers=HTMX)
    assert other.status_code == 422
    assert "Idempotency-Key" in other.text


def test_form_that_is_refused_has_the_status_of_the_refusal(admin: httpx2.Client) -> None:
    refused = admin.post(NEW, data=FORM | {"format": "none"}, headers=HTMX)
    assert refused.status_code == 400
    assert "/target/export_format" in refused.text
    assert "<html" not in refused.text
    gone = admin.post(f"{NEW}/preview", data=FORM | {"stored": str(uuid.uuid4())}, headers=HTMX)
    assert gone.status_code == 404, gone.text


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"rule-field": "", "rule-operator": "is", "rule-value": "F"}, "/trigger/segment/rules/0/field_name"),
        ({"rule-operator": "is", "rule-value": "F"}, "/trigger/segment/rules/0/field_name"),
        ({"when": "at", "at": "garbage"}, "expected a time, such as 2026-05-26 14:30, got &#34;garbage&#34;"),
        ({"when": "at"}, "expected a time, such as 2026-05-26 14:30, got &#34;&#34;"),
        ({"when": "nope"}, "expected now or at or cron, got &#34;nope&#34;"),
    ],
)
def test_form_whose_parts_would_be_ignored_is_refused(admin: httpx2.Client, wrong: dict[str, str], named: str) -> None:
    refused = admin.post(NEW, data=FORM | wrong, follow_redirects=False)
    assert (refused.status_code, named in refused.text) == (400, True), refused.text


def test_rules_beside_a_stored_segment_are_refused(admin: httpx2.Client) -> None:
    rule = {"field_name": "gender", "field_type": "keyword", "operator": "is", "value": "F"}
    segment = {"entity": "people", "index": "users", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    made = admin.post("/segments", json={"chain": CHAIN, "name": str(uuid.uuid4()), "segment": segment})
    assert made.status_code == 201, made.text
    form = FORM | {"stored": made.json()["id"], "rule-field": "", "rule-operator": "is", "rule-value": ""}
    assert admin.post(NEW, data=form, follow_redirects=False).status_code == 303
    refused = admin.post(NEW, data=form | {"rule-field": "gender", "rule-value": "M"}, follow_redirects=False)
    assert (refused.status_code, "a segment or rules, not both" in refused.text) == (400, True), refused.text


def test_size_of_files_may_have_blanks_around_it(admin: httpx2.Client) -> None:
    snippets = admin.post(
        f"{NEW}/preview?fragment=snippets", data=FORM | {"split": " 5000 ", "unit": "rows"}, headers=HTMX
    )
    assert "split={&#34;rows&#34;: 5000}" in snippets.text


@pytest.mark.parametrize("fields", ["partition=" + "a:b," * 15_000, "rule-field=x&" * 4900], ids=["folders", "rules"])
def test_largest_form_does_not_hold_the_event_loop(service: Longshore, admin_user: User, fields: str) -> None:
    asked = AppRequest("POST", f"{NEW}/preview", f"index=users&format=csv&{fields}".encode(), "fragment=snippets")
    headers = list(admin_user.session().items())

    async def fastest() -> AppAnswer:
        async with application(service.url, str(service.data)) as app:
            return min([await ask(app, asked, headers) for _ in range(3)], key=lambda each: each.seconds)

    answered = asyncio.run(fastest())
    assert (answered.status, answered.seconds <= MAX_SECONDS) == (200, True), answered.seconds
