"""Waiting for the end of a task, by long polls."""

import time

import msgspec

from longshore.client.asynchronous.concurrency import sleep
from longshore.client.asynchronous.transport import AsyncTransport
from longshore.client.errors import LostError, NotSentError, ProblemError, TaskFailedError
from longshore.client.model import Delivery, Progress, TaskData
from longshore.client.requests import Answer, Request
from longshore.client.retry import RetryBudget
from longshore.client.wait_state import MAX_LOG_ENTRIES, WaitOptions, WaitState, newest_deliveries


async def until_ended(transport: AsyncTransport, id: int, options: WaitOptions) -> TaskData:
    """Return the task once it is DONE and no other run is queued. Raises TaskFailedError and WaitTimeoutError."""
    state = WaitState(id, options)
    on_progress = options.on_progress
    while True:
        began = time.monotonic()
        is_changed = state.read(await _send(transport, state, state.poll()))
        if on_progress is not None:
            answer = await _send(transport, state, Request(url=f"/tasks/{id}/progress"))
            if answer.status == 403:  # the credential may wait for the task, but not see how many rows it reads
                on_progress = None
            else:
                on_progress(answer.expect(Progress))
        if is_changed:
            state.report_entries()
        task = state.task
        if task is None:
            continue
        if state.is_over and (
            options.delivering is None or await _has_delivered(transport, state, task, options.delivering)
        ):
            if task.state.code != "DONE":
                raise TaskFailedError(await _with_newest_logs(transport, id))
            return task
        state.check_deadline(task)
        if (seconds := state.pause_seconds(began)) > 0:
            await sleep(seconds)


async def _send(transport: AsyncTransport, state: WaitState, request: Request) -> Answer:
    """Send a request, and retry it no longer than the wait may last."""
    budget = RetryBudget(transport.connection.retry_for, state.deadline)
    try:
        return await transport.send(msgspec.structs.replace(request, deadline=state.deadline), budget=budget)
    except (NotSentError, LostError, ProblemError) as error:
        if state.task is not None and budget.is_past_deadline:
            raise state.timeout_error(error) from error
        raise


async def _has_delivered(transport: AsyncTransport, state: WaitState, task: TaskData, run: int) -> bool:
    """Return whether the deliveries of a run have ended. Raises TaskFailedError if one has failed."""
    request = Request(url=f"/tasks/{task.id}/runs/{run}/deliveries", params={"limit": 100})
    newest = newest_deliveries((await _send(transport, state, request)).expect(list[Delivery]))
    if any(delivery.state == "pending" for delivery in newest):
        return False
    failed = next((each for each in newest if each.state != "delivered"), None)
    if failed is not None:
        newest_task = await _with_newest_logs(transport, task.id)
        raise TaskFailedError(newest_task, f"delivery to {failed.destination} {failed.state}: {failed.error or ''}")
    # The state that the end of the last delivery wrote may be newer than the one that was polled.
    refreshed = (await _send(transport, state, Request(url=f"/tasks/{task.id}"))).expect(TaskData)
    return refreshed.state.code == task.state.code


async def _with_newest_logs(transport: AsyncTransport, id: int) -> TaskData:
    """Return the task with its newest log entries, oldest first; a task by itself has its oldest ones."""
    request = Request(url=f"/tasks/{id}", params={"log_limit": MAX_LOG_ENTRIES, "log_order": "desc"})
    task = (await transport.send(request)).expect(TaskData)
    return msgspec.structs.replace(task, logs=task.logs[::-1])
