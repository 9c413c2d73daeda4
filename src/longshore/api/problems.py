"""Errors as clients see them: RFC 9457 problems. The only place where an exception becomes an answer.

Promise 8: what a client sent wrong is named exactly; what broke here is in the log under the request's id, and only
there.
"""

from enum import StrEnum
from typing import Any, get_args

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from longshore.access.clients import ClientNotFoundError
from longshore.access.names import NameTakenError
from longshore.access.rate_limits import TooManyRequestsError
from longshore.access.sign_in import LoginError, TooFastError
from longshore.access.tokens import ForbiddenError, TokenNotFoundError, UnauthorizedError
from longshore.access.users import UserNotFoundError
from longshore.api.conditional import PreconditionFailedError
from longshore.api.guard import OtherSiteError, count_address, indecimal_parameters, unknown_parameters
from longshore.api.middleware import BrokenBodyError, TooSlowError
from longshore.api.scopes import HiddenError
from longshore.api.waiting import ClientGoneError
from longshore.database.connect import is_transient
from longshore.errors import OverloadError
from longshore.exports.segments.stored import SegmentNotFoundError
from longshore.results.links import LinkNotFoundError
from longshore.results.signing import BadSignatureError
from longshore.results.store import StoreError, StoreUnavailableError
from longshore.tasks.attempts import AlreadyRunningError, NeverDueError
from longshore.tasks.idempotency import OtherBodyError
from longshore.tasks.quotas import QuotaError
from longshore.tasks.reads import TaskNotFoundError
from longshore.tasks.requests import ChangedMeanwhileError
from longshore.tasks.run_ends import NothingToCancelError
from longshore.tasks.waiters import RunWithdrawnError, StoppingError
from longshore.tasks.watermarks import NothingToAcknowledgeError, RunNotFoundError
from longshore.telemetry import tracing
from longshore.validation import ValidationError, Violation, plain_english
from longshore.webhooks.registry import DeliveryNotFoundError, WebhookNotFoundError

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong, after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Violation] | None = None


class ProblemKind(msgspec.Struct, frozen=True):
    """A kind of problem, and what its page under `/problems/` tells about it."""

    status: int
    title: str
    about: str


