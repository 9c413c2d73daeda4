"""Webhooks and their deliveries, as structs."""

from datetime import datetime

import msgspec


class Webhook(msgspec.Struct, frozen=True):
    """An address that gets a message when a task or a delivery has ended."""

    id: str
    url: str
    events: list[str]
    created: datetime
    created_by: str | None = None
    disabled: datetime | None = None
    """Since when nothing is sent, because the receiver answered 410."""
    disabled_reason: str | None = None


class NewWebhook(msgspec.Struct, frozen=True):
    """A webhook that was just made, with its secret, which cannot be read again."""

    id: str
    url: str
    events: list[str]
    created: datetime
    secret: str
    created_by: str | None = None

    def __repr__(self) -> str:
        return f"<NewWebhook {self.id} {self.url}>"


class NewSecret(msgspec.Struct, frozen=True):
    """A new secret of a webhook, which cannot be read again."""

    id: str
    secret: str
    previous_until: datetime
    """Until when the secret before signs, too."""

    def __repr__(self) -> str:
        return f"<NewSecret of webhook {self.id}>"


class WebhookDelivery(msgspec.Struct, frozen=True):
    """A message to a webhook."""

    id: str
    event: str
    task: int
    revision: int
    state: str
    """`pending`, `delivered`, `failed`, or one that a newer service adds."""
    attempts: int
    created: datetime
    status: int | None = None
    """The status of the last answer."""
    error: str | None = None
    attempted: datetime | None = None
    next: datetime | None = None
