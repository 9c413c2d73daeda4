"""Changes of a task: edit, cancel, delete."""

import asyncio
from typing import Annotated, Any

import msgspec
import structlog
from litestar import Response, delete, patch, post
from litestar.params import RawBody
from msgspec import UNSET, UnsetType

from longshore.api.audited_changes import audited
from longshore.api.bodies import MERGE_PATCH, merge_patch, read_json, stored_members
from longshore.api.conditional import require_task_match, task_tag
from longshore.api.guard import actor, service_and_caller
from longshore.api.new_task import Trigger, read_new_task
from longshore.api.openapi_responses import problems
from longshore.api.service import AnyRequest
from longshore.api.task_secrets import read_secrets, with_kept_nulls
from longshore.api.tasks import Id, lock_to_change, task_id
from longshore.api.visibility_checks import changeable_task, refuse_hidden_task_body
from longshore.exports import schemas
from longshore.exports.target import ExportTarget
from longshore.exports.target.check import pinned_shapes
from longshore.results.store import StoreError
from longshore.tasks import backfills, cancellation, queries, quotas, requests, task_secrets
from longshore.tasks.model import Task, TaskId
from longshore.tasks.requests import ChangedMeanwhileError, EditableTask, NewTask
from longshore.tasks.schedule import same_times
from longshore.validation import ValidationError, Violation, convert, pointer, suggestion

log = structlog.get_logger()


class TaskChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `PATCH /tasks/{id}`. Each key replaces its field as a whole; fields without a key stay."""

    desc: str | UnsetType = UNSET
    target: Any = UNSET
    trigger: Trigger | UnsetType = UNSET
    debug: str | UnsetType = UNSET


@patch("/tasks/{id:str}", opt={"conditional": True}, responses=problems(409))
async def change_task(request: AnyRequest, id: Id, body: Annotated[RawBody, TaskChange, MERGE_PATCH]) -> Response[Task]:
    """Change a task that does not run. A trigger with other times is planned like that of a new task.

    While a run is being delivered, `desc`, `debug` and the target's `deliver` alone can be changed.

    A change to equal values changes nothing: the revision stays as it is.

    As `application/json`, each named key is replaced as a whole. As `application/merge-patch+json` (RFC 7396) objects
    are merged, and null takes a key away.
    """
    service_and_caller(request)
    task = task_id(id)
    patch = read_json(request, body)
    merges = request.content_type[0] == MERGE_PATCH
    violations = _merge_violations(patch) if merges else []
    if not merges:
        convert(TaskChange, patch, "", violations)
    if violations:
        raise ValidationError(violations)
    while True:
        try:
            found = await _change(request, task, patch, merges=merges)
            break
        except ChangedMeanwhileError:
            pass  # another change came first; this one is applied to its outcome, if that meets `If-Match`
    headers = {"ETag": task_tag(id, found.version)}
    return Response(found.task, headers=headers)


async def _change(request: AnyRequest, task: TaskId, patch: dict[str, Any], *, merges: bool) -> queries.PolledTask:
    service, caller = service_and_caller(request)
    chain = caller.chain
    async with audited(request, "task.change", f"task {task}") as audit:
        connection = audit.connection
        old = await changeable_task(service, caller, connection, task)
        require_task_match(request, task, old.revision)
        before = _definition(old)
        value: dict[str, Any] = {"chain": chain, "desc": old.desc, "debug": old.debug, **before}
        value = merge_patch(value, patch) if merges else value | patch
        if merges and "target" in value:
            given = patch.get("target")
            value["target"] = with_kept_nulls(service.actions, before["target"], given, value["target"])
        refuse_hidden_task_body(caller, service.catalog, value)
        new, target = await read_new_task(caller, service, connection, value)
        after = _definition(new)
        secrets = await read_secrets(service, connection, new, task, old)
        # Any trigger begins a cancelled schedule anew, an equal one included.
        replans = (old.schedule_ended and "trigger" in patch) or not same_times(new.trigger, old.trigger)
        by = actor(request).name
        why = f"changed by {by}: {', '.join(patch) or 'nothing'}"
        definer = by if {"target", "trigger"} & patch.keys() else None
        is_equal = before == after and (old.desc, old.debug) == (new.desc, new.debug)
        if not replans and definer in (None, old.defined_by) and secrets is None and is_equal:
            audit.happens = False
            return await queries.poll(connection, chain, task)
        used = await quotas.usage(connection, chain)
        but_deliver = [{**each, "target": {**each["target"], "deliver": None}} for each in (before, after)]
        only_deliver = not replans and but_deliver[0] == but_deliver[1]
        await requests.change(
            connection,
            task,
            old.revision,
            new,
            why,
            replans=replans,
            only_deliver=only_deliver,
            defined_by=definer,
        )
        await schemas.save(connection, chain, pinned_shapes(target, service.catalog))
        if secrets is not None:
            await task_secrets.save(connection, service.vault, chain, task, secrets)
        if replans or (isinstance(target, ExportTarget) and target.why_without_intervals is not None):
            await backfills.end(connection, chain, task, None, by)  # their times are of the schedule as it was
        await quotas.check_tasks(connection, chain, service.quotas, used)
        return await queries.poll(connection, chain, task)


def _definition(task: EditableTask | NewTask) -> dict[str, Any]:
    """Return target and trigger of a task as JSON values."""
    return {"trigger": stored_members(task.trigger), "target": stored_members(task.target)}


def _merge_violations(patch: Any) -> list[Violation]:
    """Return the violations of a merge patch of a task that show before it is merged."""
    if not isinstance(patch, dict):
        return [Violation("expected an object", "")]
    names = TaskChange.__struct_fields__
    violations: list[Violation] = []
    for key in patch:
        if key not in names:
            violations.append(Violation(f"unknown key{suggestion(key, names, violations)}", pointer("", key)))
    return violations


@post("/tasks/{id:str}/cancel", opt={"conditional": True}, status_code=200, responses=problems(409))
async def cancel_task(request: AnyRequest, id: Id) -> Task:
    """Cancel a task that waits or runs, and all its later runs.

    `execute` still runs it, once each time; only a `PATCH` of the trigger begins a schedule anew.
    """
    service, caller = service_and_caller(request)
    chain, task = caller.chain, task_id(id)
    async with audited(request, "task.cancel", f"task {task}") as change:
        await lock_to_change(request, change.connection, task)
        await cancellation.cancel(change.connection, chain, task, actor(request).name)
    return await queries.get(service.pool, chain, task)


@delete("/tasks/{id:str}", opt={"conditional": True}, responses=problems(409))
async def delete_task(request: AnyRequest, id: Id) -> None:
    """Delete a task that neither runs nor delivers, with its log, its runs and their results."""
    service, caller = service_and_caller(request)
    chain, task = caller.chain, task_id(id)
    async with audited(request, "task.delete", f"task {task}") as change:
        await lock_to_change(request, change.connection, task)
        await requests.delete(change.connection, chain, task)
    try:
        await asyncio.to_thread(service.store.remove_task, chain, task)
    except StoreError as error:
        log.warning("results of a deleted task are left to the cleanup", task=task, error=str(error))
