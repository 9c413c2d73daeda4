"""The parameters that a request gives, against those that its endpoint has."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from litestar.params import QueryParameter

from longshore.api.service import AnyRequest
from longshore.validation import MAX_SUGGESTIONS, Violation, suggestion

DECIMAL = re.compile(r"0|-?[1-9][0-9]*")


def non_decimal_parameters(request: AnyRequest) -> list[Violation]:
    """Return a violation for each number in path or query that is not decimal digits, such as `1e1` and `1.0`."""
    given = dict(request.scope["path_params"])
    if request.scope["query_string"]:
        given |= request.query_params
    parameters = request.route_handler.parsed_fn_signature.parameters
    names = query_parameters(request.route_handler.fn)
    violations = []
    for name, value in given.items():
        argument = names.get(name, name)
        kinds = _kinds(parameters[argument].annotation) if argument in parameters else ()
        if int in kinds and value not in kinds and not DECIMAL.fullmatch(str(value)):
            words = "".join(f", or `{kind}`" for kind in kinds if isinstance(kind, str))
            expected = f"expected a number in decimal digits, without a leading zero{words}"
            violations.append(Violation(expected, parameter=name))
    return violations


@cache
def _kinds(annotation: Any) -> tuple[Any, ...]:
    """Return the types and the literal values that a parameter may have."""
    parts = (annotation, *get_args(annotation))
    return tuple(kind for part in parts for kind in (get_args(part) if get_origin(part) is Literal else (part,)))


@cache
def query_parameters(endpoint: Callable[..., Any]) -> dict[str, str]:
    """Return the arguments of an endpoint that are query parameters, by the names that clients use."""
    return {
        about.name or name: name
        for name, hint in get_type_hints(endpoint, include_extras=True).items()
        for about in getattr(hint, "__metadata__", ())
        if isinstance(about, QueryParameter)
    }


def unknown_parameters(request: AnyRequest) -> list[Violation]:
    """Return a violation for each query parameter that the endpoint does not have."""
    if not request.scope["query_string"]:
        return []
    known = query_parameters(request.route_handler.fn)
    unknown = list(dict.fromkeys(name for name in request.query_params if name not in known))[:MAX_SUGGESTIONS]
    return [Violation(f"unknown parameter{suggestion(name, known)}", parameter=name) for name in unknown]
