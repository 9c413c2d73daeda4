"""The resource `webhooks`: addresses that receive a message when a task ends, and their deliveries."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, RawBody
from msgspec import Meta

from longshore import outbound
from longshore.access.tokens import Caller
from longshore.api.audited_changes import audited, audited_in
from longshore.api.bodies import read_json
from longshore.api.guard import actor, service_and_caller
from longshore.api.idempotency_key import REPLAYED, IdempotencyKey, claim_of
from longshore.api.ids import uuid_of
from longshore.api.openapi_responses import problems
from longshore.api.paging import Limit, Offset, page_response
from longshore.api.service import AnyRequest, Service
from longshore.api.visibility_checks import refuse_other_chain
from longshore.database.connect import Connection
from longshore.database.rows import Page
from longshore.tasks import idempotency
from longshore.tasks.idempotency import StoredAnswer
from longshore.validation import ValidationError, Violation, convert
from longshore.webhooks import stored
from longshore.webhooks.stored import USUAL_EVENTS, Event, NewSecret, NewWebhook, Webhook, WebhookDelivery, WebhookDraft


class WebhookBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /webhooks`."""

    chain: int
    url: Annotated[str, Meta(max_length=outbound.MAX_URL_CHARACTERS, extra_json_schema={"format": "uri"})]
    events: Annotated[list[Event], Meta(min_length=1)] | None = None
    """By default `task.done` and `task.error`."""


@post("/webhooks", responses=problems(404, 409))
async def create_webhook(
    request: AnyRequest, body: Annotated[RawBody, WebhookBody], idempotency_key: IdempotencyKey = None
) -> Response[NewWebhook]:
    """Create a webhook for the chain's tasks that end. Only this answer has the secret of its signatures."""
    service, caller = service_and_caller(request)
    value = read_json(request, body)
    claim = claim_of(request, idempotency_key, value)
    # The outcome of an earlier request does not depend on whether the body is still valid.
    if (before := await idempotency.find(service.pool, claim)) is not None:
        return await _created(service, caller, before, REPLAYED)
    new = _read(value, service.settings.outbound_networks_of(caller.chain))
    refuse_other_chain(caller, new.chain)
    events: list[str] = sorted(set(new.events or USUAL_EVENTS))

    async def make(connection: Connection) -> StoredAnswer:
        async with audited_in(connection, request, "webhook.create") as change:
            draft = WebhookDraft(new.url, events, actor(request).name)
            made = await stored.create(connection, service.vault, caller.chain, draft)
            change.object = f"webhook {made}"
        return StoredAnswer(None, made.bytes)  # without the secret, which only the webhook's row has

    kept, replayed = await idempotency.once(service.pool, claim, make)
    return await _created(service, caller, kept, REPLAYED if replayed else {})


async def _created(
    service: Service, caller: Caller, kept: StoredAnswer, headers: dict[str, str]
) -> Response[NewWebhook]:
    """Return the webhook that a request made, with its secret. Raises ProblemError where it or its secret is gone."""
    webhook = await stored.new_webhook(service.pool, service.vault, caller.chain, UUID(bytes=kept.answer))
    return Response(webhook, headers={**headers, "Location": f"/webhooks/{webhook.id}/deliveries"})


@get("/webhooks")
async def list_webhooks(request: AnyRequest, limit: Limit = 25, offset: Offset = 0) -> Response[list[Webhook]]:
    """Return the chain's webhooks, newest first, without secrets."""
    service, caller = service_and_caller(request)
    page = Page(limit, offset)
    return page_response(request, await stored.list_webhooks(service.pool, caller.chain, page), page)


@delete("/webhooks/{id:str}")
async def delete_webhook(request: AnyRequest, id: FromPath[str]) -> None:
    """Delete a webhook with its deliveries, pending ones included."""
    _, caller = service_and_caller(request)
    webhook = uuid_of(id, "webhook-not-found")
    async with audited(request, "webhook.delete", f"webhook {webhook}") as change:
        await stored.delete(change.connection, caller.chain, webhook)


@post("/webhooks/{id:str}/secret", opt={"without_key": True}, status_code=200, responses=problems(409))
async def rotate_webhook_secret(request: AnyRequest, id: FromPath[str]) -> NewSecret:
    """Give a webhook a new secret. For a day each message has a signature of the previous one, too."""
    service, caller = service_and_caller(request)
    webhook = uuid_of(id, "webhook-not-found")
    async with audited(request, "webhook.rotate", f"webhook {webhook}") as change:
        return await stored.rotate(change.connection, service.vault, caller.chain, webhook)


@post("/webhooks/{id:str}/enable", status_code=200)
async def enable_webhook(request: AnyRequest, id: FromPath[str]) -> Webhook:
    """Enable a disabled webhook. It receives messages from now on; `redeliver` sends those that failed."""
    _, caller = service_and_caller(request)
    webhook = uuid_of(id, "webhook-not-found")
    async with audited(request, "webhook.enable", f"webhook {webhook}") as change:
        return await stored.enable(change.connection, caller.chain, webhook)


@get("/webhooks/{id:str}/deliveries")
async def list_webhook_deliveries(
    request: AnyRequest, id: FromPath[str], limit: Limit = 25, offset: Offset = 0
) -> Response[list[WebhookDelivery]]:
    """Return the deliveries of a webhook, newest first. They are kept for 30 days."""
    service, caller = service_and_caller(request)
    webhook = uuid_of(id, "webhook-not-found")
    page = Page(limit, offset)
    return page_response(request, await stored.deliveries(service.pool, caller.chain, webhook, page), page)


@post(
    "/webhooks/{id:str}/deliveries/{delivery:str}/redeliver",
    opt={"without_key": True},
    status_code=202,
    responses=problems(409),
)
async def redeliver_webhook_delivery(
    request: AnyRequest, id: FromPath[str], delivery: FromPath[str]
) -> WebhookDelivery:
    """Send a delivery again, with the same id, whatever its state. A disabled webhook has to be enabled first."""
    _, caller = service_and_caller(request)
    webhook, wanted = uuid_of(id, "webhook-not-found"), uuid_of(delivery, "delivery-not-found")
    async with audited(request, "webhook.redeliver", f"webhook {webhook}", {"delivery": str(wanted)}) as change:
        return await stored.redeliver(change.connection, caller.chain, webhook, wanted)


def _read(value: Any, allow: tuple[outbound.Network, ...]) -> WebhookBody:
    violations: list[Violation] = []
    body = convert(WebhookBody, value, "", violations)
    if isinstance(value, dict):
        url = value.get("url")
        violation = (
            outbound.check_url(url, allow) if isinstance(url, str) and len(url) <= outbound.MAX_URL_CHARACTERS else None
        )
        if violation:
            violations.append(Violation(violation, "/url"))
    if violations or body is None:
        raise ValidationError(violations)
    return body
