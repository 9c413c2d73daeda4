"""The names of operations in the OpenAPI document, which programs are generated from: ids, tags and examples."""

import json
import re
from functools import cache
from importlib import resources
from typing import Any

from litestar.handlers import HTTPRouteHandler

EXAMPLES = "examples"

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
    "audit": "Who changed or read what.",
    "service": "The service itself: health, and the keys that it signs with.",
}
"""The groups of operations, in the order in which they are shown."""


def operation_id(handler: HTTPRouteHandler) -> str:
    """Return the id of an operation: the name of its function, as `createTask`, which generators make names of."""
    first, *others = handler.fn.__name__.split("_")
    return "".join([first, *map(str.capitalize, others)])


def summary(description: str) -> str:
    """Return the first sentence of a description, without its end."""
    return re.split(r"[.:;](?:\s|$)", description, maxsplit=1)[0]


def examples(operation: str) -> dict[str, Any]:
    """Return the examples of an operation: the `body` of a request and the `answer` to it, where it has them."""
    found: dict[str, Any] = _all_examples().get(operation, {})
    return found


@cache
def _all_examples() -> dict[str, dict[str, Any]]:
    folder = resources.files("longshore.api") / EXAMPLES
    files = [each for each in folder.iterdir() if each.name.endswith(".json")]
    return {name: one for file in files for name, one in json.loads(file.read_text("utf-8")).items()}
