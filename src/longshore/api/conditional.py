"""Conditional requests: entity tags, `If-Match` and `If-None-Match` (RFC 9110, section 13).

`If-Match` compares strongly, `If-None-Match` weakly (section 8.8.3.2). Both are lists, which several field lines may
hold (section 5.3).

The entity tag of a task is strong: `"<id>-<revision>"`, and while its run makes progress
`"<id>-<revision>-<progress steps>"`, as the progress moves `state.last_modified` alone. Pages of the log are
representations of other addresses, which may have the same tag.
"""

import hashlib
import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, TypeVar

import msgspec
from litestar import Response
from litestar.params import HeaderParameter

from longshore.api.service import AnyRequest
from longshore.errors import ProblemError
from longshore.http_dates import parse_http_date
from longshore.tasks.model import StateCode, TaskVersion
from longshore.tasks.queries import PolledStatus
from longshore.validation import ValidationError, Violation

MIN_POLL_SECONDS, MAX_POLL_SECONDS = 1, 30
POLL_SECONDS = 2  # where the end of the task cannot be estimated

T = TypeVar("T")

KnownTags = Annotated[
    str, HeaderParameter(name="If-None-Match", description="`ETag`s that you know: 304 where it still has one of them.")
]
UNMODIFIED = {304: "It is as `If-None-Match` names it."}

ANY = "*"
TAG = re.compile(r'(?P<weak>W/)?(?P<tag>"[\x21\x23-\x7e\x80-\xff]*")')
# Numbers as the service writes them: a tag is opaque (RFC 9110, section 8.8.3), so "3-03" is another one than "3-3".
OF_TASK = re.compile(r'"([1-9][0-9]{0,18})-([1-9][0-9]{0,17})(?:-([1-9][0-9]{0,8}))?"')


class EntityTags(msgspec.Struct, frozen=True):
    """The entity tags that a condition lists, quotes included."""

    strong: frozenset[str] = frozenset()
    all: frozenset[str] = frozenset()
    """The strong tags and the weak ones, without `W/`."""
    any: bool = False
    """Whether the condition is `*`, which every existing resource meets."""


def parse_tags(lines: Sequence[str]) -> EntityTags | None:
    """Return the entity tags in the lines of a condition; None where they are malformed."""
    text = ",".join(lines)
    if text.strip(" \t") == ANY:
        return EntityTags(any=True)
    if any(part.strip(" \t") not in ("", "\x00") for part in TAG.sub("\x00", text).split(",")):
        return None
    found = TAG.findall(text)
    return EntityTags(frozenset(tag for weak, tag in found if not weak), frozenset(tag for _, tag in found))


def require_match(request: AnyRequest, tag: str | None, part: Callable[[str], str] = str) -> None:
    """Raise ProblemError where a resource with this entity tag is not as the request demands.

    `tag`: None for a resource without one. `part`: what of a tag is compared. A GET looks at `If-Match` alone here; see
    `none_match`. Raises ValidationError for a malformed condition.
    """
    expected = _condition(request, "If-Match")
    if expected is not None and not expected.any and not _has(expected.strong, tag, part):
        raise ProblemError("changed-meanwhile")
    if request.scope["method"] in ("GET", "HEAD") or tag is None:
        return
    unwanted = _condition(request, "If-None-Match")
    if unwanted is not None and (unwanted.any or _has(unwanted.all, tag, part)):
        raise ProblemError("changed-meanwhile")


def refuse_malformed_conditions(request: AnyRequest) -> None:
    """Raise ValidationError for a malformed condition, also where the answer is that of an earlier request."""
    _condition(request, "If-Match")
    _condition(request, "If-None-Match")


def require_task_match(request: AnyRequest, id: int, revision: int) -> None:
    """As `require_match`, for a task: the progress of its run makes no difference."""
    require_match(request, task_tag(id, TaskVersion(revision)), _without_progress)


