# Made of ../asynchronous/destinations.py by tools/blocking_client.py: change that file, then run `make format`.
"""`client.destinations`: places of the chain's own for results."""

import builtins
from collections.abc import Iterator, Mapping
from typing import Any

from longshore.client.blocking.resource import Resource, first_entries
from longshore.client.destinations import Destination, DestinationKind, DestinationTest
from longshore.client.requests import Request, idempotency_header, path_step, without_none

TEST_SECONDS = 60.0  # that a test may take beyond the client's own timeout


class Destinations(Resource):
    """The operations of `client.destinations`. All but `get`, `list`, `iterate` and `kinds` need an admin's token."""

    def create(self, name: str, kind: str, settings: Mapping[str, Any], secret: Mapping[str, Any]) -> Destination:
        """Store a destination, which tasks name in `target.deliver`. Raises BadRequestError and ConflictError."""
        body = {"name": name, "kind": kind, "settings": settings, "secret": secret}
        return self._post("/destinations", Destination, body, idempotency_header())

    def test(self, id: str) -> DestinationTest:
        """Test a destination with what is stored. Raises NotFoundError."""
        return self._test(f"/destinations/{path_step(id)}/test", None)

    def test_new(self, kind: str, settings: Mapping[str, Any], secret: Mapping[str, Any]) -> DestinationTest:
        """Test settings and secret of a kind before they are stored. Raises BadRequestError."""
        body = {"name": "new", "kind": kind, "settings": settings, "secret": secret}
        return self._test("/destinations/test", body)

    def get(self, id: str) -> Destination:
        """Return one destination. Raises NotFoundError."""
        return self._get(f"/destinations/{path_step(id)}", Destination)

    def list(self, limit: int | None = 25, offset: int = 0) -> builtins.list[Destination]:
        """Return the chain's destinations, newest first. `limit`: None for all of them."""
        return first_entries(self.iterate(offset), limit)

    def iterate(self, offset: int = 0) -> Iterator[Destination]:
        """Yield the chain's destinations, newest first; they are read as they are needed."""
        for found in self._pages("/destinations", builtins.list[Destination], lambda one: one.id, offset):
            yield found

    def change(
        self,
        id: str,
        *,
        settings: Mapping[str, Any] | None = None,
        secret: Mapping[str, Any] | None = None,
        merge: bool = False,
    ) -> Destination:
        """Replace settings, secret or both; None leaves them. Raises NotFoundError and BadRequestError.

        `merge`: change the named settings alone; None as a value removes one.
        A change of where or as whom to connect needs the secret again.
        """
        body = without_none({"settings": settings, "secret": secret})
        headers = {"Content-Type": "application/merge-patch+json"} if merge else {}
        request = Request(method="PATCH", url=f"/destinations/{path_step(id)}", headers=headers, body=body)
        return (self._transport.send(request, is_idempotent=True)).expect(Destination)

    def delete(self, id: str) -> None:
        """Delete a destination. Raises NotFoundError, and ConflictError while a task needs it."""
        self._delete(f"/destinations/{path_step(id)}")

    def kinds(self) -> builtins.list[DestinationKind]:
        """Return the kinds of destinations that the service knows."""
        return self._get("/destination_kinds", builtins.list[DestinationKind])

    def _test(self, url: str, body: Mapping[str, Any] | None) -> DestinationTest:
        request = Request(method="POST", url=url, body=body, extra_seconds=TEST_SECONDS)
        return (self._transport.send(request, is_idempotent=True)).expect(DestinationTest)
