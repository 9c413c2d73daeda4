"""The action `http`: send a request to an address at the time of the task, by the rules of webhooks.

It is registered by an entry point, as the actions of other packages are, so the extension point is in use and tested.
"""

from typing import Annotated, Literal

import httpx2
import msgspec
from msgspec import Meta

from longshore import outbound
from longshore.actions.action import Action, Context
from longshore.errors import LongshoreError, TransientError
from longshore.outbound import OutboundError, RefusedError
from longshore.settings import Settings
from longshore.tasks.model import Target
from longshore.validation import Violation, pointer

TIMEOUT_SECONDS = 30.0  # until the header section of the answer
SET_BY_SERVICE = {"host", "content-length", "connection", "transfer-encoding", "idempotency-key"}
MAX_SECRET_HEADERS = 20
# RFC 9110, sections 5.6.2 and 5.5. Python's `$` matches before a line feed, too.
FIELD_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z"
FIELD_VALUE = r"^([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?\Z"

Name = Annotated[
    str, Meta(pattern=FIELD_NAME, max_length=100, extra={"expected": "up to 100 letters, digits and !#$%&'*+.^_`|~-"})
]
Value = Annotated[
    str,
    Meta(
        pattern=FIELD_VALUE,
        max_length=1000,
        extra={"expected": "up to 1,000 visible ASCII characters, with blanks only between them"},
    ),
]


class HttpTarget(Target, frozen=True, kw_only=True):
    """The request to send. Every credential that may read the task sees all of it but the values of secret_headers."""

    action: Literal["http"]
    url: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    headers: dict[Name, Value] = msgspec.field(default_factory=dict)
    secret_headers: Annotated[
        dict[Name, Value | None],
        Meta(
            max_length=MAX_SECRET_HEADERS,
            description="Header fields whose values are stored encrypted, and shown as null. In a PATCH, null keeps a "
            "value; one that changes the origin of `url` has to send all values again.",
            examples=[{"Authorization": "Bearer …"}],
        ),
    ] = msgspec.field(default_factory=dict)
    body: Annotated[str, Meta(max_length=32_768)] | None = None


def http(settings: Settings) -> Action:
    """Return the action. It may send to public addresses, and to networks that the operator allows for the chain."""

    def check(target: HttpTarget, chain: int) -> list[Violation]:
        violation = outbound.check_url(target.url, settings.outbound_networks_of(chain))
        violations = [] if violation is None else [Violation(violation, "/url")]
        violations += [
            Violation("is set by the service", f"/{field}/{name}")
            for field, names in (("headers", target.headers), ("secret_headers", target.secret_headers))
            for name in names
            if name.lower() in SET_BY_SERVICE
        ]
        plain = {name.lower() for name in target.headers}
        return violations + [
            Violation("is in `headers`, too", pointer("/secret_headers", name))
            for name in target.secret_headers
            if name.lower() in plain
        ]

    async def run(context: Context[HttpTarget]) -> None:
        target = context.target
        content = (target.body or "").encode()
        secret = {name: value for name, value in target.secret_headers.items() if value is not None}
        # The same in each attempt of a run, so that a receiver recognizes a repeated request.
        headers = {**target.headers, **secret, "Idempotency-Key": f'"{context.task}-{context.run}"'}
        try:
            request = outbound.Request(target.method, target.url, headers, content, TIMEOUT_SECONDS)
            answer = await outbound.send(request, settings.outbound_networks_of(context.chain))
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

    return Action(HttpTarget, run, check, ("secret_headers",), lambda target: _origin(target.url))


def _origin(text: str) -> str:
    url = httpx2.URL(text)
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return f"{url.scheme}://{url.host}:{port}"
