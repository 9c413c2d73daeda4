"""The parts of the OpenAPI document that endpoints give, and the page that shows it. `document` makes the document."""

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from litestar import MediaType, Response, get
from litestar.openapi import ResponseSpec

from longshore.api.problems import MEDIA_TYPE, Problem
from longshore.api.static import static_files

ASSETS = Path(str(resources.files("swagger_ui") / "static"))

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Longshore API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script>@START@</script>
</body>
</html>
"""
START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null})'
PAGE = PAGE.replace("@START@", START)
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    f"script-src 'self' 'sha256-{base64.b64encode(hashlib.sha256(START.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

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
    415: "The body is not JSON in UTF-8.",
    422: "The `Idempotency-Key` was used with another request.",
    429: "Too many requests; `Retry-After` has the seconds until the next try.",
    503: "The database cannot be reached; `Retry-After` has the seconds until the next try.",
}


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the documentation of problems that an endpoint's signature does not tell."""
    return {
        status: ResponseSpec(Problem, generate_examples=False, description=DESCRIPTIONS[status], media_type=MEDIA_TYPE)
        for status in statuses
    }


def answers(kind: Any, statuses: dict[int, str]) -> dict[int, ResponseSpec]:
    """Return the documentation of answers other than the usual one."""
    return {status: ResponseSpec(kind, generate_examples=False, description=what) for status, what in statuses.items()}


@get("/docs", include_in_schema=False, media_type=MediaType.HTML)
async def get_docs() -> Response[str]:
    """Return the page that shows the document. It loads nothing from other hosts and runs its own script alone."""
    return Response(PAGE, headers={"Content-Security-Policy": POLICY})


assets = static_files("/docs/assets", ASSETS, ("swagger-ui-bundle.js", "swagger-ui.css"))
