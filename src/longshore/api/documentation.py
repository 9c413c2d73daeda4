"""The OpenAPI document, completed from the signatures of endpoints and the table of routes, and its page."""

import base64
import hashlib
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Response, Router, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.routes import HTTPRoute

from longshore import __version__
from longshore.api.json_schemas import portable
from longshore.api.problems import MEDIA_TYPE, Problem
from longshore.api.routes import NEEDED, Open, security
from longshore.api.service import AnyRequest
from longshore.api.sharing_errors import SharingError, is_sharing
from longshore.api.static import static_files
from longshore.destinations.kind import Kind
from longshore.exports.segments.rules import Segment

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
    400: "The request cannot be used; `errors` names every fault.",
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


REFERENCE = "#/components/schemas/{name}"

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
        "description": f"{what}, or `*`; else 412.",
        "schema": ETAGS,
    }
    for name, what in (
        ("If-Match", "`ETag`s of which the resource must have one"),
        ("If-None-Match", "`ETag`s of which the resource must have none"),
    )
]
COMMON = (400, 401, 403, 429, 503)
"""Statuses of the problems that every endpoint may answer, except those that machines watch."""

SAFE = ("GET", "HEAD")


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the documentation of problems that an endpoint's signature does not tell, see `_statuses`."""
    return {
        status: ResponseSpec(Problem, generate_examples=False, description=DESCRIPTIONS[status], media_type=MEDIA_TYPE)
        for status in statuses
    }


def answers(kind: Any, statuses: dict[int, str]) -> dict[int, ResponseSpec]:
    """Return the documentation of answers other than the usual one."""
    return {status: ResponseSpec(kind, generate_examples=False, description=what) for status, what in statuses.items()}


def _body(handler: HTTPRouteHandler) -> tuple[type[msgspec.Struct], list[str]] | None:
    """Return the struct and the media types of an endpoint's body; None where it takes none.

    The endpoint reads the body itself, so that it can name all violations at once: its signature has the struct, and
    media types beside JSON, as in `body: Annotated[RawBody, TaskChange, "application/merge-patch+json"]`.
    """
    body = handler.parsed_fn_signature.parameters.get("body")
    if body is None:
        return None
    kind, *media_types = body.metadata
    return kind, [MediaType.JSON.value, *media_types]


def _statuses(handler: HTTPRouteHandler, method: str, path: str) -> set[int]:
    """Return the statuses of the problems that an endpoint may answer, as its signature and path tell."""
    statuses = set(COMMON)
    if "{" in path:
        statuses |= {404}
    if _body(handler):
        statuses |= {408, 413, 415}
    if "idempotency_key" in handler.parsed_fn_signature.parameters:
        statuses |= {422}
    if method not in SAFE:
        statuses |= {412}
    return statuses


class DocumentPlugin(JsonRenderPlugin):
    """Serves the document with all that Litestar does not see in the endpoints by itself.

    `targets`: what the `target` of a task may be, by action. `kinds`: the kinds of destinations.
    """

    def __init__(self, targets: Mapping[str, type[msgspec.Struct]], kinds: Collection[Kind]) -> None:
        super().__init__(path="/", media_type=MediaType.JSON)
        self._targets = targets
        self._kinds = kinds

    def render(self, request: AnyRequest, openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, self.whole(request.app, openapi_schema))

    def whole(self, app: Litestar, openapi_schema: dict[str, Any]) -> dict[str, Any]:
        """Return the document with bodies, problems, conditions and the levels that endpoints need."""
        bodies = set[type[msgspec.Struct]]()
        for route in app.routes:
            for method, operation in openapi_schema["paths"].get(route.path_format, {}).items():
                assert isinstance(route, HTTPRoute)
                handler, _ = route.route_handler_map[method.upper()]
                _describe(operation, handler, method.upper(), route.path_format)
                if body := _body(handler):
                    bodies.add(body[0])
        openapi_schema["components"]["schemas"].update(self._schemas(bodies))
        return openapi_schema

    def _schemas(self, bodies: Collection[type[msgspec.Struct]]) -> dict[str, Any]:
        kinds = [SharingError, *sorted(bodies, key=lambda kind: kind.__name__), *self._targets.values(), Segment]
        settings, secrets = [kind.settings for kind in self._kinds], [kind.secret for kind in self._kinds]
        found, schemas = msgspec.json.schema_components([*settings, *secrets, *kinds], ref_template=REFERENCE)
        for name, first in (("settings", 0), ("secret", len(settings))) if settings else ():
            schemas["DestinationBody"]["properties"][name]["anyOf"] = list(found[first : first + len(settings)])
        for action, target in self._targets.items():
            schemas[target.__name__]["properties"]["action"] = {"const": action}
        any_target = [{"$ref": REFERENCE.format(name=target.__name__)} for target in self._targets.values()]
        schemas["NewTaskBody"]["properties"]["target"] = {"oneOf": any_target}
        schemas["TaskChange"]["properties"]["target"] = {"oneOf": any_target}
        segment = {"$ref": REFERENCE.format(name=Segment.__name__)}
        by_index = {"type": "object", "additionalProperties": segment}
        schemas["Trigger"]["properties"]["segment"] = {"anyOf": [segment, by_index, {"type": "null"}], "default": None}
        return portable(schemas)  # type: ignore[no-any-return]


def _describe(operation: dict[str, Any], handler: HTTPRouteHandler, method: str, path: str) -> None:
    """Add to an operation of the document what the endpoint's signature and the table of routes say."""
    if NEEDED[method, path] is not Open.PROBE:
        media_type, name = ("application/json", "SharingError") if is_sharing(path) else (MEDIA_TYPE, "Problem")
        for status in _statuses(handler, method, path):
            content = {media_type: {"schema": {"$ref": REFERENCE.format(name=name)}}}
            operation["responses"][str(status)] = {"description": DESCRIPTIONS[status], "content": content}
    operation["responses"] = dict(sorted(operation["responses"].items()))
    if body := _body(handler):
        schema = {"schema": {"$ref": REFERENCE.format(name=body[0].__name__)}}
        required = not handler.opt.get("optional_body")
        operation["requestBody"] = {"required": required, "content": dict.fromkeys(body[1], schema)}
    operation["security"] = security(method, path)
    if handler.opt.get("conditional"):
        operation.setdefault("parameters", []).extend(CONDITIONS)


def document(app: Litestar) -> dict[str, Any]:
    """Return the document that an application serves."""
    config = app.openapi_config
    assert config is not None
    plugin = next(plugin for plugin in config.render_plugins if isinstance(plugin, DocumentPlugin))
    return plugin.whole(app, app.openapi_schema.to_schema())


def config(targets: Mapping[str, type[msgspec.Struct]], kinds: Collection[Kind]) -> OpenAPIConfig:
    """Return the configuration of the document at /openapi.json. `targets`, `kinds`: as of DocumentPlugin."""
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
        render_plugins=[DocumentPlugin(targets, kinds)],
    )


def _header(name: str, what: str) -> SecurityScheme:
    return SecurityScheme(type="apiKey", security_scheme_in="header", name=name, description=what)


@get("/docs", include_in_schema=False, media_type=MediaType.HTML)
async def get_docs() -> Response[str]:
    """Return the page that shows the document. It loads nothing from other hosts and runs its own script alone."""
    return Response(PAGE, headers={"Content-Security-Policy": POLICY})


assets = static_files("/docs/assets", ASSETS, ("swagger-ui-bundle.js", "swagger-ui.css"))
