"""Signed addresses of the files of a run: of a result, and of a page of many files, which counts as one link."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from litestar.params import QueryParameter

from longshore.access import audit
from longshore.access.tokens import Level
from longshore.api.audited_changes import audited
from longshore.api.guard import actor, service_and_caller
from longshore.api.paging import MAX_OFFSET
from longshore.api.service import AnyRequest, Service
from longshore.api.visibility_checks import refuse_hidden_run
from longshore.errors import ProblemError
from longshore.exports.rights import level_for
from longshore.results import links
from longshore.results.links import MAX_SECONDS, LinkLimits
from longshore.results.store import Store, StoreError
from longshore.tasks.model import StateCode, TaskId
from longshore.tasks.reads import Read
from longshore.tasks.result_queries import StoredResult
from longshore.validation import ValidationError, Violation

ExpiresIn = Annotated[int, QueryParameter(ge=1, le=MAX_SECONDS, description="Seconds for which the address is valid.")]
MaxUses = Annotated[
    int | None,
    QueryParameter(
        ge=1, le=MAX_OFFSET, description="Downloads that may begin with it; one taken up again counts anew."
    ),
]

DELTA_KERNEL_PARAMETER = "sp=r"
"""A query parameter for the Delta kernel, which takes an address of no store it knows for a path of its own disk.

It is one of Azure's addresses: `is_presigned` in
https://github.com/delta-io/delta-kernel-rs/blob/main/kernel/src/engine/default/mod.rs
"""


class RunFiles(msgspec.Struct, frozen=True):
    """A run whose files can be downloaded."""

    label: str
    """Its name in the audit log and in errors, such as `run 3 of task 12`."""
    task: TaskId
    run: int
    location: str
    reads: list[Read]


class UrlSigner(msgspec.Struct, frozen=True):
    """Signs the addresses of files of a run, all by one link."""

    expires: int
    """Of the addresses, in seconds since 1970."""
    sign: Callable[[Sequence[str]], list[str]]
    """Return the addresses of files at locations. Blocking; raises StoreError."""
    presigned: bool
    """Whether the store answers them, and not the service."""


def require_result(request: AnyRequest, label: str, found: StoredResult) -> RunFiles:
    """Return a run whose files the caller may download. Raises ForbiddenError, and ProblemError without a result."""
    service, caller = service_and_caller(request)
    refuse_hidden_run(caller, service.catalog, found.reads)
    if found.state != StateCode.DONE:
        subject = label[:1].upper() + label[1:]
        message = f"{subject} is {found.state}, and there is a result only when it is DONE."
        raise ProblemError("task-not-done", message)
    if found.action != "export" and not found.result:
        raise ProblemError("no-export", f"The action of {label} is {found.action!r}, which left no file.")
    if found.location is None or found.run is None:
        raise result_gone(label)
    return RunFiles(label, found.task, found.run, found.location, found.reads)


def result_gone(label: str) -> ProblemError:
    """Return the problem of a result that was removed."""
    return ProblemError("result-gone", f"The result of {label} has expired or was deleted.")


async def signed_url(request: AnyRequest, label: str, found: StoredResult, seconds: int, uses: int | None) -> str:
    """Return the signed address of a run's result. Raises ProblemError."""
    run = require_result(request, label, found)
    signer = await open_signer(request, run, seconds, uses)
    return (await asyncio.to_thread(signer.sign, [run.location]))[0]


async def open_signer(
    request: AnyRequest, run: RunFiles, seconds: int = MAX_SECONDS, uses: int | None = None
) -> UrlSigner:
    """Create the link that addresses of a run's files are signed by. Raises ProblemError where the result is gone."""
    service: Service = request.app.state.service
    limits = LinkLimits(seconds, uses, _level_of(service, run.reads))
    if service.store.presigns:
        return await _presigned(request, run, limits)
    if service.store.open_path(run.location) is None:
        raise result_gone(run.label)
    async with audited(request, "result.address", run.label) as change:
        link = await links.create(change.connection, run.task, run.run, actor(request), limits)
        change.details = {"link": str(link.id)}
    base = base_url(request)

    def sign(locations: Sequence[str]) -> list[str]:
        return [base + service.signer.sign(each, link) for each in locations]

    return UrlSigner(link.expires, sign, presigned=False)


def base_url(request: AnyRequest) -> str:
    """Return the address of the service as its clients know it, without a slash at the end."""
    service: Service = request.app.state.service
    return (service.settings.public_url or str(request.base_url)).rstrip("/")


async def _presigned(request: AnyRequest, run: RunFiles, limits: LinkLimits) -> UrlSigner:
    """Sign addresses that the store itself answers; they can neither be revoked nor have their uses counted."""
    if limits.uses is not None:
        raise ValidationError([Violation("is not supported where results are in a bucket", parameter="max_uses")])
    service: Service = request.app.state.service
    # The store does not check the credential, so the address expires with it.
    left = int(await links.seconds_left(service.pool, actor(request), service.sessions.lifetimes))
    seconds = max(1, min(limits.seconds, left))
    if not await asyncio.to_thread(service.store.exists, run.location):
        raise result_gone(run.label)
    signer = await asyncio.to_thread(presigned_signer, service.store, seconds)
    await audit.record(service.pool, actor(request), request.scope["user"].chain, "result.address", run.label)
    return signer


def presigned_signer(store: Store, seconds: int) -> UrlSigner:
    """Return the signer of addresses of a store that all end together, whenever they are signed.

    They end so many seconds from now, or earlier, with the service's credentials. Blocking. Raises StoreError.
    """
    end = min(time.time() + seconds, store.presigned_until())  # by the clock that the addresses are signed by

    def sign(locations: Sequence[str]) -> list[str]:
        left = math.ceil(end - time.time())
        if left < 1:
            raise StoreError("the time of the addresses was over before all were signed")
        return store.presigned_urls(locations, left)

    return UrlSigner(int(end), sign, presigned=True)


def _level_of(service: Service, reads: Sequence[Read]) -> str:
    """Return the level that a result needs: the highest of the indexes that its run has read, else `read`."""
    levels = (level_for(read, service.catalog) for read in reads)
    return max(levels, default=Level.READ).name.lower()
