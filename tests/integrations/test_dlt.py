"""The pipeline of the docs, run by dlt: in batches, with deletes, and with nothing lost by a load that fails."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from longshore.client import Longshore as Client
from tests.integrations.programs import EXAMPLES, Program, connection_of
from tests.service import CHAIN, Longshore

COLUMNS = "id, first_name, _deleted"
SMALL_BATCHES = """
import longshore.integrations.dlt
longshore.integrations.dlt.BATCH_ROWS = 300
"""
FAILING = """
def failing(*_, **__):
    raise RuntimeError("the destination is away")

pipeline.load = failing
"""
EXAMPLE = (EXAMPLES / "dlt_pipeline.py").read_text()


class Dlt(Program):
    """Python with dlt, in a folder with a pipeline."""

    def __init__(self, service: Longshore, folder: Path) -> None:
        super().__init__(
            "dlt", "python", folder, **connection_of(service), DLT_DATA_DIR=str(folder / "data"),
            RUNTIME__DLTHUB_TELEMETRY="false",
        )  # fmt: skip
        self.service = service

    def load(self, program: str = EXAMPLE, *, fails: bool = False) -> str:
        """Run a pipeline, with batches that are smaller than the result."""
        (self.folder / "pipeline.py").write_text(SMALL_BATCHES + program)
        return self.run("pipeline.py", fails=fails)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of the loaded table."""
        with duckdb.connect(str(self.folder / "loyalty.duckdb"), read_only=True) as connection:
            return connection.execute(f"select {COLUMNS} from exports.users order by id").fetchall()

    def source(self) -> list[tuple[Any, ...]]:
        """Return the rows that the table is to have."""
        found = self.service.sql("select id, first_name from loyalty.users where chain_id = $1 order by id", CHAIN)
        return [(row["id"], row["first_name"], False) for row in found]


@pytest.fixture
def pipeline(service: Longshore, tmp_path: Path) -> Dlt:
    return Dlt(service, tmp_path)


def loads(service: Longshore) -> list[int]:
    """Return the numbers of the tasks that loads have created and not deleted."""
    with Client(service.address, service.token(), chain=CHAIN) as client:
        return [task.id for task in client.tasks.iterate() if task.data.target.get("deletes")]


def test_loads_keep_a_table_that_equals_its_source_with_changes_and_deletes(service: Longshore, pipeline: Dlt) -> None:
    before = loads(service)
    pipeline.load()
    first = pipeline.source()
    assert pipeline.rows() == first
    assert len(first) > 600  # three batches
    (gone, _, _), (changed, name, _) = first[:2]
    service.sql("update loyalty.users set chain_id = 4242 where id = $1", gone)
    service.sql("update loyalty.users set first_name = 'loaded by dlt' where id = $1", changed)
    try:
        assert "2 changes of run 2" in pipeline.load()
        assert pipeline.rows() == pipeline.source() == [(changed, "loaded by dlt", False), *first[2:]]
    finally:
        service.sql("update loyalty.users set chain_id = $2 where id = $1", gone, CHAIN)
        service.sql("update loyalty.users set first_name = $2 where id = $1", changed, name)
    pipeline.load()
    assert pipeline.rows() == first
    [task] = set(loads(service)) - set(before)
    with Client(service.address, service.token(), chain=CHAIN) as client:
        runs = client.tasks.get(task).runs()
        assert [run.full for run in runs] == [False, False, True]
        assert all(run.increment and run.increment["acknowledged"] for run in runs)


def test_changes_of_a_load_that_fails_come_with_the_next_one(service: Longshore, pipeline: Dlt) -> None:
    before = loads(service)
    head, _, tail = EXAMPLE.partition("with Longshore()")
    failing = f"{head}{FAILING}with Longshore(){tail}"
    pipeline.load(failing, fails=True)
    assert loads(service) == before  # the first load has created a task, and deleted it
    pipeline.load()
    changed, name, _ = pipeline.source()[0]
    service.sql("update loyalty.users set first_name = 'came later' where id = $1", changed)
    try:
        assert "the destination is away" in pipeline.load(failing, fails=True)
        pipeline.load()
        assert pipeline.rows() == pipeline.source()
        assert pipeline.rows()[0][1] == "came later"
    finally:
        service.sql("update loyalty.users set first_name = $2 where id = $1", changed, name)


def test_task_of_something_else_that_has_the_number_of_the_loads_task_is_left_alone(
    service: Longshore, pipeline: Dlt
) -> None:
    before = loads(service)
    pipeline.load()
    [task] = set(loads(service)) - set(before)
    with Client(service.address, service.token(), chain=CHAIN) as client:
        # As after a restore of the service, where the number was given once more.
        target = "target = (target::jsonb - 'deletes' - 'incremental')::json"
        service.sql(f"update longshore.tasks set {target} where id = $1", task)
        runs = len(client.tasks.get(task).runs())
        pipeline.load()
        assert len(client.tasks.get(task).runs()) == runs
    assert pipeline.rows() == pipeline.source()


def test_load_after_its_task_was_deleted_replaces_the_table(service: Longshore, pipeline: Dlt) -> None:
    before = loads(service)
    pipeline.load()
    [task] = set(loads(service)) - set(before)
    with Client(service.address, service.token(), chain=CHAIN) as client:
        client.tasks.get(task).delete()
    pipeline.load()
    assert pipeline.rows() == pipeline.source()
