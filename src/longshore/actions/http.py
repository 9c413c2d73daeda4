"""The action `http`: call an address at the time of the task, by the same rules as webhooks.

It is registered by an entry point like anybody's, so that what others can plug in is proven by what we do.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from longshore import outbound
from longshore.actions.action import Action, Context, Target
from longshore.errors import LongshoreError, TransientError
from longshore.outbound import OutboundError, RefusedError
from longshore.settings import Settings
from longshore.validation import Violation

TIMEOUT = 30.0  # seconds for the whole exchange
OURS = {"host", "content-length", "connection", "transfer-encoding", "idempotency-key"}
FIELD_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"  # RFC 9110, section 5.6.2

Name = Annotated[str, Meta(pattern=FIELD_NAME, max_length=100)]
Value = Annotated[str, Meta(pattern=r"^[\x20-\x7e]*$", max_length=1000)]


class HttpTarget(Target, frozen=True, kw_only=True):
    """The request to make. All of it is shown to whoever may read the task, so it is no place for secrets."""

    action: Literal["http"]
    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: dict[Name, Value] = msgspec.field(default_factory=dict)
    body: Annotated[str, Meta(max_length=32_768)] | None = None


class UnexpectedAnswerError(LongshoreError):
    """The answer was no success, and another attempt would get the same."""


def http(settings: Settings) -> Action:
    """The action, which may call what the setting `outbound_allow` says besides public addresses."""
    allow = outbound.networks(settings.outbound_allow)

    def check(target: HttpTarget) -> list[Violation]:
        violation = outbound.check_url(target.url, allow)
        violations = [] if violation is None else [Violation(violation, "/url")]
        return violations + [
            Violation("is set by the service", f"/headers/{name}") for name in target.headers if name.lower() in OURS
        ]

    async def run(context: Context[HttpTarget]) -> None:
        target = context.target
        content = (target.body or "").encode()
        # The same in each attempt of a run, so that a receiver can tell a second delivery from a second run.
        headers = {**target.headers, "Idempotency-Key": f'"{context.task}-{context.run}"'}
        try:
            request = outbound.Request(target.method, target.url, headers, content, TIMEOUT)
            answer = await outbound.send(request, allow)
        except RefusedError:
            raise
        except OutboundError as error:
            raise TransientError(f"{target.method} {target.url}: {error}") from error
        said = f"{target.method} {target.url}: {answer.status}"
        if answer.status >= 500 or answer.status in (408, 425, 429):
            raise TransientError(said)
        if not 200 <= answer.status < 300:
            raise UnexpectedAnswerError(said)
        await context.log(said)

    return Action(HttpTarget, run, check)
