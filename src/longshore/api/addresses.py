"""Signed addresses of the files of a run: of a result, and of a page of many files, which counts as one link."""

import asyncio
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Annotated

import asyncpg
import msgspec
from litestar.params import QueryParameter

from longshore.access import audit
from longshore.access.tokens import Level
from longshore.api.audited import audited
from longshore.api.guard import actor, admitted
from longshore.api.paging import MAX_OFFSET
from longshore.api.service import AnyRequest, Service
from longshore.api.visibility_checks import refuse_hidden_run
from longshore.database.connect import Pool
from longshore.errors import NotFoundError, ProblemError
from longshore.exports.rights import level_for
from longshore.results import links
from longshore.results.links import MAX_SECONDS, Terms
from longshore.results.store import Store, StoreError
from longshore.tasks.model import Code, TaskId
from longshore.tasks.recorded_reads import Read, decoded
from longshore.validation import ValidationError, Violation

AT_LOCATION = """
select t.chain_id, r.task_id, r.run, r.result as name, r.rows, r.sha256
from longshore.runs r
join longshore.tasks t on t.id = r.task_id
where r.location = $1
"""

# $1: the folder of an attempt, $2: the path of one of its files. '0' is the character after '/'.
IN_FOLDER = """
select t.chain_id, r.task_id, r.run, regexp_replace(f.path, '^.*/', '') as name, f.rows, f.sha256
from longshore.runs r
join longshore.tasks t on t.id = r.task_id
join longshore.run_files f on f.task_id = r.task_id and f.run = r.run and f.path = $2
where r.location > $1::text || '/' and r.location < $1::text || '0'
"""

LOCATION = re.compile(r"([0-9]{1,18}/[0-9]{1,18}/[0-9]{1,9})/(.+)")

ExpiresIn = Annotated[
    int, QueryParameter(ge=1, le=MAX_SECONDS, description="Seconds that the address is to be good for.")
]
MaxUses = Annotated[
    int | None,
    QueryParameter(
        ge=1, le=MAX_OFFSET, description="Downloads that may begin with it; one taken up again counts anew."
    ),
]


class RunFiles(msgspec.Struct, frozen=True):
    """A run whose files can be downloaded."""

    what: str
    """Its name in the audit log and in errors, such as `run 3 of task 12`."""
    task: TaskId
    run: int
    location: str
    reads: list[Read]


class Addresses(msgspec.Struct, frozen=True):
    """Signs the addresses of files of a run, all by one link."""

    expires: int
    """Of the addresses, in seconds since 1970."""
    sign: Callable[[Sequence[str]], list[str]]
    """Return the addresses of files at locations. Blocking; raises StoreError."""
    presigned: bool
    """Whether the store answers them, and not the service."""


async def at_location(pool: Pool, location: str) -> asyncpg.Record | None:
    """Return run, name, rows and hash of the file at a location; None where no run names it."""
    row = await pool.fetchrow(AT_LOCATION, location)
    if row is None and (match := LOCATION.fullmatch(location)):
        row = await pool.fetchrow(IN_FOLDER, match[1], match[2])
    return row


def downloadable(request: AnyRequest, what: str, row: asyncpg.Record | None) -> RunFiles:
    """Return the run in a row, which may be that of a task with its run. Raises ProblemError where it has no result."""
    service, caller = admitted(request)
    if row is None:
        raise NotFoundError("task-not-found")
    reads = decoded(row["reads"])
    refuse_hidden_run(caller, service.catalog, reads)
    if row["state"] != Code.DONE:
        said = f"{what[:1].upper()}{what[1:]} is {row['state']}"
        raise ProblemError("task-not-done", f"{said}, and there is a result only when it is DONE.")
    if row["action"] != "export" and not row["result"]:
        raise ProblemError("no-export", f"The action of {what} is {row['action']!r}, which left no file.")
    if row["location"] is None:
        raise result_gone(what)
    return RunFiles(what, row["id"], row["run"], row["location"], reads)


def result_gone(what: str) -> ProblemError:
    """Return the problem of a result that was removed."""
    return ProblemError("result-gone", f"The result of {what} has expired or was deleted.")


async def signed_url(request: AnyRequest, what: str, row: asyncpg.Record | None, seconds: int, uses: int | None) -> str:
    """Return the signed address of a run's result. Raises ProblemError."""
    found = downloadable(request, what, row)
    signing = await open_addresses(request, found, seconds, uses)
    return (await asyncio.to_thread(signing.sign, [found.location]))[0]


async def open_addresses(
    request: AnyRequest, run: RunFiles, seconds: int = MAX_SECONDS, uses: int | None = None
) -> Addresses:
    """Create the link that addresses of a run's files are signed by. Raises ProblemError where the result is gone."""
    service: Service = request.app.state.service
    terms = Terms(seconds, uses, _level_of(service, run.reads))
    if service.store.presigns:
        return await _presigned(request, run, terms)
    if service.store.open_path(run.location) is None:
        raise result_gone(run.what)
    async with audited(request, "result.address", run.what) as change:
        link = await links.create(change.connection, run.task, run.run, actor(request), terms)
        change.details = {"link": str(link.id)}
    base = base_url(request)

    def sign(locations: Sequence[str]) -> list[str]:
        return [base + service.signer.sign(each, link) for each in locations]

    return Addresses(link.expires, sign, presigned=False)


def base_url(request: AnyRequest) -> str:
    """Return the address of the service as its clients know it, without a slash at the end."""
    service: Service = request.app.state.service
    return (service.settings.public_url or str(request.base_url)).rstrip("/")


async def _presigned(request: AnyRequest, run: RunFiles, terms: Terms) -> Addresses:
    """Sign addresses that the store itself answers; they can neither be revoked nor have their uses counted."""
    if terms.uses is not None:
        raise ValidationError([Violation("is not supported where results are in a bucket", parameter="max_uses")])
    service: Service = request.app.state.service
    # The store does not check the credential, so the address expires with it.
    left = int(await links.seconds_left(service.pool, actor(request), service.sessions.lifetimes))
    seconds = max(1, min(terms.seconds, left))
    if not await asyncio.to_thread(service.store.exists, run.location):
        raise result_gone(run.what)
    signing = presigned(service.store, seconds)
    await audit.record(service.pool, actor(request), request.scope["user"].chain, "result.address", run.what)
    return signing


def presigned(store: Store, seconds: int) -> Addresses:
    """Return the signer of addresses of a store that all end so many seconds from now, whenever they are signed."""
    end = time.time() + seconds  # by the clock that the addresses are signed by

    def sign(locations: Sequence[str]) -> list[str]:
        left = math.ceil(end - time.time())
        if left < 1:
            raise StoreError("the time of the addresses was over before all were signed")
        return store.presigned_urls(locations, left)

    return Addresses(int(end), sign, presigned=True)


def _level_of(service: Service, reads: Sequence[Read]) -> str:
    """Return the level that a result needs: the highest of the indexes that its run has read, else `read`."""
    levels = (level_for(read, service.catalog) for read in reads)
    return max(levels, default=Level.READ).name.lower()
