# Made of ../asynchronous/indexes.py by tools/blocking_client.py: change that file, then run `make format`.
"""`client.indexes`: the export indexes."""

import builtins

from longshore.client.blocking.resource import Resource
from longshore.client.model import Index
from longshore.client.requests import path_step


class Indexes(Resource):
    """The operations of `client.indexes`."""

    def get(self, name: str) -> Index:
        """Return one export index with its fields. Raises NotFoundError."""
        return self._get(f"/indexes/{path_step(name)}", Index)

    def list(self) -> builtins.list[Index]:
        """Return all export indexes."""
        return self._get("/indexes", builtins.list[Index])
