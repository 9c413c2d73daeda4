"""The answers that endpoints add to their operation in the OpenAPI document."""

from typing import Any

from litestar.openapi import ResponseSpec

from longshore.api.problems import MEDIA_TYPE, Problem

DESCRIPTIONS = {
    400: "The request cannot be used; `errors` names every violation, at most 200.",
    401: "No valid credential.",
    403: "The credential is valid, but not for this request.",
    404: "The chain has no such resource.",
    409: "Not possible in this state.",
    410: "The result is gone.",
    408: "The body did not arrive in time.",
    412: "A precondition failed: `If-Match` or `If-None-Match`.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8, or has a content coding.",
    422: "The `Idempotency-Key` was used with another request.",
    429: "Too many requests; `Retry-After` has the seconds until the next try.",
    431: "The head is too large.",
    503: "The database, the source or the results store cannot be reached, or the service is too busy; `Retry-After` "
    "has the seconds until the next try.",
}


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the documentation of problems that cannot be derived from an endpoint's signature."""
    return {
        status: ResponseSpec(Problem, generate_examples=False, description=DESCRIPTIONS[status], media_type=MEDIA_TYPE)
        for status in statuses
    }


def answers(kind: Any, statuses: dict[int, str]) -> dict[int, ResponseSpec]:
    """Return the documentation of answers other than the usual one."""
    return {status: ResponseSpec(kind, generate_examples=False, description=what) for status, what in statuses.items()}
