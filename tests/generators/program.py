"""Creates an export and follows it to its end, with the client that openapi-python-client makes of the document."""

import json
import os
from datetime import UTC, datetime

from longshore_api import AuthenticatedClient
from longshore_api.api.runs import list_runs
from longshore_api.api.tasks import create_task, get_task
from longshore_api.models import ExportTarget, NewTaskBody, Problem, Rule, RuleOperator, Segment, Task, Trigger
from longshore_api.models.segment_entity import SegmentEntity
from longshore_api.models.segment_join import SegmentJoin

client = AuthenticatedClient(base_url=os.environ["ADDRESS"], token=os.environ["TOKEN"])

segment = Segment(
    entity=SegmentEntity.PEOPLE,
    index="wallet-ledger",
    join=SegmentJoin.ALL,
    chain_id=1764,
    rules=[Rule(field_name="amount", field_type="number", operator=RuleOperator.IS_GREATER_THAN, value=10)],
)
target = ExportTarget(action="export", export_index="wallet-ledger", export_format="csv")
trigger = Trigger(once=datetime(2026, 5, 26, 12, tzinfo=UTC), segment=segment)
body = NewTaskBody(chain=1764, desc="From Python", target=target, trigger=trigger)
task = create_task.sync(client=client, body=body)
assert isinstance(task, Task), task
while task.state.code in ("READY", "INPROGRESS"):
    polled = get_task.sync(task.id, client=client, wait=10)
    assert isinstance(polled, Task), polled
    task = polled
runs = list_runs.sync(task.id, client=client)
assert isinstance(runs, list), runs
assert isinstance(task.target, ExportTarget)

refused = create_task.sync(client=client, body=NewTaskBody(chain=1764, desc=5, target=target, trigger=trigger))
assert isinstance(refused, Problem), refused
assert isinstance(refused.errors, list)
print(
    json.dumps(
        {
            "state": task.state.code,
            "rows": runs[0].rows,
            "index": task.target.export_index,
            "refused": refused.errors[0].detail,
        }
    )
)
