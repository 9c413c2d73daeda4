"""The OpenAPI document: what Litestar cannot see in the handlers by itself, and the page that shows it."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Response, Router, get
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    Operation,
    Reference,
    RequestBody,
    SecurityScheme,
)

from longshore import __version__
from longshore.api.guard import AnyRequest
from longshore.api.problems import MEDIA_TYPE, Problem
from longshore.api.routes import security
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

WHAT = {
    400: "The request cannot be used; `errors` names every fault.",
    401: "No valid credential.",
    403: "The credential is good, but not for this.",
    404: "There is no such thing in this chain.",
    409: "Not in this state of the task.",
    410: "The result is gone.",
    408: "The body did not come in time.",
    412: "It is not as `If-Match` or `If-None-Match` demands.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    422: "The `Idempotency-Key` was used with another body.",
    429: "Too many requests; `Retry-After` tells when to try again.",
    503: "The database cannot be reached; `Retry-After` tells when to try again.",
}


# A list may be empty and have empty elements (RFC 9110, section 5.6.1.2).
ETAGS = {
    "type": "string",
    "pattern": r'^[ \t]*(\*|((W/)?"[!#-~]*")?[ \t]*(,[ \t]*((W/)?"[!#-~]*")?[ \t]*)*)[ \t]*$',
}
CONDITIONS = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "description": f"{what}, or `*`; 412 where that is not so.",
        "schema": ETAGS,
    }
    for name, what in (
        ("If-Match", "`ETag`s of which the resource must have one"),
        ("If-None-Match", "`ETag`s of which the resource must have none"),
    )
]
FAILED = {
    "description": WHAT[412],
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The documentation of an endpoint's problems, those that every endpoint may answer included."""
    return {
        status: ResponseSpec(Problem, generate_examples=False, description=WHAT[status], media_type=MEDIA_TYPE)
        for status in sorted({401, 403, 429, 503, *statuses})
    }


def answers(kind: Any, statuses: dict[int, str]) -> dict[int, ResponseSpec]:
    """The documentation of answers other than the usual one."""
    return {status: ResponseSpec(kind, generate_examples=False, description=what) for status, what in statuses.items()}


def taking(body: type[msgspec.Struct], *media_types: str) -> type[Operation]:
    """The operation of an endpoint that reads its body itself, so that it can name all faults at once.

    `media_types`: those that it takes; `application/json` where none is given.
    """

    @dataclass
    class Taking(Operation):
        def __post_init__(self) -> None:
            schema = Reference(f"#/components/schemas/{body.__name__}")
            kind = OpenAPIMediaType(schema=schema)
            self.request_body = RequestBody(dict.fromkeys(media_types or ("application/json",), kind), required=True)

    return Taking


class DocumentPlugin(JsonRenderPlugin):
    """Serves the document, with the schemas of bodies that endpoints read themselves, and the levels that they need."""

    def __init__(self, bodies: Sequence[type[msgspec.Struct]], targets: Mapping[str, type[msgspec.Struct]]) -> None:
        super().__init__(path="/", media_type=MediaType.JSON)
        self._bodies = bodies
        self._targets = targets

    def render(self, request: AnyRequest, openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, self.whole(openapi_schema))

    def whole(self, openapi_schema: dict[str, Any]) -> dict[str, Any]:
        """The document with all that Litestar's own lacks."""
        kinds = [*self._bodies, *self._targets.values()]
        _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
        for action, target in self._targets.items():
            schemas[target.__name__]["properties"]["action"] = {"const": action}
        any_target = [{"$ref": f"#/components/schemas/{target.__name__}"} for target in self._targets.values()]
        schemas["NewTaskBody"]["properties"]["target"] = {"oneOf": any_target}
        schemas["TaskChange"]["properties"]["target"] = {"oneOf": any_target}
        openapi_schema["components"]["schemas"].update(schemas)
        for path, operations in openapi_schema["paths"].items():
            for method, operation in operations.items():
                operation["security"] = security(method.upper(), path)
                if method != "get" and "412" in operation["responses"]:
                    operation.setdefault("parameters", []).extend(CONDITIONS)
                elif method != "get":
                    operation["responses"]["412"] = FAILED
        return openapi_schema


def document(app: Litestar) -> dict[str, Any]:
    """The document that an application serves."""
    config = app.openapi_config
    assert config is not None
    plugin = next(plugin for plugin in config.render_plugins if isinstance(plugin, DocumentPlugin))
    return plugin.whole(app.openapi_schema.to_schema())


def config(bodies: Sequence[type[msgspec.Struct]], targets: Mapping[str, type[msgspec.Struct]]) -> OpenAPIConfig:
    """The document at /openapi.json.

    `bodies`: what endpoints read themselves, see `taking`. `targets`: what the `target` of a task may be, by action.
    """
    return OpenAPIConfig(
        title="Longshore",
        version=__version__,
        summary="A task service for data exports.",
        description=(
            "Create a task with `POST /tasks`, poll `GET /tasks/{id}` until `state.code` is `DONE` or `ERROR`, "
            "ask `GET /tasks/{id}/download_url` where the result is, and fetch it."
        ),
        path="/openapi.json",
        openapi_router=Router("/openapi.json", route_handlers=[], include_in_schema=False),
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                "accessToken": SecurityScheme(
                    type="http", scheme="bearer", description="ACCESS_TOKEN_ID:ACCESS_TOKEN_SECRET"
                ),
                "sessionUserId": _header("X-Session-User-Id", "The `user_id` that signing in answered."),
                "sessionKey": _header("X-Session-Key", "The `session_key` that signing in answered."),
                "sessionChainId": _header("X-Session-Chain-Id", "The chain that the request is about."),
            }
        ),
        render_plugins=[DocumentPlugin(bodies, targets)],
    )


def _header(name: str, what: str) -> SecurityScheme:
    return SecurityScheme(type="apiKey", security_scheme_in="header", name=name, description=what)


@get("/docs", include_in_schema=False, media_type=MediaType.HTML)
async def get_docs() -> Response[str]:
    """The document as a page. It asks no other host for anything, and runs no script but its own."""
    return Response(PAGE, headers={"Content-Security-Policy": POLICY})


assets = static_files("/docs/assets", ASSETS, ("swagger-ui-bundle.js", "swagger-ui.css"))
