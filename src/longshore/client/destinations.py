"""Destinations, their kinds and their tests, as structs."""

from datetime import datetime
from typing import Any

import msgspec


class Destination(msgspec.Struct, frozen=True):
    """A place of the chain's own for results. The service never gives its secret back."""

    id: str
    name: str
    kind: str
    settings: dict[str, Any]
    created: datetime
    modified: datetime
    created_by: str | None = None


class DestinationStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of the test of a destination."""

    step: str
    ok: bool
    detail: str = ""
    """The right or setting to change; empty where the step worked."""


class DestinationTest(msgspec.Struct, frozen=True):
    """The result of the test of a destination."""

    ok: bool
    steps: list[DestinationStep]


class DestinationKind(msgspec.Struct, frozen=True):
    """A kind of destination, with the JSON schemas of its settings and secret."""

    kind: str
    takes: str
    """`files` or `tables`."""
    settings: dict[str, Any]
    secret: dict[str, Any]
