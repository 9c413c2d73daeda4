"""JSON bodies: of requests, decoded so that all violations can be named at once, and of answers."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec
from litestar import Response
from litestar.types import ASGIApp, HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

from longshore.api.service import AnyRequest
from longshore.errors import ProblemError
from longshore.tasks.schedule import bounds_violation
from longshore.validation import ValidationError, Violation, convert, in_json, pointer

JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"
UTF_8 = "utf-8"

S = TypeVar("S", bound=msgspec.Struct)
MAX_DEPTH = 32
TRUNCATED = "truncated"  # msgspec says it of half a surrogate pair near the end, too
HALF_PAIR = r"a string has half a surrogate pair, such as \ud800 alone"


class RepeatedKeys(dict[str, Any]):
    """A JSON object with repeated keys; `repeated` lists them."""

    repeated: list[str]


def _decimal(text: str) -> Decimal:
    """Return a number of a body. Raises ValidationError for one that no Decimal holds."""
    try:
        return Decimal(text)
    except InvalidOperation:
        shown = in_json(msgspec.Raw(text.encode()))
        expected = f"expected an exponent of 18 digits at most, got {shown}"
        raise ValidationError([Violation(expected, "")]) from None


BODY = msgspec.json.Decoder(float_hook=_decimal)


def stored_members(stored: str | msgspec.Raw) -> dict[str, Any]:
    """Return the members of a stored JSON object, with exact decimals; {} where it is no object or cannot be decoded.

    Such objects are targets, triggers, segments and the settings of destinations.
    """
    try:
        members = BODY.decode(stored)
    except msgspec.DecodeError:  # half a surrogate pair, which PostgreSQL stores
        return {}
    return members if isinstance(members, dict) else {}


def read_json(request: AnyRequest, body: bytes) -> Any:
    """Return a request's body as a JSON value with exact decimals.

    Raises ProblemError for a media type that the endpoint does not take: its signature has those beside JSON, as in
    `body: Annotated[RawBody, TaskChange, MERGE_PATCH]`. That of a page for forms has none: it makes JSON of a form.
    Raises ValidationError for a body that is not JSON, is nested too deeply or repeats a key: readers differ in the
    value that they take (RFC 8259, section 4).
    """
    if metadata := request.route_handler.parsed_fn_signature.parameters["body"].metadata:
        _refuse_other_media_types(request, (JSON, *metadata[1:]))
    try:
        value = BODY.decode(body)
        shape = json.loads(body, object_pairs_hook=_object, parse_int=str, parse_float=str)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reason = HALF_PAIR if TRUNCATED in str(error) and _is_json(body) else str(error)
        raise ValidationError([Violation(f"expected JSON: {reason}", "")]) from None
    if violations := _shape_violations(shape):
        raise ValidationError(violations)
    return value


def _is_json(body: bytes) -> bool:
    """Return whether a body is JSON to Python, which takes halves of surrogate pairs."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_other_media_types(request: AnyRequest, expected: Sequence[str]) -> None:
    media_type, parameters = request.content_type
    if media_type not in expected:
        raise ProblemError("not-json", f"Expected the content type {' or '.join(expected)}, got {in_json(media_type)}.")
    charset = parameters.get("charset", UTF_8).strip('"').lower()
    if charset != UTF_8:
        detail = f"Expected JSON in UTF-8 (RFC 8259, section 8.1), got the charset {in_json(charset)}."
        raise ProblemError("not-json", detail)


def check_body(kind: type[S], json_value: Any, *checks: Callable[[S], list[Violation]]) -> S:
    """Return a JSON value as a struct. Raises ValidationError with all violations, those of `checks` included."""
    violations: list[Violation] = []
    value = convert(kind, json_value, "", violations)
    if value is not None:
        violations += [violation for further in checks for violation in further(value)]
    if violations or value is None:
        raise ValidationError(violations)
    return value


def time_violations(time: datetime | None, at: str) -> list[Violation]:
    """Return the violation of a time of a body, if it has one. `at`: its JSON pointer."""
    violation = None if time is None else bounds_violation(time)
    return [] if violation is None else [Violation(violation, at)]


def read_optional_json(request: AnyRequest, body: bytes) -> Any:
    """Return a request's body as `read_json` does; an empty object for a request without one."""
    return {} if body.strip() in (b"", b"{}") else read_json(request, body)


def merge_patch(target: Any, patch: Any) -> Any:
    """Return a JSON value with a merge patch applied (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, part in patch.items():
        if part is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), part)
    return merged


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    counts = Counter(name for name, _ in pairs)
    repeating = RepeatedKeys(members)
    repeating.repeated = [name for name, count in counts.items() if count > 1][:10]
    return repeating


def _shape_violations(value: Any) -> list[Violation]:
    violations: list[Violation] = []
    rest: list[tuple[Any, str, int]] = [(value, "", 1)] if isinstance(value, dict | list) else []
    while rest:
        part, at, depth = rest.pop()
        if depth > MAX_DEPTH:
            return [Violation(f"expected {MAX_DEPTH} levels of nesting at most", "")]
        if isinstance(part, RepeatedKeys):
            violations += [Violation("expected this key once", pointer(at, name)) for name in part.repeated]
        inner = part.items() if isinstance(part, dict) else enumerate(part)
        rest += [(each, pointer(at, key), depth + 1) for key, each in inner if isinstance(each, dict | list)]
    return violations


class BytesResponse(Response[Any]):
    """An answer whose body is JSON text already, or empty.

    Litestar's own class spends a tenth of a poll on features that such an answer does not use.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str], status: int = 200, media_type: str = JSON) -> None:
        content = {"content-type": media_type, "content-length": str(len(body))} if body else {}
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in {**headers, **content}.items()]
        self._start: HTTPResponseStartEvent = {"type": "http.response.start", "status": status, "headers": fields}
        self._body: HTTPResponseBodyEvent = {"type": "http.response.body", "body": body, "more_body": False}

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]  # takes whatever Litestar passes
        """Return the answer as an ASGI application."""
        return self._send

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # of the protocol
        await send(self._start)
        await send(self._body)
