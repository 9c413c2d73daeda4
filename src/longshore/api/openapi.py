"""The OpenAPI document, completed from the signatures of endpoints and the table of routes."""

import json
import re
from collections.abc import Collection, Mapping
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.routes import HTTPRoute

from longshore import __version__
from longshore.api.json_schemas import add_types, complete_schema, make_portable, structs_in
from longshore.api.new_task import Trigger
from longshore.api.openapi_responses import DESCRIPTIONS
from longshore.api.problems import MEDIA_TYPE, Problem
from longshore.api.routes import NEEDED, NoLevel, security
from longshore.api.service import AnyRequest
from longshore.api.sharing_errors import SharingError, is_sharing
from longshore.destinations.kind import Kind
from longshore.exports.segments.rules import Segment

TAGS = {
    "tasks": "Create tasks, follow them, change them and end them.",
    "schedules": "Pause a schedule, resume it, and run its past times.",
    "runs": "The runs of a task: results, manifests, files, download addresses and deliveries.",
    "indexes": "The data sets that can be exported.",
    "segments": "Stored filters, and previews of filters.",
    "destinations": "A chain's own places for results.",
    "sharing": "Results as tables, by the Delta Sharing protocol.",
    "webhooks": "Addresses that the service calls when a run or a delivery has ended.",
    "sessions": "Signing in, sessions, and the password.",
    "users": "The users who may sign in for a chain.",
    "service_clients": "Other systems and their access tokens.",
    "audit": "The changes and downloads of a chain, with their actors.",
    "service": "The service itself: health, and the keys that it signs with.",
}
"""The groups of operations, in the order in which they are shown."""

REFERENCE = "#/components/schemas/{name}"

# A list may be empty and have empty elements (RFC 9110, section 5.6.1.2).
ETAGS = {"type": "string", "pattern": r'^[ \t]*(\*|((W/)?"[!#-~]*")?[ \t]*(,[ \t]*((W/)?"[!#-~]*")?[ \t]*)*)[ \t]*$'}
CONDITIONS = [
    {"name": name, "in": "header", "required": False, "description": f"{what}, or `*`; else 412.", "schema": ETAGS}
    for name, what in (
        ("If-Match", "`ETag`s of which the resource must have one"),
        ("If-None-Match", "`ETag`s of which the resource must have none"),
    )
]
COMMON = (400, 401, 403, 415, 429, 431, 503)
"""Statuses of the problems that every endpoint may answer, except those that machines watch."""

SAFE = ("GET", "HEAD")
ANSWERS = {
    200: "The answer.",
    201: "Created. `Location` is its address.",
    202: "Accepted.",
    204: "Done. The answer has no content.",
}
"""The descriptions of answers that an endpoint does not describe itself."""


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
    """Return the statuses of the problems that an endpoint may answer, derived from its signature and path."""
    statuses = set(COMMON)
    if "{" in path:
        statuses |= {404}
    if _body(handler) or method == "POST":  # the guard reads the body of every POST
        statuses |= {408, 413}
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
        self._rendered: bytes | None = None

    def render(self, request: AnyRequest, _: dict[str, Any]) -> bytes:
        return self.rendered(request.app)

    def rendered(self, app: Litestar) -> bytes:
        """Return the document as JSON. It is made once, as that takes 0.2 s."""
        if self._rendered is None:
            self._rendered = msgspec.json.encode(self._whole(app))
        return self._rendered

    def _whole(self, app: Litestar) -> dict[str, Any]:
        """Return the document with bodies, answers, problems, conditions and the levels that endpoints need."""
        openapi_schema = app.openapi_schema.to_schema()
        bodies = set[type[msgspec.Struct]]()
        answers = set[type[msgspec.Struct]]()
        for route in app.routes:
            for method, operation in openapi_schema["paths"].get(route.path_format, {}).items():
                assert isinstance(route, HTTPRoute)
                handler, _ = route.route_handler_map[method.upper()]
                _describe(operation, handler, method.upper(), route.path_format)
                if body := _body(handler):
                    bodies.add(body[0])
                kinds = [spec.data_container for spec in (handler.responses or {}).values()]
                answers |= structs_in([handler.parsed_fn_signature.return_type.annotation, *kinds])
        openapi_schema["components"]["schemas"].update(self._schemas(bodies, answers))
        make_portable(openapi_schema)
        return openapi_schema

    def _schemas(self, bodies: set[type[msgspec.Struct]], answers: set[type[msgspec.Struct]]) -> dict[str, Any]:
        known: set[type[msgspec.Struct]] = bodies | set(self._targets.values()) | {Segment}
        kinds = sorted(known, key=lambda kind: kind.__name__)
        settings, secrets = [kind.settings for kind in self._kinds], [kind.secret for kind in self._kinds]
        requests = structs_in([*settings, *secrets, *kinds])
        answers = answers | {SharingError}
        only_answers = sorted(answers - requests, key=lambda kind: kind.__name__)
        found, schemas = msgspec.json.schema_components(
            [*settings, *secrets, *kinds, *only_answers], ref_template=REFERENCE
        )
        for name, first in (("settings", 0), ("secret", len(settings))) if settings else ():
            schemas["DestinationBody"]["properties"][name]["anyOf"] = list(found[first : first + len(settings)])
        for action, target in self._targets.items():
            schemas[target.__name__]["properties"]["action"] = {"const": action}
        any_target = [{"$ref": REFERENCE.format(name=target.__name__)} for target in self._targets.values()]
        for name in ("NewTaskBody", "TaskChange", "Task"):
            schemas[name]["properties"]["target"] = {"oneOf": any_target}
        schemas["Task"]["properties"]["trigger"] = {"$ref": REFERENCE.format(name=Trigger.__name__)}
        segment = {"$ref": REFERENCE.format(name=Segment.__name__)}
        by_index = {"type": "object", "additionalProperties": segment}
        schemas["Trigger"]["properties"]["segment"] = {"anyOf": [segment, by_index, {"type": "null"}]}
        for kind in requests | answers:
            complete_schema(schemas[kind.__name__], kind, is_answer=kind not in requests)
        for schema in schemas.values():
            add_types(schema)
        schemas["LogEntry"]["required"] = ["msg", "time"]
        schemas[Problem.__name__]["examples"] = [_examples()["problem"]]
        return schemas


