# Made of ../asynchronous/shares.py by tools/blocking_client.py: change that file, then run `make format`.
"""`client.shares`: results that other programs read as tables."""

import builtins

from longshore.client.blocking.resource import Resource
from longshore.client.requests import Request, path_step
from longshore.client.shares import SharedTable, SharedTables, ShareProfile


class Shares(Resource):
    """The operations of `client.shares`."""

    def list(self) -> builtins.list[SharedTable]:
        """Return the chain's tables that the token may read."""
        found: builtins.list[SharedTable] = []
        url = f"/delta-sharing/shares/{self._transport.connection.chain}/all-tables"
        page = self._get(url, SharedTables)
        while page.next_page_token:
            found += page.items
            page = self._get(url, SharedTables, pageToken=page.next_page_token)
        return found + page.items

    def profile(self) -> ShareProfile:
        """Return the profile file with the client's own token."""
        return self._get("/delta-sharing/profile", ShareProfile)

    def revoke(self, token: str) -> None:
        """Revoke the token of a profile file: with the token itself, or as its user. `token`: its id."""
        request = Request(
            method="DELETE",
            url=f"/delta-sharing/profiles/{path_step(token)}",
            ends_own_token=self._transport.connection.token.partition(":")[0] == token,
        )
        (self._transport.send(request)).check()
