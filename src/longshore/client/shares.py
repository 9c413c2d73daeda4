"""Tables that other programs read, as structs."""

from datetime import datetime

import msgspec


class SharedTable(msgspec.Struct, frozen=True):
    """A table: the newest result of a task with `share_as`."""

    share: str
    """The chain's number."""
    schema: str
    name: str

    @property
    def full_name(self) -> str:
        """The name that clients of the Delta Sharing protocol take, such as `1764.exports.ledger`."""
        return f"{self.share}.{self.schema}.{self.name}"


class ShareProfile(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A profile file of the Delta Sharing protocol; it has a secret."""

    share_credentials_version: int
    endpoint: str
    bearer_token: str
    expiration_time: datetime | None = None

    def __repr__(self) -> str:
        return f"<ShareProfile {self.endpoint}>"


class SharedTables(msgspec.Struct, frozen=True, rename="camel"):
    """A page of tables."""

    items: list[SharedTable] = []
    next_page_token: str = ""
