"""Bodies: JSON that endpoints read themselves, so that they can name every fault at once, and JSON that they give."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Response
from litestar.types import ASGIApp, HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

from longshore.api.guard import AnyRequest
from longshore.errors import ProblemError
from longshore.validation import ValidationError, Violation, pointer

BODY = msgspec.json.Decoder(float_hook=Decimal)
JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"
UTF_8 = "utf-8"
MAX_DEPTH = 32


class RepeatedKeys(dict[str, Any]):
    """A JSON object that has a key more than once."""

    repeated: list[str]


def read_json(request: AnyRequest, body: bytes, *media_types: str) -> Any:
    """Return a request's body as a JSON value, its decimals exact.

    `media_types`: those that the endpoint takes; `application/json` where none is given. Raises ProblemError for
    another one, ValidationError for what is no JSON, is nested too deeply or repeats a key: readers take different
    values (RFC 8259, section 4).
    """
    (given, parameters), expected = request.content_type, media_types or (JSON,)
    if given not in expected:
        raise ProblemError("not-json", f"Expected the content type {' or '.join(expected)}, got {given!r}.")
    charset = parameters.get("charset", UTF_8).strip('"').lower()
    if charset != UTF_8:
        raise ProblemError("not-json", f"Expected JSON in UTF-8 (RFC 8259, section 8.1), got the charset {charset!r}.")
    try:
        value = BODY.decode(body)
        shape = json.loads(body, object_pairs_hook=_object, parse_int=str, parse_float=str)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValidationError([Violation(f"expected JSON: {error}", "")]) from None
    if violations := _shape_violations(shape):
        raise ValidationError(violations)
    return value


def merge_patch(target: Any, patch: Any) -> Any:
    """Return the value that a merge patch makes of a JSON value (RFC 7396, section 2)."""
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
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    repeating = RepeatedKeys(found)
    repeating.repeated = [name for name in found if names.count(name) > 1][:10]
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


class Encoded(Response[Any]):
    """An answer that is JSON already, or nothing, and is sent as it is.

    Litestar's own answer looks through all that such a one can do without, which takes it a tenth of a poll.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        about = {"content-type": "application/json", "content-length": str(len(body))} if body else {}
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in {**headers, **about}.items()]
        self._start: HTTPResponseStartEvent = {"type": "http.response.start", "status": status, "headers": fields}
        self._body: HTTPResponseBodyEvent = {"type": "http.response.body", "body": body, "more_body": False}

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]  # all that Litestar calls it as
        """The answer as an ASGI application."""
        return self._send

    async def _send(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send(self._start)
        await send(self._body)
