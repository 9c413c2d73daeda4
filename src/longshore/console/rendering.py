"""Templates, with the filters by which they show figures, times and texts."""

import re
import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Response
from markupsafe import Markup, escape

from longshore import __version__

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Under `no-referrer`, which the API sends, browsers send `Origin: null` with a form.
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}

CODE = re.compile(r"`([^`]+)`")
UUID = re.compile(r"\b([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
UNITS = ("B", "kB", "MB", "GB", "TB")
AGE_UNITS = (("y", 31_557_600), ("d", 86400), ("h", 3600), ("min", 60))


def in_bytes(size: float) -> str:
    for unit in UNITS:
        if size < 1000 or unit == UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def in_seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def in_digits(number: float) -> str:
    return f"{number:,.0f}"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _ago(moment: datetime) -> str:
    """Return a time in words that count from now. Scripts repeat it by the clock of the viewer."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    size = abs(seconds)
    unit, length = next(((name, each) for name, each in AGE_UNITS if size >= 1.5 * each), ("s", 1))
    text = f"{size / length:.0f} {unit}"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def _raw(value: msgspec.Raw | None) -> str:
    return "" if value is None else bytes(value).decode()


def _code(text: str) -> Markup:
    """Return a text with its parts between backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # it is escaped


def _short_uuids(text: str) -> Markup:
    """Return a text with each UUID in it as its first eight digits."""
    shortened = UUID.sub(r'<span title="\g<0>">\1</span>', str(escape(text)))
    return Markup(shortened)  # noqa: S704  # it is escaped


def _reason(text: str) -> str:
    """Return the entry of a log that says why a run failed, without the word that a page says already."""
    return text.removeprefix("failed: ")


TEMPLATES = Environment(
    loader=PackageLoader("longshore.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    "bytes": in_bytes,
    "seconds": in_seconds,
    "number": in_digits,
    "iso": _iso,
    "utc": _utc,
    "ago": _ago,
    "raw": _raw,
    "code": _code,
    "short_uuids": _short_uuids,
    "reason": _reason,
}
TEMPLATES.globals |= {"version": __version__, "new_idempotency_key": lambda: secrets.token_urlsafe(18)}


def compile_templates() -> None:
    """Compile all templates, which takes longer than a request may hold the event loop."""
    for name in TEMPLATES.list_templates():
        TEMPLATES.get_template(name)


def render(template: str, status: int = 200, **content: Any) -> Response[str]:
    """Return a page, or a part of one, without a frame."""
    text = TEMPLATES.get_template(template).render(content)
    return Response(text, status_code=status, media_type=MediaType.HTML, headers=HEADERS)
