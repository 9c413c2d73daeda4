"""The page *System*: what a chain runs and stores, now and by day."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter

from longshore.api.guard import service_and_caller
from longshore.api.service import AnyRequest
from longshore.console.charts import BarValue, Chart, bar_chart
from longshore.console.pages import render_page
from longshore.console.rendering import in_bytes, in_digits, in_seconds, render
from longshore.console.zones import zone_of
from longshore.tasks import figures
from longshore.tasks.figures import DayFigures


@get("/console/{chain:int}/system", include_in_schema=False)
async def show_system(request: AnyRequest, zone: Annotated[str, QueryParameter(max_length=100)] = "") -> Response[str]:
    """Return the page *System*: what runs and waits now; for two weeks throughput, durations, failures and storage.

    `zone`: the one whose days are meant. For htmx, only what is so now.
    """
    service, caller = service_and_caller(request)
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

    def chart(title: str, format_value: Callable[[float], str], *parts: tuple[str, str]) -> Chart:
        values = [
            BarValue(
                label=f"{each.day:%d %b}",
                parts=[(kind, getattr(each, name)) for kind, name in parts],
                text=_text(each, format_value, parts),
            )
            for each in days
        ]
        return bar_chart(title, values, format_value)

    return [
        chart("Runs", in_digits, ("done", "done"), ("error", "failed")),
        chart("Rows", in_digits, ("done", "rows")),
        chart("Bytes written", in_bytes, ("done", "bytes")),
        chart("Longest run", in_seconds, ("done", "longest_seconds")),
        chart("Longest wait for a worker", in_seconds, ("done", "longest_wait")),
        chart("Time of workers", in_seconds, ("done", "busy_seconds")),
        chart("Stored results, by the day of their run", in_bytes, ("done", "kept_bytes")),
    ]


def _text(day: DayFigures, format_value: Callable[[float], str], parts: Sequence[tuple[str, str]]) -> str:
    if len(parts) == 1:
        return format_value(getattr(day, parts[0][1]))
    return ", ".join(f"{format_value(getattr(day, name))} {name}" for _, name in parts)
