"""`client.indexes`: the export indexes."""

import builtins

from longshore.client.asynchronous.resource import AsyncResource
from longshore.client.model import Index
from longshore.client.requests import path_step


class AsyncIndexes(AsyncResource):
    """The operations of `client.indexes`."""

    async def get(self, name: str) -> Index:
        """Return one export index with its fields. Raises NotFoundError."""
        return await self._get(f"/indexes/{path_step(name)}", Index)

    async def list(self) -> builtins.list[Index]:
        """Return all export indexes."""
        return await self._get("/indexes", builtins.list[Index])
