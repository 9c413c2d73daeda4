# Made of ../asynchronous/webhooks.py by tools/blocking_client.py: change that file, then run `make format`.
"""`client.webhooks`: addresses that get a message when a task or a delivery has ended."""

import builtins
from collections.abc import Iterator, Sequence

from longshore.client.api_types import WebhookEvent
from longshore.client.blocking.resource import Resource, first_entries
from longshore.client.requests import Request, idempotency_header, path_step, without_none
from longshore.client.webhooks import NewSecret, NewWebhook, Webhook, WebhookDelivery


class Webhooks(Resource):
    """The operations of `client.webhooks`: addresses that get a message when a task or a delivery has ended."""

    def create(self, url: str, events: Sequence[WebhookEvent] | None = None) -> NewWebhook:
        """Make a webhook; the answer has the secret that its messages are signed with, this once.

        `events`: by default `task.done` and `task.error`. Raises BadRequestError and ConflictError.
        """
        body = {"chain": self._transport.connection.chain, "url": url, **without_none({"events": events})}
        return self._post("/webhooks", NewWebhook, body, idempotency_header())

    def list(self, limit: int | None = 25, offset: int = 0) -> builtins.list[Webhook]:
        """Return the chain's webhooks, newest first. `limit`: None for all of them."""
        return first_entries(self.iterate(offset), limit)

    def iterate(self, offset: int = 0) -> Iterator[Webhook]:
        """Yield the chain's webhooks, newest first; they are read as they are needed."""
        for found in self._pages("/webhooks", builtins.list[Webhook], lambda one: one.id, offset):
            yield found

    def delete(self, id: str) -> None:
        """Delete a webhook, with what was still to be delivered to it. Raises NotFoundError."""
        self._delete(f"/webhooks/{path_step(id)}")

    def enable(self, id: str) -> Webhook:
        """Send messages again to a webhook that was disabled. Raises NotFoundError."""
        return self._post(f"/webhooks/{path_step(id)}/enable", Webhook)

    def new_secret(self, id: str) -> NewSecret:
        """Make a new secret; the one before signs, too, for a day. Raises NotFoundError and ConflictError.

        It is not sent again after its answer was lost, as each request makes a secret: LostError.
        """
        request = Request(method="POST", url=f"/webhooks/{path_step(id)}/secret")
        return (self._transport.send(request)).expect(NewSecret)

    def deliveries(self, id: str, limit: int | None = 25) -> builtins.list[WebhookDelivery]:
        """Return what was sent and is to be sent to a webhook, newest first. `limit`: None for all of it."""
        url = f"/webhooks/{path_step(id)}/deliveries"
        return first_entries(self._pages(url, builtins.list[WebhookDelivery], lambda one: one.id), limit)

    def redeliver(self, id: str, delivery: str) -> WebhookDelivery:
        """Send a delivery again, whatever its state. Raises NotFoundError and ConflictError."""
        url = f"/webhooks/{path_step(id)}/deliveries/{path_step(delivery)}/redeliver"
        return self._post(url, WebhookDelivery)
