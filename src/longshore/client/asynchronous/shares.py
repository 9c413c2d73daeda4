"""`client.shares`: results that other programs read as tables."""

import builtins

from longshore.client.asynchronous.resource import AsyncResource
from longshore.client.requests import Request, path_step
from longshore.client.shares import SharedTable, SharedTables, ShareProfile


class AsyncShares(AsyncResource):
    """The operations of `client.shares`."""

    async def list(self) -> builtins.list[SharedTable]:
        """Return the chain's tables that the token may read."""
        found: builtins.list[SharedTable] = []
        url = f"/delta-sharing/shares/{self._transport.connection.chain}/all-tables"
        page = await self._get(url, SharedTables)
        while page.next_page_token:
            found += page.items
            page = await self._get(url, SharedTables, pageToken=page.next_page_token)
        return found + page.items

    async def profile(self) -> ShareProfile:
        """Return the profile file with the client's own token."""
        return await self._get("/delta-sharing/profile", ShareProfile)

    async def revoke(self, token: str) -> None:
        """Revoke the token of a profile file: with the token itself, or as its user. `token`: its id."""
        request = Request(
            method="DELETE",
            url=f"/delta-sharing/profiles/{path_step(token)}",
            ends_own_token=self._transport.connection.token.partition(":")[0] == token,
        )
        (await self._transport.send(request)).check()
