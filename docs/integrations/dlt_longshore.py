"""Longshore as a source of dlt: each load takes what became visible since the last one that arrived."""

from collections.abc import Iterator
from typing import Any

import dlt

from longshore import Longshore
from longshore.client import Task


@dlt.source(name="longshore")
def longshore_source(client: Longshore, index: str, primary_key: str = "id") -> Any:
    """The rows of an index as a table of that name, changed rows replacing their older states."""

    @dlt.resource(name=index.replace("-", "_"), write_disposition="merge", primary_key=primary_key)
    def rows() -> Iterator[Any]:
        state = dlt.current.resource_state()
        if "task" in state:
            task = client.tasks.get(state["task"]).execute()
        else:
            task = client.exports.create(index, format="parquet", incremental="on_ack")
            state["task"] = task.id
        task.wait()
        state["run"] = task.runs(limit=1)[0].run
        yield task.to_arrow()

    return rows


def load(pipeline: dlt.Pipeline, client: Longshore, index: str) -> Task:
    """Load the next increment, and acknowledge it once it is in the destination. What fails before is given again."""
    source = longshore_source(client, index)
    pipeline.run(source)
    state = pipeline.state["sources"]["longshore"]["resources"][index.replace("-", "_")]
    task = client.tasks.get(state["task"])
    task.acknowledge(state["run"])
    return task
