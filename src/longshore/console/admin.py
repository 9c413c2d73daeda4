"""The pages *Audit* and *System*."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter

from longshore.access import audit
from longshore.access.audit import AuditFilter
from longshore.api.guard import admitted
from longshore.api.paging import Offset
from longshore.api.service import AnyRequest
from longshore.console.charts import Chart, Column, columns
from longshore.console.pages import paging, render_page
from longshore.console.rendering import in_bytes, in_digits, in_seconds, render
from longshore.console.zones import zone_of
from longshore.database.rows import Page
from longshore.tasks import figures
from longshore.tasks.figures import DayFigures

PAGE_SIZE = 50


@get("/console/{chain:int}/audit", include_in_schema=False)
async def show_audit(
    request: AnyRequest,
    action: Annotated[str, QueryParameter(max_length=200)] = "",
    actor: Annotated[str, QueryParameter(max_length=200)] = "",
    object: Annotated[str, QueryParameter(max_length=200)] = "",
    offset: Offset = 0,
) -> Response[str]:
    """Return the page *Audit*."""
    service, caller = admitted(request)
    filters = {"action": action, "actor": actor, "object": object}
    filters = {key: value.replace("\x00", "") for key, value in filters.items() if value}
    part = Page(PAGE_SIZE, offset)
    found, more = await audit.entries(
        service.pool,
        caller.chain,
        AuditFilter(filters.get("action"), filters.get("actor"), filters.get("object")),
        part,
    )
    content = {"entries": found, "filters": filters, **paging(part, more, **filters)}
    return await render_page(request, "audit.html", "Audit", **content)


@get("/console/{chain:int}/system", include_in_schema=False)
async def show_system(request: AnyRequest, zone: Annotated[str, QueryParameter(max_length=100)] = "") -> Response[str]:
    """Return the page *System*: what runs and waits now; for two weeks throughput, durations, failures and storage.

    `zone`: the one whose days are meant. For htmx, only what is so now.
    """
    service, caller = admitted(request)
    now = await figures.of_chain(service.pool, caller.chain)
    if "hx-request" in request.headers:
        return await asyncio.to_thread(render, "system_figures.html", figures=now)
    kept = await figures.kept_results(service.pool, caller.chain)
    named = zone_of(request, zone)
    days = await figures.by_day(service.pool, caller.chain, named)
    charts = system_charts(days)
    content = {"figures": now, "kept": kept, "zone": named, "days": list(reversed(days)), "charts": charts}
    return await render_page(request, "system.html", "System", **content)


def system_charts(days: Sequence[DayFigures]) -> list[Chart]:
    """Return the charts of the days of a chain."""

    def chart(title: str, say: Callable[[float], str], *parts: tuple[str, str]) -> Chart:
        values = [
            Column(
                f"{each.day:%d %b}", [(kind, getattr(each, name)) for kind, name in parts], _in_words(each, say, parts)
            )
            for each in days
        ]
        return columns(title, values, say)

    return [
        chart("Runs", in_digits, ("done", "done"), ("error", "failed")),
        chart("Rows", in_digits, ("done", "rows")),
        chart("Bytes written", in_bytes, ("done", "bytes")),
        chart("Longest run", in_seconds, ("done", "longest_seconds")),
        chart("Longest wait for a worker", in_seconds, ("done", "longest_wait")),
        chart("Time of workers", in_seconds, ("done", "busy_seconds")),
        chart("Stored results, by the day of their run", in_bytes, ("done", "kept_bytes")),
    ]


def _in_words(day: DayFigures, say: Callable[[float], str], parts: Sequence[tuple[str, str]]) -> str:
    if len(parts) == 1:
        return say(getattr(day, parts[0][1]))
    return ", ".join(f"{say(getattr(day, name))} {name}" for _, name in parts)