def _describe(operation: dict[str, Any], handler: HTTPRouteHandler, method: str, path: str) -> None:
    """Add to an operation of the document what the endpoint's signature and the table of routes say."""
    first, *others = handler.fn.__name__.split("_")
    name = operation["operationId"] = "".join([first, *map(str.capitalize, others)])
    operation["summary"] = re.split(r"[.:;](?:\s|$)", operation["description"], maxsplit=1)[0]  # its first sentence
    if NEEDED[method, path] is not NoLevel.PROBE:
        media_type, kind = ("application/json", SharingError) if is_sharing(path) else (MEDIA_TYPE, Problem)
        for status in _statuses(handler, method, path):
            content = {media_type: {"schema": {"$ref": REFERENCE.format(name=kind.__name__)}}}
            operation["responses"][str(status)] = {"description": DESCRIPTIONS[status], "content": content}
    operation["responses"] = dict(sorted(operation["responses"].items()))
    for status, answer in operation["responses"].items():
        if answer["description"] == HTTPStatus(int(status)).description:
            answer["description"] = ANSWERS[int(status)]
    if body := _body(handler):
        media = {"schema": {"$ref": REFERENCE.format(name=body[0].__name__)}, **_example(name, "body")}
        required = not handler.opt.get("optional_body")
        operation["requestBody"] = {"required": required, "content": dict.fromkeys(body[1], media)}
    operation["responses"].get("204", {}).pop("content", None)
    for answer in next(iter(operation["responses"].values())).get("content", {}).values():
        answer.update(_example(name, "answer"))
    operation["security"] = security(method, path)
    for parameter in operation.setdefault("parameters", []):
        _without_null(parameter)
    if handler.opt.get("conditional"):
        operation["parameters"].extend(CONDITIONS)


def _example(operation: str, part: str) -> dict[str, Any]:
    """Return the member `example` of a body, where the operation has one for this part: `body` or `answer`."""
    found = _examples().get(operation, {})
    return {"example": found[part]} if part in found else {}


@cache
def _examples() -> dict[str, dict[str, Any]]:
    """Return the examples of each operation: the `body` of a request and the `answer` to it, where it has them."""
    folder = resources.files("longshore.api") / "examples"
    files = [each for each in folder.iterdir() if each.name.endswith(".json")]
    return {name: one for file in files for name, one in json.loads(file.read_text("utf-8")).items()}


def _without_null(parameter: dict[str, Any]) -> None:
    """Take from an optional parameter that it may be null or empty: it may be left out."""
    schema = parameter["schema"]
    options = [option for option in schema.get("oneOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del schema["oneOf"]
        schema |= options[0]
    if schema.get("default", "") in (None, ""):
        schema.pop("default", None)


def document(app: Litestar) -> dict[str, Any]:
    """Return the document that an application serves."""
    config = app.openapi_config
    assert config is not None
    plugin = next(plugin for plugin in config.render_plugins if isinstance(plugin, DocumentPlugin))
    return msgspec.json.decode(plugin.rendered(app), type=dict[str, Any])


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
        tags=[Tag(name, about) for name, about in TAGS.items()],
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
