"""The two clients: Longshore blocks, AsyncLongshore is awaited. What they can do is written once."""

import builtins
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

from longshore.client.errors import ClientError
from longshore.client.model import Index, Preview, StoredSegment, TaskData
from longshore.client.profiles import read_profile
from longshore.client.segment import Rules
from longshore.client.steps import PASSING, Answer, LostError, Request, Steps, expect, send
from longshore.client.task import AsyncTask, Task, TaskOperations
from longshore.client.transport import AsyncTransport, BlockingTransport, Operates, operation
from longshore.client.wait import ServiceState

K = TypeVar("K", bound=TaskOperations[Any])

PASSED = datetime(2000, 1, 1, tzinfo=UTC)

Where = Rules | Mapping[str, Any] | str
"""Rules made by F, a segment as the API takes it, or the id of a stored segment."""


class Part(Operates[K]):
    """The operations of a client on one kind of resource."""

    def __init__(self, transport: Any, known: ServiceState, kind: type[K]) -> None:
        self._transport = transport
        self._known = known
        self._kind = kind

    def _task(self, data: TaskData) -> K:
        return self._kind(self._transport, self._known, data)

    def _get(self, url: str, **params: Any) -> Steps[Answer]:
        given = {name: value for name, value in params.items() if value is not None}
        return (yield from send(Request(method="GET", url=url, params=given), self._known.patience()))

    def _segment(self, index: str, where: Rules | Mapping[str, Any]) -> Steps[dict[str, Any]]:
        if not isinstance(where, Rules):
            return dict(where)
        indexes = self._known.indexes
        if index not in indexes:
            indexes[index] = expect((yield from self._get(f"/indexes/{_in_path(index)}")), Index)
        return where.segment(indexes[index], self._known.chain)


class Exports(Part[K]):
    """`client.exports`: creates exports."""

    @operation
    def create(
        self,
        index: str,
        *,
        format: str = "csv",
        where: Where | None = None,
        at: datetime | None = None,
        repeat: str | Mapping[str, Any] | None = None,
        fields: Sequence[str | Mapping[str, str]] | None = None,
        schema: str | None = None,
        compression: str | None = None,
        csv: Mapping[str, Any] | None = None,
        incremental: bool | Literal["on_ack"] = False,
        desc: str = "",
        debug: str = "",
        idempotency_key: str | None = None,
    ) -> Steps[K]:
        """Create an export of an index such as `wallet-ledger`.

        `format`: `csv`, `json`, `jsonl`, `parquet` or `xlsx`. `where`: which rows; all of them without it.
        `at`: when, with a time zone; now without it. `repeat`: how it recurs, as `trigger.repeat` of the API has it.
        `fields`: the columns in their order, `{"name": …, "as": …}` for one under another name.
        `schema`: the fingerprint that the fields must have. `compression`: `gzip` or `zstd`. `csv`: the dialect.
        `incremental`: each run takes what became visible since the last one, or the last one acknowledged.
        `idempotency_key`: creating twice with the same one is as once; by default a new one for each call.
        Raises SegmentError, BadRequestError, ForbiddenError.
        """
        if at is not None and at.tzinfo is None:
            raise ClientError("`at` has no time zone; give it one, such as datetime.UTC")
        if idempotency_key and repeat is not None and at is None:
            raise ClientError(
                "`repeat` with an `idempotency_key` needs `at`, as the same key stands for the same times"
            )
        # What is created twice must be the same twice; a time that has passed means now.
        now = PASSED if idempotency_key else datetime.now(UTC)
        trigger: dict[str, Any] = {"once": (at or now).isoformat()}
        if isinstance(where, str):
            trigger["segment_id"] = where
        elif where is not None:
            trigger["segment"] = yield from self._segment(index, where)
        if repeat is not None:
            trigger["repeat"] = repeat
        target: dict[str, Any] = {"action": "export", "export_index": index, "export_format": format}
        chosen = {"fields": fields, "schema": schema, "compression": compression, "csv": csv}
        target |= {name: value for name, value in chosen.items() if value is not None}
        if incremental:
            target["incremental"] = incremental
        body = {"chain": self._known.chain, "desc": desc or f"Export of {index}", "target": target, "trigger": trigger}
        if debug:
            body["debug"] = debug
        key = idempotency_key or secrets.token_urlsafe(24)
        request = Request(method="POST", url="/tasks", headers={"Idempotency-Key": key}, body=body)
        lost: Exception | None = None
        try:
            answer = yield from send(request, self._known.patience())
        except LostError as error:
            lost = error
        else:
            if answer.status in PASSING:
                lost = answer.error()
        if lost is not None:
            # It may have been created. A second try is safe only where the service knows the key again.
            if not (yield from self._repeats_creation()):
                raise lost
            answer = yield from send(request, self._known.patience(), repeatable=True)
        return self._task(expect(answer, TaskData))

    def _repeats_creation(self) -> Steps[bool]:
        if self._known.repeats_creation is None:
            document = expect((yield from self._get("/openapi.json")), dict[str, Any])
            parameters = document["paths"]["/tasks"]["post"].get("parameters", [])
            named = {str(parameter.get("name", "")).lower() for parameter in parameters}
            self._known.repeats_creation = "idempotency-key" in named
        return self._known.repeats_creation


