"""The operations of a client on each kind of resource, for both clients."""

import builtins
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from longshore.client.errors import ClientError
from longshore.client.model import Index, Preview, StoredSegment, TaskData
from longshore.client.retry import TRANSIENT_STATUSES, expect, send
from longshore.client.segment import Rules
from longshore.client.steps import Answer, LostError, Request, Steps
from longshore.client.task import TaskOperations
from longshore.client.transport import Operates, operation
from longshore.client.wait import ServiceState

K = TypeVar("K", bound=TaskOperations[Any])

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # as `once`, it means now, and it is the same in every request

Where = Rules | Mapping[str, Any] | str
"""Rules built with F, a segment in the API's form, or the id of a stored segment."""


class Part(Operates[K]):
    """The operations of a client on one kind of resource."""

    def __init__(self, transport: Any, known: ServiceState, kind: type[K]) -> None:
        self._transport = transport
        self._known = known
        self._kind = kind

    def _task(self, data: TaskData) -> K:
        return self._kind(self._transport, self._known, data)

    def _get(self, url: str, **params: Any) -> Steps[Answer]:
        return (yield from send(Request(method="GET", url=url, params=_present(params)), self._known.budget()))

    def _segment(self, index: str, where: Rules | Mapping[str, Any]) -> Steps[dict[str, Any]]:
        if not isinstance(where, Rules):
            return dict(where)
        indexes = self._known.indexes
        if index not in indexes:
            indexes[index] = expect((yield from self._get(f"/indexes/{in_path(index)}")), Index)
        return where.segment(indexes[index], self._known.chain)


class Exports(Part[K]):
    """The operations of `client.exports`."""

    @operation
    def create(  # noqa: PLR0913 (the options of the API, by keyword)
        self,
        index: str | Sequence[str],
        *,
        format: str = "csv",
        where: Where | Mapping[str, Any] | None = None,
        at: datetime | None = None,
        repeat: Literal["daily", "weekly", "monthly"] | None = None,
        cron: str | None = None,
        timezone: str | None = None,
        until: datetime | None = None,
        catch_up: Literal["one", "none", "all"] | None = None,
        fields: Sequence[str | Mapping[str, str]] | Mapping[str, Any] | None = None,
        schema: str | Mapping[str, str] | None = None,
        partition_by: Sequence[Mapping[str, str]] | Mapping[str, Any] | None = None,
        split: Mapping[str, int] | None = None,
        compression: str | None = None,
        csv: Mapping[str, Any] | None = None,
        incremental: bool | Literal["on_ack"] = False,
        deletes: bool = False,
        deliver: Sequence[Mapping[str, Any]] | None = None,
        desc: str = "",
        debug: str = "",
        idempotency_key: str | None = None,
    ) -> Steps[K]:
        """Create a task that exports an index such as `wallet-ledger`, and return it.

        Several indexes share a snapshot; `where`, `fields`, `schema`, `partition_by` may be objects by index name.
        `format`: `csv`, `json`, `jsonl`, `parquet` or `xlsx`. `where`: which rows; all by default.
        `at`: when, with a time zone; now by default. `repeat` and `cron`: a schedule, by the clock of `timezone` (an
        IANA name), which ends with `until`; `catch_up`: the treatment of missed runs.
        `fields`: the columns in their order; `{"name": …, "as": …}` renames one.
        `partition_by`: `[{"field": "timestamp", "by": "day"}]`, a folder for each day. `split`: `{"rows": n}` or
        `{"bytes": n}`, the size of a file. With either, the result is a manifest of many files.
        `schema`: the fingerprint that the fields must have. `compression`: `gzip` or `zstd`. `csv`: the dialect.
        `incremental`: each run exports the rows that became visible since the last run, or since the last acknowledged
        one (`"on_ack"`). `deletes`: each run also says which rows are to be deleted from a copy; without `incremental`
        it is taken as true.
        `deliver`: the destinations of each result, such as `[{"destination": "warehouse"}]`; the task is DONE when all
        of them have it.
        `idempotency_key`: two calls with the same key create one task; by default each call has a new key.
        Raises SegmentError, BadRequestError, ForbiddenError.
        """
        if idempotency_key and repeat is not None and at is None:
            raise ClientError(
                "`repeat` with an `idempotency_key` needs `at`, as the same key stands for the same times"
            )
        # With a key of the caller's, every call must send the same time.
        now = LONG_AGO if idempotency_key else datetime.now(UTC)
        trigger: dict[str, Any] = {} if cron is not None and at is None else {"once": _moment("at", at or now)}
        trigger |= _present({"repeat": repeat, "cron": cron, "timezone": timezone, "catch_up": catch_up})
        if until is not None:
            trigger["until"] = _moment("until", until)
        named = {"export_index": index} if isinstance(index, str) else {"export_indexes": list(index)}
        if isinstance(where, str):
            trigger["segment_id"] = where
        elif where is not None and isinstance(index, str):
            trigger["segment"] = yield from self._segment(index, where)
        elif isinstance(where, Rules):
            raise ClientError("several indexes need `where` as an object of rules by index name")
        elif where is not None:
            trigger["segment"] = {}
            for name, rules in where.items():
                trigger["segment"][name] = yield from self._segment(name, rules)
        options: dict[str, Any] = {"fields": fields, "schema": schema, "partition_by": partition_by, "split": split}
        options |= {"compression": compression, "csv": csv, "incremental": incremental or deletes or None}
        options |= {"deletes": deletes or None, "deliver": deliver}
        body = {
            "chain": self._known.chain,
            "desc": desc or f"Export of {index if isinstance(index, str) else ', '.join(index)}",
            "target": {
                "action": "export",
                **named,
                "export_format": format,
                **_present(options),
            },
            "trigger": trigger,
            **_present({"debug": debug or None}),
        }
        return (yield from self._create(body, idempotency_key or secrets.token_urlsafe(24)))

    def _create(self, body: dict[str, Any], key: str) -> Steps[K]:
        request = Request(method="POST", url="/tasks", headers={"Idempotency-Key": key}, body=body)
        lost: Exception | None = None
        try:
            answer = yield from send(request, self._known.budget())
        except LostError as error:
            lost = error
        else:
            if answer.status in TRANSIENT_STATUSES:
                lost = answer.error()
        if lost is not None:
            # The task may exist. A second request is safe only if the service recognizes the key.
            if not (yield from self._has_idempotency_keys()):
                raise lost
            answer = yield from send(request, self._known.budget(), is_idempotent=True)
        return self._task(expect(answer, TaskData))

    def _has_idempotency_keys(self) -> Steps[bool]:
        if self._known.has_idempotency_keys is None:
            document = expect((yield from self._get("/openapi.json")), dict[str, Any])
            parameters = document["paths"]["/tasks"]["post"].get("parameters", [])
            names = {str(parameter.get("name", "")).lower() for parameter in parameters}
            self._known.has_idempotency_keys = "idempotency-key" in names
        return self._known.has_idempotency_keys


