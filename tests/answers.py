"""Checks of every answer with an error."""

from typing import Any

import httpx2

from longshore.api.problem_kinds import KINDS


def problem(answer: httpx2.Response, kind: str) -> dict[str, Any]:
    """The problem in an answer, which must be of this kind and well formed in every way the contract names."""
    assert answer.status_code == KINDS[kind].status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert list(body)[:5] == ["type", "title", "status", "detail", "request_id"]
    assert set(body) <= {"type", "title", "status", "detail", "request_id", "errors"}
    assert body["type"] == f"/problems/{kind}"
    assert body["status"] == answer.status_code
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def violations(answer: httpx2.Response) -> dict[str, str]:
    """The violations that a 400 names: where (a pointer or a parameter) to what was expected."""
    found: dict[str, str] = {}
    for violation in problem(answer, "bad-request")["errors"]:
        where = violation["pointer"] if "pointer" in violation else violation["parameter"]
        assert where not in found, f"{where} is named twice: {found[where]!r} and {violation['detail']!r}"
        found[where] = violation["detail"]
    return found