def none_match(request: AnyRequest, tag: str) -> bool:
    """Return whether `If-None-Match` of a GET names this tag, so that 304 is the answer; a malformed one names none."""
    known = parse_tags(request.headers.getall("if-none-match", []))
    return known is not None and (known.any or tag in known.all)


def tagged_response(request: AnyRequest, content: T, headers: dict[str, str]) -> Response[T]:
    """Return the answer to a GET: the content, or 304 where `If-None-Match` names the `ETag` among `headers`.

    Raises ProblemError where `If-Match` does not name it (RFC 9110, section 13.2.2).
    """
    require_match(request, headers["ETag"])
    if none_match(request, headers["ETag"]):
        return Response(None, status_code=304, headers=headers)  # type: ignore[arg-type]  # without content
    return Response(content, headers=headers)


def require_unmodified(request: AnyRequest, modified: float) -> None:
    """Raise ProblemError where a file has been modified since the date in `If-Unmodified-Since`.

    `modified`: seconds since 1970. With `If-Match` the date does not count (RFC 9110, section 13.1.4).
    """
    if "if-match" not in request.headers:
        since = _date(request, "if-unmodified-since")
        if since is not None and int(modified) > since:
            raise ProblemError("changed-meanwhile")


def is_not_modified(request: AnyRequest, tag: str, modified: float) -> bool:
    """Return whether 304 is the answer to a GET of a file with this entity tag and time, in seconds since 1970.

    With `If-None-Match` the date in `If-Modified-Since` does not count (RFC 9110, section 13.1.3).
    """
    if "if-none-match" in request.headers:
        return none_match(request, tag)
    since = _date(request, "if-modified-since")
    return since is not None and int(modified) <= since


def _date(request: AnyRequest, name: str) -> float | None:
    """Return the HTTP date of a field in seconds since 1970; None without one, or where it is no date."""
    date = parse_http_date(request.headers.get(name, ""))
    return None if date is None else date.timestamp()


def _condition(request: AnyRequest, name: str) -> EntityTags | None:
    lines = request.headers.getall(name, [])
    found = parse_tags(lines)
    if found is None:
        expected = f'expected {ANY} or entity tags in quotes, such as "12-3"'
        raise ValidationError([Violation(expected, parameter=name)])
    return found if lines else None


def _has(listed: Collection[str], tag: str | None, part: Callable[[str], str]) -> bool:
    return tag is not None and part(tag) in {part(each) for each in listed}


def _without_progress(tag: str) -> str:
    return OF_TASK.sub(r'"\1-\2"', tag)


def representation_tag(body: bytes) -> str:
    """Return the entity tag of a resource whose representation is these bytes."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def task_tag(id: int, version: TaskVersion) -> str:
    """Return the entity tag of a task."""
    return f'"{id}-{version.revision}-{version.progress}"' if version.progress else f'"{id}-{version.revision}"'


def known_versions(if_none_match: EntityTags | None, id: int) -> frozenset[TaskVersion]:
    """Return the versions of the task that an `If-None-Match` names."""
    matches = (OF_TASK.fullmatch(each) for each in (if_none_match.all if if_none_match else ()))
    return frozenset(TaskVersion(int(each[2]), int(each[3] or 0)) for each in matches if each and int(each[1]) == id)


def task_headers(id: int, polled: PolledStatus) -> dict[str, str]:
    """Return the header fields of every answer with a task, and of every 304 instead of one."""
    fields = {
        "ETag": task_tag(id, polled.version),
        "Cache-Control": "private, no-cache",
        "X-Log-Length": str(polled.log_length),
    }
    if polled.queued or polled.code in (StateCode.READY, StateCode.INPROGRESS):
        fields["Retry-After"] = str(next_poll(polled.seconds_left))
    return fields


def next_poll(seconds_left: float | None) -> int:
    """Return the seconds until the next poll is worth it: until the task should be over, within bounds."""
    if seconds_left is None or not math.isfinite(seconds_left):
        return POLL_SECONDS
    return math.ceil(min(max(seconds_left, MIN_POLL_SECONDS), MAX_POLL_SECONDS))
