# Made of ../asynchronous/segments.py by tools/blocking_client.py: change that file, then run `make format`.
"""`client.segments`: stored filters of exports."""

import builtins
from collections.abc import Iterator, Sequence
from typing import Any

from longshore.client.api_types import Segment
from longshore.client.blocking.resource import Resource, first_entries
from longshore.client.model import Preview, StoredSegment
from longshore.client.requests import Request, idempotency_header, path_step
from longshore.client.segment import Rules


class Segments(Resource):
    """The operations of `client.segments`."""

    def create(self, name: str, index: str, where: Rules | Segment) -> StoredSegment:
        """Store a segment; `where` of an export takes its id."""
        body = self._body(name, index, where)
        return self._post("/segments", StoredSegment, body, idempotency_header())

    def replace(self, id: str, name: str, index: str, where: Rules | Segment) -> StoredSegment:
        """Replace a stored segment; its index stays the same. Raises NotFoundError."""
        body = self._body(name, index, where)
        request = Request(method="PUT", url=f"/segments/{path_step(id)}", body=body)
        return (self._transport.send(request)).expect(StoredSegment)

    def get(self, id: str) -> StoredSegment:
        """Return one stored segment. Raises NotFoundError."""
        return self._get(f"/segments/{path_step(id)}", StoredSegment)

    def list(self, limit: int | None = 25, offset: int = 0) -> builtins.list[StoredSegment]:
        """Return the chain's stored segments, newest first. `limit`: None for all of them."""
        return first_entries(self.iterate(offset), limit)

    def iterate(self, offset: int = 0) -> Iterator[StoredSegment]:
        """Yield the chain's stored segments, newest first; they are read as they are needed."""
        for found in self._pages("/segments", builtins.list[StoredSegment], lambda one: one.id, offset):
            yield found

    def delete(self, id: str) -> None:
        """Delete a stored segment. Raises NotFoundError."""
        self._delete(f"/segments/{path_step(id)}")

    def preview(self, index: str, where: Rules | Segment, fields: Sequence[str] | None = None) -> Preview:
        """Return what an export would give now: the number of rows, the first ten of them, size and time."""
        body: dict[str, Any] = {"segment": self._segment(index, where)}
        if fields is not None:
            body["fields"] = fields
        return self._post("/segments/preview", Preview, body)

    def _body(self, name: str, index: str, where: Rules | Segment) -> dict[str, Any]:
        chain = self._transport.connection.chain
        return {"chain": chain, "name": name, "segment": self._segment(index, where)}
