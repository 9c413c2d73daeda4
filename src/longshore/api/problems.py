"""RFC 9457 problems: the only place where an exception becomes an answer.

Promise 8: the answer names exactly what a client sent wrong; an error of the service itself is in the log alone, under
the request's id.
"""

import traceback
from enum import StrEnum
from typing import Any, get_args

import asyncpg
import msgspec
import structlog
from litestar import Request
from litestar.exceptions import HTTPException, ValidationException

from longshore.api.bodies import BytesResponse
from longshore.api.guard import count_address
from longshore.api.parameters import non_decimal_parameters, unknown_parameters
from longshore.api.problem_kinds import KINDS
from longshore.api.sharing_errors import is_sharing, sharing_error
from longshore.database.retry import is_transient
from longshore.errors import ProblemError
from longshore.results.store import StoreError
from longshore.telemetry import tracing
from longshore.validation import ValidationError, Violation
from longshore.validation_words import plain_english

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
SHARING_MEDIA_TYPE = "application/json; charset=utf-8"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an error's answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Violation] | None = None


BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "not-json"}


def to_response(request: Request[Any, Any, Any], error: Exception) -> BytesResponse:
    """Return the answer to a request that ended in an exception, in the shape that its path demands."""
    refusal = refusal_of(request, error)
    found = problem(refusal, request.scope["state"].get("request_id", ""))
    status, body, media_type = found.status, msgspec.json.encode(found), MEDIA_TYPE
    if is_sharing(request.scope["path"]):
        status, error_of_protocol = sharing_error(found.status, found.detail, refusal.violations)
        body, media_type = msgspec.json.encode(error_of_protocol), SHARING_MEDIA_TYPE
    return BytesResponse(body, refusal.headers, status, media_type)


def refusal_of(request: Request[Any, Any, Any], error: Exception) -> ProblemError:
    """Return the problem of a request that ended in an exception, after the request was counted for its address."""
    try:
        count_address(request)  # the guard has not seen requests that no route answers
    except ProblemError as exceeded:
        return exceeded
    return error if isinstance(error, ProblemError) else _problem_error(request, error)


def problem(error: ProblemError, request_id: str) -> Problem:
    """Return the body of the answer to a refused request."""
    kind = KINDS[error.kind]
    detail = error.detail or kind.about
    return Problem(f"/problems/{error.kind}", kind.title, kind.status, detail, request_id, error.violations or None)


def _problem_error(request: Request[Any, Any, Any], error: Exception) -> ProblemError:
    """Return the problem that another exception is for a client, and log what the service has to answer for."""
    match error:
        case ValidationException():
            return ValidationError(_parameter_violations(request, error))
        case HTTPException() if error.status_code in BY_STATUS:
            return ProblemError(BY_STATUS[error.status_code], headers=error.headers)
        case HTTPException() if 400 <= error.status_code < 500:
            return ProblemError("bad-request", error.detail, violations=[Violation(error.detail)])
        case _ if is_outage(error):
            log.warning("database out of reach", error=str(error))
            is_read_only = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
            detail = f"The service cannot {'write to' if is_read_only else 'reach'} its database."
            problem_error = ProblemError("unavailable", detail, {"Retry-After": "1"})
        case StoreError():
            log.error("results store failed", error=str(error))
            problem_error = ProblemError("store-unavailable", headers={"Retry-After": "1"})
        case _:
            log.error("request failed", exc_info=error)
            problem_error = ProblemError("internal-error")
    tracing.record_error(error)
    return problem_error


def is_outage(error: Exception) -> bool:
    """Return whether an error is a transient one of a database.

    Files and other servers raise errors of the same classes; those of a database have asyncpg in their traceback. A
    timeout around a statement has it in that of its cause, the cancellation.
    """
    if not is_transient(error):
        return False
    raised = [each for each in (error, error.__cause__) if each is not None]
    frames = (frame for each in raised for frame, _ in traceback.walk_tb(each.__traceback__))
    modules = (frame.f_globals.get("__name__", "") for frame in frames)
    return not isinstance(error, OSError) or any(name.partition(".")[0] == "asyncpg" for name in modules)


def _parameter_violations(request: Request[Any, Any, Any], error: ValidationException) -> list[Violation]:
    """Return the violations of a request's path and query: those that the guard looks for, then those of Litestar."""
    violations = unknown_parameters(request) + non_decimal_parameters(request)
    named = {violation.parameter for violation in violations}
    parameters = request.route_handler.parsed_fn_signature.parameters
    for item in error.extra if isinstance(error.extra, list) else []:
        message, name = str(item.get("message", error.detail)), str(item.get("key", ""))
        if name in named:
            continue
        if name in parameters and message.startswith("Invalid enum value"):
            kinds = (parameters[name].annotation, *get_args(parameters[name].annotation))
            names = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, StrEnum))
            message = f"expected one of {', '.join(names)}"
        definition = parameters[name].kwarg_definition if name in parameters else None
        called = getattr(definition, "name", None) or name or None  # as the client writes it
        # A parameter is always text, so that is not what is wrong with it.
        violations.append(Violation(plain_english(message).removesuffix(", got a string"), parameter=called))
    return violations or [Violation(error.detail)]
