"""The page *Tasks*: the list, and what is done with several of its tasks together."""

import asyncio
import re
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter, RawBody
from litestar.response import Redirect

from longshore.access.tokens import Level
from longshore.api import execute, task_changes
from longshore.api.guard import service_and_caller
from longshore.api.paging import Offset
from longshore.api.problem_kinds import KINDS
from longshore.api.service import AnyRequest
from longshore.console.pages import as_number, pop_idempotency_key, render_page
from longshore.console.rendering import render
from longshore.database.rows import MAX_BIGINT, Page
from longshore.errors import ProblemError
from longshore.exports.rights import may_see_task
from longshore.tasks import overview
from longshore.tasks.model import HIDDEN_MESSAGE, StateCode
from longshore.tasks.overview import MAX_COUNTED, ORDERS, ListedTask, Order, TaskList, TaskSearch

PAGE_SIZE = 25
MAX_SELECTED = 100
AGES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1), "month": timedelta(days=30)}
ORDER_NAMES: dict[Order, str] = {
    "newest": "newest first",
    "oldest": "oldest first",
    "last": "last run",
    "next": "next run",
}

NUMBER = re.compile(r"(?:task |#)?([0-9]{1,18})", re.IGNORECASE)
"""A search for a task by its number, beside what has the same digits in its texts."""

PAST_TENSE = {"run": "asked to run", "cancel": "cancelled", "delete": "deleted"}
QUESTIONS: dict[str, str] = {
    "cancel": "Runs under way end, and all later runs are given up.",
    "delete": "Their logs, runs and results are deleted, too.",
}


BACK = re.compile(r"/console/[0-9]+/tasks(?:/[0-9]+)?(?:\?[\x21-\x7e]*)?")


@get("/console/{chain:int}", include_in_schema=False)
async def start(chain: FromPath[int]) -> Redirect:
    """Redirect to a chain's tasks."""
    return Redirect(f"/console/{chain}/tasks", status_code=303)


@get("/console/{chain:int}/tasks", include_in_schema=False)
async def list_tasks(  # noqa: PLR0913 (the parameters of the query)
    request: AnyRequest,
    status: Annotated[str, QueryParameter(max_length=20)] = "",
    action: Annotated[str, QueryParameter(max_length=100)] = "",
    index: Annotated[str, QueryParameter(max_length=100)] = "",
    age: Annotated[str, QueryParameter(max_length=20)] = "",
    q: Annotated[str, QueryParameter(max_length=200)] = "",
    sort: Annotated[str, QueryParameter(max_length=20)] = "",
    offset: Offset = 0,
) -> Response[str]:
    """Return the chain's tasks; for htmx, the table alone. A search for the number of a task leads to it."""
    service, caller = service_and_caller(request)
    query = {"q": q.strip(), "status": status, "index": index, "action": action, "age": age, "sort": sort}
    filters = {key: text for key, value in query.items() if (text := value.replace("\x00", ""))}
    search = TaskSearch(
        state=status if status in list(StateCode) else None,
        action=filters.get("action"),
        index=filters.get("index"),
        age=AGES.get(age),
        text=filters.get("q"),
    )
    order: Order = next((name for name in ORDERS if name == sort), "newest")
    found = await overview.search(service.pool, caller.chain, search, order, Page(PAGE_SIZE, offset))
    number = NUMBER.fullmatch(search.text or "")
    if number and not offset:
        found = await _with_task(request, msgspec.structs.replace(search, text=None, task=int(number[1])), order, found)
    rows = [_visible(request, row) for row in found.rows]
    content: dict[str, Any] = {"rows": rows, "filters": filters, "offset": offset, **_paging(found, filters, offset)}
    content["back"] = f"/console/{caller.chain}/tasks{_address(filters, offset)}"
    if "hx-request" in request.headers:
        frame: dict[str, Any] = {"base": f"/console/{caller.chain}", "may_write": caller.level >= Level.WRITE}
        answer = await asyncio.to_thread(render, "tasks_table.html", **frame, **content)
        answer.headers["HX-Replace-Url"] = content["back"]
        return answer
    choices = {
        "states": list(StateCode),
        "actions": ["export", *service.actions],
        "indexes": list(service.catalog),
        "ages": list(AGES),
        "orders": ORDER_NAMES,
    }
    return await render_page(request, "tasks.html", "Tasks", **choices, **content)


