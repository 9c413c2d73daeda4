"""The action `http`: send a request to an address at the time of the task, by the rules of webhooks.

It is registered by an entry point, as the actions of other packages are, so the extension point is in use and tested.
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

TIMEOUT_SECONDS = 30.0  # until the header section of the answer
SET_BY_SERVICE = {"host", "content-length", "connection", "transfer-encoding", "idempotency-key"}
FIELD_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"  # RFC 9110, section 5.6.2

Name = Annotated[str, Meta(pattern=FIELD_NAME, max_length=100)]
Value = Annotated[str, Meta(pattern=r"^[\x20-\x7e]*$", max_length=1000)]


class HttpTarget(Target, frozen=True, kw_only=True):
    """The request to send. Every credential that may read the task sees all of it, so it must not contain secrets."""

    action: Literal["http"]
    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: dict[Name, Value] = msgspec.field(default_factory=dict)
    body: Annotated[str, Meta(max_length=32_768)] | None = None


def http(settings: Settings) -> Action:
    """Return the action. It may send to public addresses, and to networks of the setting `outbound_allow`."""
    allow = settings.outbound_networks

    def check(target: HttpTarget) -> list[Violation]:
        violation = outbound.check_url(target.url, allow)
        violations = [] if violation is None else [Violation(violation, "/url")]
        return violations + [
            Violation("is set by the service", f"/headers/{name}")
            for name in target.headers
            if name.lower() in SET_BY_SERVICE
        ]

    async def run(context: Context[HttpTarget]) -> None:
        target = context.target
        content = (target.body or "").encode()
        # The same in each attempt of a run, so that a receiver recognizes a repeated request.
        headers = {**target.headers, "Idempotency-Key": f'"{context.task}-{context.run}"'}
        try:
            request = outbound.Request(target.method, target.url, headers, content, TIMEOUT_SECONDS)
            answer = await outbound.send(request, allow)
        except RefusedError:
            raise
        except OutboundError as error:
            raise TransientError(f"{target.method} {target.url}: {error}") from error
        outcome = f"{target.method} {target.url}: {answer.status}"
        if answer.status >= 500 or answer.status in (408, 425, 429):
            raise TransientError(outcome)
        if not 200 <= answer.status < 300:
            raise LongshoreError(outcome)
        await context.log(outcome)

    return Action(HttpTarget, run, check)
