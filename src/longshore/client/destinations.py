"""The operations of a client on the chain's destinations, for both clients."""

import builtins
import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from longshore.client.model import Destination, DestinationKind, DestinationTest
from longshore.client.resources import Part, in_path
from longshore.client.retry import expect, send
from longshore.client.steps import Answer, Request, Steps
from longshore.client.task import TaskOperations
from longshore.client.transport import operation

K = TypeVar("K", bound=TaskOperations[Any])

TEST_SECONDS = 60.0  # that a test may take beyond the client's own timeout


class Destinations(Part[K]):
    """The operations of `client.destinations`. All but `get`, `list` and `kinds` need an admin's token."""

    @operation
    def create(
        self, name: str, kind: str, settings: Mapping[str, Any], secret: Mapping[str, Any]
    ) -> Steps[Destination]:
        """Store a destination, which tasks name in `target.deliver`. Raises BadRequestError and ConflictError."""
        body = {"name": name, "kind": kind, "settings": settings, "secret": secret}
        headers = {"Idempotency-Key": secrets.token_urlsafe(24)}
        request = Request(method="POST", url="/destinations", headers=headers, body=body)
        return expect((yield from self._send(request)), Destination)

    @operation
    def test(self, id: str) -> Steps[DestinationTest]:
        """Test a destination with what is stored. Raises NotFoundError."""
        request = Request(method="POST", url=f"/destinations/{in_path(id)}/test", timeout=TEST_SECONDS)
        return expect((yield from self._send(request)), DestinationTest)

    @operation
    def test_new(self, kind: str, settings: Mapping[str, Any], secret: Mapping[str, Any]) -> Steps[DestinationTest]:
        """Test settings and secret of a kind before they are stored. Raises BadRequestError."""
        body = {"name": "new", "kind": kind, "settings": settings, "secret": secret}
        request = Request(method="POST", url="/destinations/test", body=body, timeout=TEST_SECONDS)
        return expect((yield from self._send(request)), DestinationTest)

    @operation
    def get(self, id: str) -> Steps[Destination]:
        """Return one destination. Raises NotFoundError."""
        return expect((yield from self._get(f"/destinations/{in_path(id)}")), Destination)

    @operation
    def list(self, limit: int = 25, offset: int = 0) -> Steps[builtins.list[Destination]]:
        """Return the chain's destinations, newest first. `limit`: 1 to 100."""
        return expect((yield from self._get("/destinations", limit=limit, offset=offset)), list[Destination])

    @operation
    def change(
        self, id: str, *, settings: Mapping[str, Any] | None = None, secret: Mapping[str, Any] | None = None
    ) -> Steps[Destination]:
        """Replace settings, secret or both; None leaves them. Raises NotFoundError and BadRequestError.

        A change of where or as whom to connect needs the secret again.
        """
        parts = {"settings": settings, "secret": secret}
        body = {name: part for name, part in parts.items() if part is not None}
        request = Request(method="PATCH", url=f"/destinations/{in_path(id)}", body=body)
        return expect((yield from self._send(request)), Destination)

    @operation
    def delete(self, id: str) -> Steps[None]:
        """Delete a destination. Raises NotFoundError, and ConflictError while a task needs it."""
        request = Request(method="DELETE", url=f"/destinations/{in_path(id)}")
        answer = yield from send(request, self._known.budget())
        if answer.status >= 300:
            raise answer.error()

    @operation
    def kinds(self) -> Steps[builtins.list[DestinationKind]]:
        """Return the kinds of destinations that the service knows."""
        return expect((yield from self._get("/destination_kinds")), list[DestinationKind])

    def _send(self, request: Request) -> Steps[Answer]:
        return (yield from send(request, self._known.budget(), is_idempotent=True))
