"""The events of a task, as the service sends them."""

from collections.abc import AsyncIterator

from longshore.client.asynchronous.concurrency import sleep
from longshore.client.asynchronous.transport import AsyncTransport
from longshore.client.errors import LostError, NoAnswerError
from longshore.client.event_stream import TaskEvent, task_event
from longshore.client.requests import Request
from longshore.client.retry import MAX_PAUSE_SECONDS, TRANSIENT_STATUSES, Retries


async def events_of(transport: AsyncTransport, id: int, last_id: str) -> AsyncIterator[TaskEvent]:
    """Yield the events of a task behind the one with an id; connect again where a stream ends before its end."""
    budget = transport.budget()
    reconnect_seconds = 0.0
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        request = Request(url=f"/tasks/{id}/events", headers=headers)
        retries = Retries(request, budget, is_idempotent=True)
        try:
            async with transport.events(request) as (answer, events):
                if answer.status in TRANSIENT_STATUSES:
                    pause = retries.pause_after_answer(answer) or 0.0
                else:
                    answer.check()
                    async for received in events:
                        budget.reset()
                        if received.retry is not None:
                            reconnect_seconds = min(received.retry / 1000, MAX_PAUSE_SECONDS)
                        event = task_event(received)
                        if event is None:
                            continue
                        last_id = event.id or last_id
                        yield event
                        if event.kind == "end":
                            return
                    raise LostError("the stream of events ended")
        except NoAnswerError as error:
            pause = max(retries.pause_after_error(error), reconnect_seconds)
        await sleep(pause)