KINDS = {
    "bad-request": ProblemKind(
        400, "The request cannot be used", "Each entry of `errors` names one fault, where it is, and what was expected."
    ),
    "unauthorized": ProblemKind(
        401,
        "No valid credential",
        "Send `Authorization: Bearer ACCESS_TOKEN_ID:ACCESS_TOKEN_SECRET`, with a token that was not revoked, "
        "or the headers of a session that has not ended.",
    ),
    "forbidden": ProblemKind(
        403, "Not allowed", "The credential is good, but not for this: its level is too low, or its chain another."
    ),
    "other-site": ProblemKind(
        403,
        "Asked for by another site",
        "A change that a browser asks for with a session's cookie has to come from a page of this service.",
    ),
    "login-failed": ProblemKind(
        401, "Not signed in", "The user name, the password or the passcode is wrong, or the attempt is over."
    ),
    "bad-address": ProblemKind(
        403,
        "The address is not good, or no longer",
        "A download address was changed or taken back, or its time or uses are over. "
        "Ask `GET /tasks/{id}/download_url` for a new one.",
    ),
    "not-found": ProblemKind(404, "No such page", "There is nothing at this path; `/docs` lists what there is."),
    "task-not-found": ProblemKind(
        404, "No such task", "This chain has no task of that number. Another chain's tasks look the same from here."
    ),
    "segment-not-found": ProblemKind(
        404, "No such segment", "This chain has no stored segment of that id. Another chain's segments look the same."
    ),
    "index-not-found": ProblemKind(404, "No such index", "`GET /indexes` lists what can be exported."),
    "user-not-found": ProblemKind(404, "No such user", "This chain has no user of that id."),
    "client-not-found": ProblemKind(
        404, "No such service client", "This chain has no service client of that id; `GET /service_clients` lists them."
    ),
    "token-not-found": ProblemKind(
        404, "No such access token", "No access token of that id is for this chain; `GET /access_tokens` lists them."
    ),
    "link-not-found": ProblemKind(
        404, "No such link", "`GET /tasks/{id}/links` lists the download addresses of the task."
    ),
    "session-not-found": ProblemKind(404, "No such session", "`GET /auth/sessions` lists your own."),
    "name-taken": ProblemKind(409, "The name is taken", "Another one has it, be it in another case."),
    "run-not-found": ProblemKind(404, "No such run", "`GET /tasks/{id}/runs` lists the runs of the task."),
    "method-not-allowed": ProblemKind(405, "No such method here", "The `Allow` header lists the methods of this path."),
    "task-running": ProblemKind(409, "The task is running", "It is `INPROGRESS`; wait for `DONE` or `ERROR`."),
    "task-not-done": ProblemKind(
        409, "The task is not done", "There is a result to download only while the task is `DONE`."
    ),
    "no-export": ProblemKind(409, "The task is no export", "Only exports leave a file to download."),
    "nothing-to-acknowledge": ProblemKind(
        409,
        "Nothing to acknowledge",
        "Only a run that is `DONE`, of a task whose target says `incremental: on_ack`, waits to be acknowledged.",
    ),
    "source-refused": ProblemKind(
        409,
        "The source refuses the query",
        "The database that the data comes from says why; `longshore catalog check` finds most of what is wrong there.",
    ),
    "result-gone": ProblemKind(
        410, "The result is gone", "Its file has expired or was deleted. Run the task again to get a new one."
    ),
    "nothing-to-cancel": ProblemKind(
        409, "There is nothing to cancel", "The task has ended, and no later run of it is planned."
    ),
    "changed-meanwhile": ProblemKind(
        412,
        "It has changed meanwhile",
        "The resource is not as `If-Match` or `If-None-Match` demands. Read it again: its `ETag` is what `If-Match` "
        "has to name. What has no `ETag` fits `If-Match: *` alone.",
    ),
    "too-large": ProblemKind(413, "The body is too large", "A request's body may have 64 KiB."),
    "head-too-large": ProblemKind(
        431, "The head is too large", "Path, query and header fields may have 256 KiB together, and 100 fields."
    ),
    "unsupported-coding": ProblemKind(
        415, "The content coding is not supported", "Send the body as it is, without `Content-Encoding`."
    ),
    "not-json": ProblemKind(
        415,
        "The body is no JSON",
        "Send JSON in UTF-8, and say so: `Content-Type: application/json`.",
    ),
    "range-not-satisfiable": ProblemKind(
        416, "The file has no such range", "The `Content-Range` header says how many bytes the file has."
    ),
    "too-slow": ProblemKind(408, "The request came too slowly", "Its body has to be there within ten seconds."),
    "too-many-requests": ProblemKind(
        429,
        "Too many requests",
        "Try again after the seconds that `Retry-After` tells; the `RateLimit` header tells what is left.",
    ),
    "overloaded": ProblemKind(
        503, "Too many others want the same", "Try again after the seconds that `Retry-After` tells."
    ),
    "client-gone": ProblemKind(499, "The client has gone", "The connection was closed before the answer."),
    "quota-used-up": ProblemKind(
        409,
        "The quota is used up",
        "The chain has as many tasks, or as many bytes in them, as the operator allows; `detail` says how many. "
        "Delete tasks that are no longer needed.",
    ),
    "run-withdrawn": ProblemKind(
        409,
        "The run was withdrawn",
        "Before it began, the task was planned for another time; `GET /tasks/{id}` has the task as it is now.",
    ),
    "idempotency-key-reused": ProblemKind(
        422,
        "The key was used with another request",
        "An `Idempotency-Key` stands for one method, path and body for 24 hours; "
        "send the same request, or another key.",
    ),
    "webhook-not-found": ProblemKind(404, "No such webhook", "`GET /webhooks` lists those of the chain."),
    "delivery-not-found": ProblemKind(404, "No such delivery", "`GET /webhooks/{id}/deliveries` lists them."),
    "too-many-webhooks": ProblemKind(409, "Too many webhooks", "A chain may have 20. Delete one that is not needed."),
    "webhook-secret-replaced": ProblemKind(
        409,
        "The webhook has another secret now",
        "A repeated request shows the first secret alone. `POST /webhooks/{id}/secret` makes a new one.",
    ),
    "too-many-webhook-secrets": ProblemKind(
        409,
        "Too many secrets of a webhook",
        "The three previous secrets still sign. Replace the secret again after their `previous_until`.",
    ),
    "webhook-disabled": ProblemKind(
        409,
        "The webhook is disabled",
        "Nothing is sent to a disabled webhook. `POST /webhooks/{id}/enable` ends that.",
    ),
    "internal-error": ProblemKind(
        500, "Something broke", "It is not your request. The service's log has the cause under the `request_id`."
    ),
    "unavailable": ProblemKind(
        503, "The service cannot reach its database", "Try again after the seconds that `Retry-After` tells."
    ),
    "store-unavailable": ProblemKind(
        503, "The service cannot reach its results store", "Try again after the seconds that `Retry-After` tells."
    ),
    "stopping": ProblemKind(
        503, "The service is stopping", "The run was asked for and goes on; poll `GET /tasks/{id}`."
    ),
}

BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "not-json"}


class ProblemError(Exception):
    """A problem that an endpoint found itself; `kind` is a key of KINDS."""

    def __init__(self, kind: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers or {}


def to_response(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The answer to a request that ended in an exception."""
    headers: dict[str, str] = {}
    violations: list[Violation] | None = None
    try:
        count_address(request)  # of what no route answers, which the guard has not seen
    except TooManyRequestsError as exceeded:
        error = exceeded
    match error:
        case ProblemError():
            kind, detail = error.kind, error.detail
            headers |= error.headers
        case ValidationError():
            violations = error.violations
            kind, detail = "bad-request", violations_detail(violations)
        case UnauthorizedError():
            kind, detail = "unauthorized", KINDS["unauthorized"].about
            headers["WWW-Authenticate"] = "Bearer"
        case ForbiddenError():
            kind, detail = "forbidden", f"This needs the level {error.needed.name.lower()!r} for the chain."
        case HiddenError():
            kind, detail = "forbidden", "The token may not see all that this asks for."
            violations = error.violations
        case OtherSiteError():
            kind, detail = "other-site", KINDS["other-site"].about
        case LoginError():
            kind, detail = "login-failed", KINDS["login-failed"].about
            headers["WWW-Authenticate"] = "Bearer"
        case TooFastError():
            kind, detail = "too-many-requests", "Too many logins failed, of this account or from this address."
            headers["Retry-After"] = str(error.seconds)
        case TooManyRequestsError():
            kind, detail = "too-many-requests", f"This {error.name} has made all requests that it may for now."
            headers["Retry-After"] = str(error.seconds)
        case OverloadError():
            kind, detail = "overloaded" if error.waited else "too-many-requests", str(error)
            headers["Retry-After"] = str(error.seconds)
        case ClientGoneError():
            kind, detail = "client-gone", KINDS["client-gone"].about
        case QuotaError():
            kind, detail = "quota-used-up", str(error)
        case RunWithdrawnError():
            kind, detail = "run-withdrawn", KINDS["run-withdrawn"].about
        case TooSlowError():
            kind, detail = "too-slow", KINDS["too-slow"].about
            headers["Connection"] = "close"
        case BrokenBodyError():
            violations = [Violation("expected a whole body, in well-formed chunks where it is chunked", "")]
            kind, detail = "bad-request", violations_detail(violations)
            headers["Connection"] = "close"
        case UserNotFoundError():
            kind, detail = "user-not-found", KINDS["user-not-found"].about
        case ClientNotFoundError():
            kind, detail = "client-not-found", KINDS["client-not-found"].about
        case TokenNotFoundError():
            kind, detail = "token-not-found", KINDS["token-not-found"].about
        case LinkNotFoundError():
            kind, detail = "link-not-found", KINDS["link-not-found"].about
        case NameTakenError():
            kind, detail = "name-taken", KINDS["name-taken"].about
        case TaskNotFoundError():
            kind, detail = "task-not-found", KINDS["task-not-found"].about
        case SegmentNotFoundError():
            kind, detail = "segment-not-found", KINDS["segment-not-found"].about
        case RunNotFoundError():
            kind, detail = "run-not-found", KINDS["run-not-found"].about
        case NothingToAcknowledgeError():
            kind, detail = "nothing-to-acknowledge", str(error)
        case NothingToCancelError():
            kind, detail = "nothing-to-cancel", KINDS["nothing-to-cancel"].about
        case ChangedMeanwhileError() | PreconditionFailedError():
            kind, detail = "changed-meanwhile", KINDS["changed-meanwhile"].about
        case NeverDueError():
            violations = [Violation("leaves no time to run at", "/trigger/until")]
            kind, detail = "bad-request", violations_detail(violations)
        case AlreadyRunningError():
            kind, detail = "task-running", KINDS["task-running"].about
        case OtherBodyError():
            kind, detail = "idempotency-key-reused", KINDS["idempotency-key-reused"].about
        case WebhookNotFoundError():
            kind, detail = "webhook-not-found", KINDS["webhook-not-found"].about
        case DeliveryNotFoundError():
            kind, detail = "delivery-not-found", KINDS["delivery-not-found"].about
        case StoppingError():
            kind, detail = "stopping", KINDS["stopping"].about
            headers["Retry-After"] = "1"
        case BadSignatureError():
            kind, detail = "bad-address", KINDS["bad-address"].about
        case ValidationException():
            violations = unknown_parameters(request) + indecimal_parameters(request)
            named = {violation.parameter for violation in violations}
            others = _parameter_violations(request, error)
            violations += [violation for violation in others if violation.parameter not in named]
            kind, detail = "bad-request", violations_detail(violations)
        case HTTPException() if error.status_code in BY_STATUS:
            kind = BY_STATUS[error.status_code]
            detail = KINDS[kind].about
            headers |= error.headers or {}
        case HTTPException() if 400 <= error.status_code < 500:
            kind, detail = "bad-request", error.detail
            violations = [Violation(error.detail)]
        case asyncpg.PostgresError() | asyncpg.InterfaceError() | OSError() if is_transient(error):
            kind, detail = "unavailable", KINDS["unavailable"].about
            headers["Retry-After"] = "1"
            log.warning("database out of reach", error=str(error))
            tracing.failed(error)
        case StoreUnavailableError() | StoreError():
            kind, detail = "store-unavailable", KINDS["store-unavailable"].about
            log.error("results store failed", error=str(error))
            headers["Retry-After"] = "1"
            tracing.failed(error)
        case _:
            kind, detail = "internal-error", KINDS["internal-error"].about
            log.error("request failed", exc_info=error)
            tracing.failed(error)
    answer = problem(kind, detail, request.scope["state"].get("request_id", ""), violations)
    return Response(answer, status_code=answer.status, media_type=MEDIA_TYPE, headers=headers)


def problem(kind: str, detail: str, request_id: str, violations: list[Violation] | None = None) -> Problem:
    """Return the body of an answer of this kind, a key of KINDS."""
    title, status = KINDS[kind].title, KINDS[kind].status
    return Problem(f"/problems/{kind}", title, status, detail, request_id, violations)


def _parameter_violations(request: Request[Any, Any, Any], error: ValidationException) -> list[Violation]:
    found = []
    parameters = request.route_handler.parsed_fn_signature.parameters
    for item in error.extra if isinstance(error.extra, list) else []:
        message, name = str(item.get("message", error.detail)), str(item.get("key", ""))
        if name in parameters and message.startswith("Invalid enum value"):
            kinds = (parameters[name].annotation, *get_args(parameters[name].annotation))
            names = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, StrEnum))
            message = f"expected one of {', '.join(names)}"
        found.append(Violation(plain_english(message), parameter=name or None))
    return found or [Violation(error.detail)]


def violations_detail(violations: list[Violation]) -> str:
    """Return the sentence that counts the violations of a request."""
    return "The request has one fault." if len(violations) == 1 else f"The request has {len(violations)} faults."