async def _with_task(request: AnyRequest, search: TaskSearch, order: Order, found: TaskList) -> TaskList:
    """Return a list with the task that a search by number finds, if there is one, as its first."""
    service, caller = service_and_caller(request)
    alone = await overview.search(service.pool, caller.chain, search, order, Page(1))
    if not alone.rows:
        return found
    rows = [*alone.rows, *(row for row in found.rows if row.id != search.task)]
    return msgspec.structs.replace(found, rows=rows, total=max(found.total, len(rows)))


def _visible(request: AnyRequest, row: ListedTask) -> ListedTask:
    """Return a task of the list as its viewer may see it: without counts and the reason of what is hidden."""
    service, caller = service_and_caller(request)
    if may_see_task(caller, service.catalog, row.target, row.trigger, row.reads):
        return row
    return msgspec.structs.replace(row, rows=0, rows_expected=None, reason=row.reason and HIDDEN_MESSAGE)


def _paging(found: TaskList, filters: dict[str, str], offset: int) -> dict[str, Any]:
    """Return the addresses of the pages around one, and the number of tasks in words."""
    total = min(found.total, MAX_COUNTED) if not found.is_exact else found.total
    number = f"{total:,} task{'' if total == 1 else 's'}"
    pages = -(-found.total // PAGE_SIZE)
    current = offset // PAGE_SIZE + 1
    return {
        "total": number if found.is_exact else f"more than {number}",
        "position": f"Page {current:,} of {pages:,}" if found.is_exact else f"Page {current:,}",
        "before": _address(filters, max(0, offset - PAGE_SIZE)) if offset else None,
        "after": _address(filters, offset + PAGE_SIZE) if offset + PAGE_SIZE < found.total else None,
        "start": _address(filters, 0) if offset > PAGE_SIZE else None,
        "end": _address(filters, (pages - 1) * PAGE_SIZE) if found.is_exact and current < pages - 1 else None,
    }


def _address(filters: dict[str, str], offset: int) -> str:
    """Return the address of a page of the list, relative to the list."""
    return "?" + urlencode({**filters, **({"offset": str(offset)} if offset else {})})


@post("/console/{chain:int}/tasks/selected", include_in_schema=False)
async def change_selected(request: AnyRequest, body: RawBody) -> Response[str]:
    """Run, cancel or delete the selected tasks, each by the API's own function; ask first what cannot be undone."""
    _, caller = service_and_caller(request)
    pairs = parse_qsl(body.decode("utf-8", "replace"))
    fields = dict(pairs)
    key = pop_idempotency_key(fields)
    numbers = {as_number(value) for name, value in pairs if name == "id"}
    tasks = sorted(each for each in numbers if isinstance(each, int) and 0 < each <= MAX_BIGINT)[:MAX_SELECTED]
    list_path = f"/console/{caller.chain}/tasks"
    back = fields.get("back", "")
    if not BACK.fullmatch(back) or not back.startswith(list_path):
        back = list_path
    do = fields.get("do", "")
    if not tasks or do not in PAST_TENSE:
        return Redirect(back, status_code=303)
    content: dict[str, Any] = {"do": do, "tasks": tasks, "back": back}
    if do in QUESTIONS and "confirmed" not in fields:
        return await render_page(request, "selected.html", f"{do.title()}?", question=QUESTIONS[do], **content)
    refused = []
    for task in tasks:
        try:
            await _change(request, do, task, key and f"{key} {task}")
        except ProblemError as error:
            refused.append((task, error.detail or KINDS[error.kind].about))
    if not refused:
        gone = do == "delete" and back.startswith(f"{list_path}/")
        return Redirect(list_path if gone else back, status_code=303)
    return await render_page(
        request, "selected.html", "Not all", question=None, done=PAST_TENSE[do], refused=refused, **content
    )


async def _change(request: AnyRequest, do: str, task: int, key: str | None) -> None:
    if do == "run":
        await execute.execute_task.fn(request, task, b"", "respond-async", key)
    elif do == "cancel":
        await task_changes.cancel_task.fn(request, task)
    else:
        await task_changes.delete_task.fn(request, task)
