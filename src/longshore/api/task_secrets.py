"""Secrets in the targets of tasks: kept by a PATCH that sends null, and hidden from what is stored of a request."""

from collections.abc import Mapping
from typing import Any

import msgspec

from longshore.actions import Action
from longshore.actions.secret_fields import merged
from longshore.api.bodies import stored_members
from longshore.api.idempotency_key import CANONICAL
from longshore.api.service import Service
from longshore.database.connect import Connection
from longshore.tasks import task_secrets
from longshore.tasks.model import TaskId
from longshore.tasks.requests import EditableTask, NewTask
from longshore.tasks.task_secrets import Secrets
from longshore.validation import ValidationError, Violation


def with_secret_digests(service: Service, body: Any) -> list[Any]:
    """Return the body of a new task with digests in place of its secrets, which only the vault can compute.

    Where it has secrets, return it with the digests under each known secret of the vault, newest first. Raises
    VaultError.
    """
    target: Any = body.get("target") if isinstance(body, dict) else None
    fields = [name for name in _fields(service.actions, target) if name in target]
    digests = [service.vault.digests(CANONICAL.encode(target[name])) for name in fields]
    of_secrets = [dict(zip(fields, each, strict=True)) for each in zip(*digests, strict=True)]
    return [{**body, "target": {**target, **each}} for each in of_secrets] or [body]


def with_kept_nulls(actions: Mapping[str, Action], stored: Any, patch: Any, value: Any) -> Any:
    """Return a task that a merge patch has changed, where null in a secret field keeps the value that is stored.

    `stored`, `patch`, `value`: the target before, of the patch, and after it. By RFC 7396 null would remove it.
    """
    if not isinstance(patch, dict) or not isinstance(value, dict):
        return value
    given = {name: patch[name] for name in _fields(actions, value) if isinstance(patch.get(name), dict)}
    return value | {name: (stored.get(name) or {}) | part for name, part in given.items()}


async def read_secrets(
    service: Service, connection: Connection, new: NewTask, task: TaskId | None = None, old: EditableTask | None = None
) -> Secrets | None:
    """Return the secrets to store for a task; None where those that are stored stay.

    `task`, `old`: the task that `new` changes. Raises ValidationError and VaultError.
    """
    before = {} if old is None else stored_members(old.target)
    same_action = before.get("action") == new.action
    fields = _fields(service.actions, before) if same_action else ()
    names = {name: set(before[name]) for name in fields if before.get(name)}
    asked = {name: set(values) for name, values in new.secrets.items()}
    moved = False
    if old is not None and names and asked:
        action = service.actions[new.action]
        moved = _sends_to(action, old.target) != _sends_to(action, new.target)
    keeps = all(value is None for values in new.secrets.values() for value in values.values())
    if keeps and not moved and asked == names and (old is None or same_action):
        return None
    stored: Secrets = {}
    if task is not None and names:
        stored = await task_secrets.load(connection, service.vault, new.chain, task)
    secrets, violations = merged(new.secrets, stored, moved=moved)
    if violations:
        raise ValidationError([Violation(each.detail, f"/target{each.pointer}") for each in violations])
    return secrets


def _sends_to(action: Action, target: str) -> str:
    """Return where a stored target sends its secrets; nowhere where this version cannot read it."""
    try:
        return action.sends_to(msgspec.json.decode(target, type=action.target))
    except msgspec.MsgspecError:
        return ""


def _fields(actions: Mapping[str, Action], target: Any) -> tuple[str, ...]:
    """Return the names of a target's fields whose values are secrets."""
    name = target.get("action") if isinstance(target, dict) else None
    action = actions.get(name) if isinstance(name, str) else None
    return () if action is None else action.secret_fields
