"""`client.exports`: tasks that export indexes."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, cast

from longshore.client.api_types import (
    CatchUp,
    Compression,
    CsvDialect,
    Deliver,
    Format,
    PartitionKey,
    Repeat,
    Segment,
    Split,
)  # fmt: skip
from longshore.client.asynchronous.resource import AsyncResource
from longshore.client.asynchronous.task import AsyncTask
from longshore.client.errors import ArgumentError
from longshore.client.model import TaskData
from longshore.client.requests import Request, idempotency_header, without_none
from longshore.client.schedule import LONG_AGO, service_time, trigger_time
from longshore.client.segment import Rules

Where: TypeAlias = Rules | Segment | str | Mapping[str, Rules | Segment]
"""Rules built with F, a segment in the API's form, the id of a stored segment, or one of the first by index name."""

CONDITION = re.compile(r"[\s<=>]")
"""A character that a condition of the command line has, and no id of a stored segment."""


class AsyncExports(AsyncResource):
    """The operations of `client.exports`."""

    async def create(  # noqa: PLR0913 (the options of the API, by keyword)
        self,
        index: str | Sequence[str],
        *,
        format: Format = "csv",
        where: Where | None = None,
        at: datetime | None = None,
        repeat: Repeat | None = None,
        cron: str | None = None,
        timezone: str | None = None,
        until: datetime | None = None,
        catch_up: CatchUp | None = None,
        fields: Sequence[str | Mapping[str, str]] | Mapping[str, Any] | None = None,
        schema: str | Mapping[str, str] | None = None,
        partition_by: Sequence[PartitionKey] | Mapping[str, Sequence[PartitionKey]] | None = None,
        split: Split | None = None,
        compression: Compression | None = None,
        csv: CsvDialect | None = None,
        incremental: bool | Literal["on_ack"] = False,
        deletes: bool = False,
        deliver: Sequence[Deliver] | None = None,
        share_as: str | None = None,
        desc: str = "",
        debug: str = "",
        idempotency_key: str | None = None,
    ) -> AsyncTask:
        """Create a task that exports an index such as `wallet-ledger`, and return it.

        Several indexes share a snapshot; `where`, `fields`, `schema`, `partition_by` may be objects by index name.
        `where`: which rows: rules built with F, a segment in the API's form, or the id of a stored one; all by default.
        `at`: when, with a time zone; now by default. `repeat` and `cron`: a schedule, by the clock of `timezone` (an
        IANA name), which ends with `until`; `catch_up`: the treatment of missed runs.
        `fields`: the columns in their order; `{"name": …, "as": …}` renames one.
        `partition_by`: `[{"field": "timestamp", "by": "day"}]`, a folder for each day. `split`: `{"rows": n}` or
        `{"bytes": n}`, the size of a file. With either, the result is a manifest of many files.
        `schema`: the fingerprint that the fields must have. `csv`: the dialect.
        `incremental`: each run exports the rows that became visible since the last run, or since the last acknowledged
        one (`"on_ack"`). `deletes`: each run also says which rows are to be deleted from a copy; without `incremental`
        it is taken as true.
        `deliver`: the destinations of each result, such as `[{"destination": "warehouse"}]`; the task is DONE when all
        of them have it. `share_as`: the name of the table by which the results are shared.
        `idempotency_key`: two calls with the same key create one task; by default each call has a new key.
        Raises SegmentError, BadRequestError, ForbiddenError.
        """
        if idempotency_key is not None and repeat is not None and at is None:
            raise ArgumentError(
                "`repeat` with an `idempotency_key` needs `at`, as the same key stands for the same times"
            )
        trigger: dict[str, Any] = {}
        if at is not None:
            trigger["once"] = trigger_time("at", at)
        elif repeat is not None:
            trigger["once"] = await self._now()  # the time of day of each run
        elif cron is None:
            trigger["once"] = LONG_AGO
        trigger |= without_none({"repeat": repeat, "cron": cron, "timezone": timezone, "catch_up": catch_up})
        if until is not None:
            trigger["until"] = trigger_time("until", until)
        trigger |= await self._rows(index, where)
        options: dict[str, Any] = {"fields": fields, "schema": schema, "partition_by": partition_by, "split": split}
        options |= {"compression": compression, "csv": csv, "incremental": incremental or deletes or None}
        options |= {"deletes": deletes or None, "deliver": deliver, "share_as": share_as}
        named = {"export_index": index} if isinstance(index, str) else {"export_indexes": list(index)}
        body = {
            "chain": self._transport.connection.chain,
            "desc": desc or f"Export of {index if isinstance(index, str) else ', '.join(index)}",
            "target": {"action": "export", **named, "export_format": format, **without_none(options)},
            "trigger": trigger,
            **without_none({"debug": debug or None}),
        }
        data = await self._post("/tasks", TaskData, body, idempotency_header(idempotency_key))
        return AsyncTask(self._transport, data)

    async def _now(self) -> str:
        """Return the time by the clock of the service, as the one here may differ."""
        answer = await self._transport.send(Request(url="/healthz"))
        return service_time(answer.headers)

    async def _rows(self, index: str | Sequence[str], where: Where | None) -> dict[str, Any]:
        """Return the part of the trigger that says which rows."""
        if where is None:
            return {}
        if isinstance(where, str):
            if CONDITION.search(where):
                raise ArgumentError(f"`where`: {where!r} is no id of a stored segment; build rules as F('amount') > 3")
            return {"segment_id": where}
        if isinstance(index, str):
            return {"segment": await self._segment(index, cast(Rules | Segment, where))}
        if isinstance(where, Rules):
            raise ArgumentError("several indexes need `where` as an object of rules by index name")
        by_index = cast(Mapping[str, Rules | Segment], where)
        return {"segment": {name: await self._segment(name, rules) for name, rules in by_index.items()}}