class Tasks(Part[K]):
    """`client.tasks`: finds tasks."""

    @operation
    def get(self, id: int) -> Steps[K]:
        """One task. Raises NotFoundError."""
        return self._task(expect((yield from self._get(f"/tasks/{int(id)}")), TaskData))

    @operation
    def list(
        self, status: str | None = None, action: str | None = None, limit: int = 25, offset: int = 0
    ) -> Steps[builtins.list[K]]:
        """The chain's tasks, newest first. `status`: only those in this state. `limit`: 1 to 100."""
        answer = yield from self._get("/tasks", status=status, action=action, limit=limit, offset=offset)
        return [self._task(data) for data in expect(answer, list[TaskData])]


class Indexes(Part[K]):
    """`client.indexes`: what can be exported."""

    @operation
    def get(self, name: str) -> Steps[Index]:
        """One export index with its fields. Raises NotFoundError."""
        return expect((yield from self._get(f"/indexes/{_in_path(name)}")), Index)

    @operation
    def list(self) -> Steps[builtins.list[Index]]:
        """All export indexes."""
        return expect((yield from self._get("/indexes")), list[Index])


class Segments(Part[K]):
    """`client.segments`: stored segments, and trying one out."""

    @operation
    def create(self, name: str, index: str, where: Rules | Mapping[str, Any]) -> Steps[StoredSegment]:
        """Store a segment, for `where` of exports to name by its id."""
        body = {"chain": self._known.chain, "name": name, "segment": (yield from self._segment(index, where))}
        request = Request(method="POST", url="/segments", body=body)
        return expect((yield from send(request, self._known.patience())), StoredSegment)

    @operation
    def replace(self, id: str, name: str, index: str, where: Rules | Mapping[str, Any]) -> Steps[StoredSegment]:
        """Replace a stored segment; its index stays the same. Raises NotFoundError."""
        body = {"chain": self._known.chain, "name": name, "segment": (yield from self._segment(index, where))}
        request = Request(method="PUT", url=f"/segments/{_in_path(id)}", body=body)
        return expect((yield from send(request, self._known.patience())), StoredSegment)

    @operation
    def get(self, id: str) -> Steps[StoredSegment]:
        """One stored segment. Raises NotFoundError."""
        return expect((yield from self._get(f"/segments/{_in_path(id)}")), StoredSegment)

    @operation
    def list(self, limit: int = 25, offset: int = 0) -> Steps[builtins.list[StoredSegment]]:
        """The chain's stored segments, newest first. `limit`: 1 to 100."""
        return expect((yield from self._get("/segments", limit=limit, offset=offset)), list[StoredSegment])

    @operation
    def delete(self, id: str) -> Steps[None]:
        """Delete a stored segment. Raises NotFoundError."""
        request = Request(method="DELETE", url=f"/segments/{_in_path(id)}")
        answer = yield from send(request, self._known.patience())
        if answer.status >= 300:
            raise answer.error()

    @operation
    def preview(
        self, index: str, where: Rules | Mapping[str, Any], fields: Sequence[str] | None = None
    ) -> Steps[Preview]:
        """What an export would be if it ran now: rows, the first ten of them, size and time."""
        body: dict[str, Any] = {"segment": (yield from self._segment(index, where))}
        if fields is not None:
            body["fields"] = fields
        request = Request(method="POST", url="/segments/preview", body=body)
        return expect((yield from send(request, self._known.patience(), repeatable=True)), Preview)


def _in_path(name: str) -> str:
    return quote(name, safe="")


class _Client(Operates[K]):
    """The parts of either client."""

    def __init__(self, transport: Any, chain: int, kind: type[K], retry_for: float) -> None:
        self._transport = transport
        self.chain = chain
        known = ServiceState(chain, retry_for)
        self.exports = Exports(transport, known, kind)
        self.tasks = Tasks(transport, known, kind)
        self.indexes = Indexes(transport, known, kind)
        self.segments = Segments(transport, known, kind)


class Longshore(_Client[Task]):
    """A client that blocks.

    `address`: the service's, such as `http://127.0.0.1:8080`. `token`: `id:secret`.
    `chain`: the chain that all requests are for. A request raises ForbiddenError if the token is not for this chain.
    `timeout`: seconds without a byte after which a connection counts as lost.
    `retry_for`: seconds for which transient errors (no connection, 429, 502, 503, 504) are retried.
    """

    def __init__(self, address: str, token: str, *, chain: int, timeout: float = 30.0, retry_for: float = 60.0) -> None:
        super().__init__(BlockingTransport(address, token, chain, timeout), chain, Task, retry_for)

    @classmethod
    def from_profile(cls, name: str = "default") -> Self:
        """A client with what `longshore login` stored. Raises ProfileError."""
        profile = read_profile(name)
        return cls(profile.address, profile.token, chain=profile.chain)

    def close(self) -> None:
        """Close its connections."""
        self._transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncLongshore(_Client[AsyncTask]):
    """A client whose methods are awaited, on asyncio. It takes what Longshore takes."""

    def __init__(self, address: str, token: str, *, chain: int, timeout: float = 30.0, retry_for: float = 60.0) -> None:
        super().__init__(AsyncTransport(address, token, chain, timeout), chain, AsyncTask, retry_for)

    @classmethod
    def from_profile(cls, name: str = "default") -> Self:
        """A client with what `longshore login` stored. Raises ProfileError."""
        profile = read_profile(name)
        return cls(profile.address, profile.token, chain=profile.chain)

    async def close(self) -> None:
        """Close its connections."""
        await self._transport.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
