"""One task never harms another: whatever lies in its trigger or target, it ends by itself, and all others in time."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from longshore.access.tokens import Level
from tests.access.users import new_user
from tests.service import Longshore, ended, export_body

CHAIN, NEIGHBOUR = 7100, 1765
REASONS = ("failed: ", "the run failed: ", "the run due ")
INSERT = """
insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, due_at, attempt_began_at)
select $1, 'by hand', action, trigger::json, target::json, '', state, now() - interval '2 minutes',
       case when state <> 'READY' then now() end
from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as made (action, trigger, target, state)
returning id
"""
OPEN = """
select id, state from longshore.tasks
where id = any($1::bigint[])
  and (state = 'INPROGRESS' or parked or due_at <= now() or (attempt_began_at is null and due_at is null))
"""
LOGS = """
select t.id, t.state, t.log_length,
       array(select msg from longshore.task_logs l where l.task_id = t.id order by seq) as log
from longshore.tasks t
where t.id = any($1::bigint[])
"""

ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["\x00", "export", "0001-01-01T00:00:00Z", "9999-12-31T23:59-14:00", "UTC", "x" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
TRIGGERS: list[dict[str, Any]] = [
    {"once": "2026-01-01T00:00:00Z"},
    {"once": "2026-01-01T00:00:00Z", "repeat": "daily", "timezone": "Europe/Amsterdam"},
    {"once": "0001-01-01T00:00:00Z", "repeat": "daily", "timezone": "America/New_York"},
    {"once": "9999-12-31T23:59:59Z", "repeat": "monthly", "timezone": "Asia/Kathmandu"},
    {"once": "2026-01-01T00:00:00Z", "repeat": "daily", "timezone": "Mars/Olympus_Mons", "catch_up": "none"},
    {"cron": "0 3 * * *", "catch_up": "all", "until": "9999-12-31T23:59:59Z"},
    {"cron": "0 0 30 2 *", "catch_up": "none"},
    {"once": "2026-01-01T00:00:00Z", "segment": {"entity": "people", "index": "gone", "join": "all", "chain_id": 7100,
     "rules": [{"field_name": "x", "field_type": "y", "operator": "z"}]}},
    {"once": "2026-01-01T00:00:00Z", "segment_id": "00000000-0000-0000-0000-000000000001"},
]  # fmt: skip
TARGETS: list[dict[str, Any]] = [
    {"action": "export", "export_index": "vouchers", "export_format": "csv"},
    {"action": "export", "export_index": "gone", "export_format": "csv"},
    {"action": "export", "export_index": "vouchers", "export_format": "gone", "fields": ["gone"]},
    {"action": "export", "export_index": "vouchers", "export_format": "csv", "result_days": -1e300, "priority": 5},
    {"action": "export", "export_index": "vouchers", "export_format": "csv", "incremental": "on_ack", "schema": "gone"},
]
OPTIONAL = ["fields", "partition_by", "split", "compression", "deliver", "share_as"]


@st.composite
def stored(draw: st.DrawFn, usual: list[dict[str, Any]]) -> str:
    """JSON as a task holds it, as it is usual, with one member of another meaning, or anything at all."""
    value: Any = dict(draw(st.sampled_from(usual)))
    kind = draw(st.sampled_from(["usual", "changed", "any", "surrogate"]))
    if kind == "changed":
        value[draw(st.sampled_from([*value, "timeout_seconds", "until"]))] = draw(ANY)
    elif kind == "any":
        value = draw(ANY)
    text = json.dumps(value)
    return text.replace("2026-01-01", "\\ud800") if kind == "surrogate" else text


TASKS = st.lists(
    st.tuples(
        st.sampled_from(["export", "gone", "cleanup"]),
        stored(TRIGGERS),
        stored(TARGETS),
        st.sampled_from(["READY", "DONE"]),
    ),
    min_size=8,
    max_size=12,
)


@pytest.fixture(scope="module")
def viewer(service: Longshore) -> Iterator[httpx2.Client]:
    """A user's browser on the console of the chain, which has signed in."""
    user = new_user(service, _7100=Level.ADMIN)
    form = {"username": user.name, "password": user.password}
    with httpx2.Client(base_url=service.address, timeout=60) as opened:
        answer = opened.post("/sign-in", data=form, headers={"Origin": service.address})
        assert answer.status_code == 303
        yield opened


@pytest.fixture(scope="module")
def reader(service: Longshore) -> Iterator[httpx2.Client]:
    with service.client(Level.ADMIN, CHAIN) as opened:
        yield opened


def read_all(reader: httpx2.Client, viewer: httpx2.Client, tasks: list[int]) -> None:
    """Read these tasks in all ways, none of which may fail."""
    for task in tasks:
        for path in (f"/tasks/{task}", f"/tasks/{task}/progress", f"/tasks/{task}/runs"):
            assert reader.get(path).status_code == 200, path
        for path in (f"tasks/{task}", f"new?from={task}"):
            page = viewer.get(f"/console/{CHAIN}/{path}")
            assert page.status_code == 200, page.text
    for path in ("/tasks?limit=100", "/tasks?campaign_id=5"):
        assert reader.get(path).status_code == 200, path
    for path in ("tasks", "tasks?index=vouchers", "schedules"):
        assert viewer.get(f"/console/{CHAIN}/{path}").status_code == 200, path


@settings(
    max_examples=6,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@example(made=[("export", json.dumps(TRIGGERS[0]), json.dumps({**TARGETS[0], key: None}), "DONE") for key in OPTIONAL])
@given(made=TASKS)
def test_tasks_of_any_trigger_and_target_end_and_delay_no_other(
    service: Longshore,
    small_client: httpx2.Client,
    reader: httpx2.Client,
    viewer: httpx2.Client,
    made: list[tuple[str, ...]],
) -> None:
    tasks = [row["id"] for row in service.sql(INSERT, CHAIN, *map(list, zip(*made, strict=True)))]
    read_all(reader, viewer, tasks)
    neighbour = small_client.post("/tasks", json=export_body(chain=NEIGHBOUR)).json()["id"]
    assert ended(small_client, neighbour, 60)["state"]["code"] == "DONE"
    deadline = time.monotonic() + 90
    while left := service.sql(OPEN, tasks):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    read_all(reader, viewer, tasks)
    for row in service.sql(LOGS, tasks):
        assert row["log_length"] == len(row["log"])
        changes = [index for index, entry in enumerate(row["log"]) if entry.endswith(" -> ERROR")]
        assert all(row["log"][index - 1].startswith(REASONS) for index in changes)
        assert row["state"] != "ERROR" or changes, "an error says why"
    assert all(process.poll() is None for process in service.processes)
    service.sql("delete from longshore.tasks where chain_id = $1", CHAIN)