class Tasks(Part[K]):
    """The operations of `client.tasks`."""

    @operation
    def get(self, id: int) -> Steps[K]:
        """Return one task. Raises NotFoundError."""
        return self._task(expect((yield from self._get(f"/tasks/{int(id)}")), TaskData))

    @operation
    def list(
        self, status: str | None = None, action: str | None = None, limit: int = 25, offset: int = 0
    ) -> Steps[builtins.list[K]]:
        """Return the chain's tasks, newest first. `status`: only those in this state. `limit`: 1 to 100."""
        answer = yield from self._get("/tasks", status=status, action=action, limit=limit, offset=offset)
        return [self._task(data) for data in expect(answer, list[TaskData])]


class Indexes(Part[K]):
    """The operations of `client.indexes`."""

    @operation
    def get(self, name: str) -> Steps[Index]:
        """Return one export index with its fields. Raises NotFoundError."""
        return expect((yield from self._get(f"/indexes/{in_path(name)}")), Index)

    @operation
    def list(self) -> Steps[builtins.list[Index]]:
        """Return all export indexes."""
        return expect((yield from self._get("/indexes")), list[Index])


class Segments(Part[K]):
    """The operations of `client.segments`."""

    @operation
    def create(self, name: str, index: str, where: Rules | Mapping[str, Any]) -> Steps[StoredSegment]:
        """Store a segment; `where` of an export takes its id."""
        body = {"chain": self._known.chain, "name": name, "segment": (yield from self._segment(index, where))}
        request = Request(method="POST", url="/segments", body=body)
        return expect((yield from send(request, self._known.budget())), StoredSegment)

    @operation
    def replace(self, id: str, name: str, index: str, where: Rules | Mapping[str, Any]) -> Steps[StoredSegment]:
        """Replace a stored segment; its index stays the same. Raises NotFoundError."""
        body = {"chain": self._known.chain, "name": name, "segment": (yield from self._segment(index, where))}
        request = Request(method="PUT", url=f"/segments/{in_path(id)}", body=body)
        return expect((yield from send(request, self._known.budget())), StoredSegment)

    @operation
    def get(self, id: str) -> Steps[StoredSegment]:
        """Return one stored segment. Raises NotFoundError."""
        return expect((yield from self._get(f"/segments/{in_path(id)}")), StoredSegment)

    @operation
    def list(self, limit: int = 25, offset: int = 0) -> Steps[builtins.list[StoredSegment]]:
        """Return the chain's stored segments, newest first. `limit`: 1 to 100."""
        return expect((yield from self._get("/segments", limit=limit, offset=offset)), list[StoredSegment])

    @operation
    def delete(self, id: str) -> Steps[None]:
        """Delete a stored segment. Raises NotFoundError."""
        request = Request(method="DELETE", url=f"/segments/{in_path(id)}")
        answer = yield from send(request, self._known.budget())
        if answer.status >= 300:
            raise answer.error()

    @operation
    def preview(
        self, index: str, where: Rules | Mapping[str, Any], fields: Sequence[str] | None = None
    ) -> Steps[Preview]:
        """Return what an export would give now: the number of rows, the first ten of them, size and time."""
        body: dict[str, Any] = {"segment": (yield from self._segment(index, where))}
        if fields is not None:
            body["fields"] = fields
        request = Request(method="POST", url="/segments/preview", body=body)
        return expect((yield from send(request, self._known.budget(), is_idempotent=True)), Preview)


def in_path(name: str) -> str:
    """Return a name as a step of a path."""
    return quote(name, safe="")


def _present(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that are None."""
    return {name: value for name, value in options.items() if value is not None}


def _moment(name: str, moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ClientError(f"`{name}` has no time zone; give it one, such as datetime.UTC")
    return moment.isoformat()
