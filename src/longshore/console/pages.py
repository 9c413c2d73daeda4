"""The frame around each page, what pages share of forms and lists, and pages of errors."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec
from litestar import MediaType, Request, Response
from litestar.params import RawBody
from litestar.response import Redirect

from longshore.access import users
from longshore.access.tokens import Caller, ForbiddenError, Level, UnauthorizedError
from longshore.api.guard import service_and_caller
from longshore.api.problems import Problem, problem, refusal_of, to_response
from longshore.api.routes import ENDPOINTS
from longshore.api.service import AnyRequest, Service
from longshore.console.rendering import render
from longshore.database.rows import Page
from longshore.errors import ProblemError

JSON = msgspec.json.Encoder(decimal_format="number")

STATIC = Path(str(resources.files("longshore.console") / "static"))

PAGES = (
    ("tasks", "Tasks", Level.READ),
    ("new", "New export", Level.WRITE),
    ("schedules", "Schedules", Level.READ),
    ("segments", "Segments", Level.READ),
    ("destinations", "Destinations", Level.WRITE),
    ("access", "Access", Level.READ),
    ("audit", "Audit", Level.ADMIN),
    ("system", "System", Level.READ),
)

CHAIN = re.compile(r"/console/([0-9]{1,18})(?:/|$)")
PAGE_PATHS = [
    re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
    for method, path in ENDPOINTS
    if method == "GET" and (path == "/" or path.startswith(("/console/", "/sign-in")))
]
DIGITS = re.compile(r"[0-9]{1,19}")
IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NOT_KEPT = ("offset", "from", "segment", "fragment", "log")
"""Parameters of an address that belong to one chain, or to one page of a list."""


class Viewer(msgspec.Struct, frozen=True):
    """The signed-in user of a page, and the chains to choose from."""

    name: str
    level: Level
    chains: list[int]


async def render_page(request: AnyRequest, template: str, title: str, **content: Any) -> Response[str]:
    """Return a page in its frame."""
    service: Service = request.app.state.service
    caller: Caller = request.scope["user"]
    name, levels = await users.name_and_levels(service.pool, int(caller.id))
    viewer = Viewer(name, caller.level, sorted(levels))
    section, *below = request.scope["path"].split("/")[3:]
    frame: dict[str, Any] = {
        "viewer": viewer,
        "pages": [(path, label) for path, label, needed in PAGES if caller.level >= needed],
        "may_write": caller.level >= Level.WRITE,
        "may_admin": caller.level >= Level.ADMIN,
        "section": section,
        "kept_query": "" if below else _kept_query(request),
        "title": title,
        "chain": caller.chain,
        "base": f"/console/{caller.chain}",
    }
    return await asyncio.to_thread(render, template, 200, **{**frame, **content})


def _kept_query(request: AnyRequest) -> str:
    """Return the query of a page that means the same in another chain."""
    pairs = [pair for pair in request.query_params.multi_items() if pair[0] not in NOT_KEPT and pair[1]]
    return f"?{urlencode(pairs)}" if pairs else ""


def as_number(text: str) -> int | str:
    """Return the number that a text of a form is; any other text as it is, for the API to say what it expects."""
    return int(text) if DIGITS.fullmatch(text.strip()) else text


def form_of(body: bytes) -> dict[str, str]:
    """Return the fields of a form that a browser has sent."""
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def pop_idempotency_key(fields: dict[str, str]) -> str | None:
    """Remove the idempotency key of a form from its fields, and return it; None without a usable one."""
    key = fields.pop("idempotency_key", "")
    return key if IDEMPOTENCY_KEY.fullmatch(key) else None


def json_body(value: Any) -> RawBody:
    """Return the JSON that a form stands for, as the body for an endpoint of the API."""
    return RawBody(JSON.encode(value))


def redirect(request: AnyRequest, path: str) -> Redirect:
    """Return the redirect of a form to a page of the caller's chain. `path`: below that of the chain."""
    _, caller = service_and_caller(request)
    return Redirect(f"/console/{caller.chain}/{path}", status_code=303)


async def answer_form(
    request: AnyRequest, answer: Awaitable[Response[str]], show: Callable[[Problem], Awaitable[Response[str]]]
) -> Response[str]:
    """Return the answer to a form. If the form is refused, return the page that shows its problem, with its status."""
    try:
        return await answer
    except ProblemError as error:
        found = problem(error, "")
        page = await show(found)
        page.headers |= error.headers
        if "hx-request" not in request.headers:  # htmx shows a page of status 200 alone
            page.status_code = found.status
        return page


def paging(page: Page, more: bool, **query: str) -> dict[str, str | None]:
    """Return the addresses of the pages before and after one of a list, relative to the list, for its template."""

    def at(offset: int) -> str:
        return "?" + urlencode({**query, "offset": offset})

    return {
        "older": at(page.offset + page.limit) if more else None,
        "newer": at(max(0, page.offset - page.limit)) if page.offset else None,
    }


def error_answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Return the answer to an error: a page below `/console/`, where people are, else a problem."""
    is_page = request.scope["path"].startswith("/console/") and request.scope["method"] == "GET"
    return error_page(request, error) if is_page else to_response(request, error)


def error_page(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Return the answer to an error: a redirect to the sign-in page, or a page with the problem."""
    if isinstance(error, UnauthorizedError):
        if "hx-request" in request.headers:  # htmx replaces a part of a page: the whole page has to be left
            sign_in = _sign_in(request.headers.get("hx-current-url", ""))
            return Response("", media_type=MediaType.HTML, headers={"HX-Redirect": sign_in})
        back = str(request.url) if request.scope["method"] in ("GET", "HEAD") else _referring_page(request)
        return Redirect(_sign_in(back), status_code=303)
    refusal = refusal_of(request, error)
    found = problem(refusal, request.scope["state"].get("request_id", ""))
    detail = found.detail
    if isinstance(error, ForbiddenError) and not error.violations:
        detail = "Your level for this chain does not include this page."
    answer = render(
        "problem.html",
        found.status,
        title=found.title,
        detail=detail,
        request_id=found.request_id,
        violations=found.errors or [],
        chain=match[1] if (match := CHAIN.match(request.scope["path"])) else None,
    )
    answer.headers |= refusal.headers
    return answer


def export_form_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Return the answer to an error of the form of a new export: for htmx the violations alone, else a page."""
    if "hx-request" not in request.headers or isinstance(error, UnauthorizedError):
        return error_page(request, error)
    refusal = refusal_of(request, error)
    found = problem(refusal, "")
    answer = render(
        "export_violations.html",
        found.status,
        title=found.title,
        detail=found.detail,
        violations=found.errors or [],
        fragment=request.query_params.get("fragment", ""),
    )
    answer.headers |= refusal.headers
    return answer


def _referring_page(request: Request[Any, Any, Any]) -> str:
    """Return the address of the page that sent a form; that of the chain's tasks where `Referer` names no page of ours.

    A page that answers a form has the address of the form, to which no browser can return.
    """
    referer, ours = request.headers.get("referer", ""), str(request.base_url).rstrip("/")
    path = referer.removeprefix(ours).partition("?")[0]
    if referer.startswith(f"{ours}/") and any(page.fullmatch(path) for page in PAGE_PATHS):
        return referer
    match = CHAIN.match(request.scope["path"])
    return f"/console/{match[1]}/tasks" if match else "/"


def _sign_in(back: str) -> str:
    try:
        there = urlsplit(back)._replace(scheme="", netloc="").geturl()
    except ValueError:  # no address at all
        there = ""
    return f"/sign-in?next={quote(there, safe='')}"
