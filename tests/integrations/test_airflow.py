"""The operator in Airflow, by `airflow dags test` and the DAG of the docs."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from longshore.client import Longshore as Client
from tests.integrations.programs import EXAMPLES, Program, tasks_created
from tests.locks import locked
from tests.service import CHAIN, Longshore

pytestmark = pytest.mark.timeout(900)

ZONE = ZoneInfo("Europe/Amsterdam")
FAILS_ONCE = '''
class FailsOnce(LongshoreExportOperator):
    """Fails after the export of its first try."""

    def finish(self, context, event):
        if context["ti"].try_number == 1:
            raise RuntimeError("the first try fails")
        return super().finish(context, event)


@dag('''


class Airflow(Program):
    """Airflow with the DAG of the docs, and with variants of it."""

    def __init__(self, service: Longshore, home: Path) -> None:
        connection = {
            "conn_type": "http", "host": service.address, "password": service.token(), "extra": {"chain": CHAIN},
        }  # fmt: skip
        super().__init__(
            "airflow", "airflow", home, AIRFLOW_HOME=str(home), AIRFLOW__CORE__LOAD_EXAMPLES="false",
            AIRFLOW_CONN_LONGSHORE=json.dumps(connection),
        )  # fmt: skip
        self.results = home / "ledger"
        self.results.mkdir()
        (home / "dags").mkdir()
        example = (EXAMPLES / "airflow_dag.py").read_text().replace("/data/ledger", str(self.results))
        example = example.replace("retries=2", "retries=0")  # its pause of minutes would be waited for
        self.add("nightly_ledger", example)
        self.add("missing_folder", example.replace(str(self.results), str(home / "missing")))
        self.add("no_interval", example.replace("CronDataIntervalTimetable", "CronTriggerTimetable")
                 .replace("timetables.interval", "timetables.trigger"))  # fmt: skip
        fails = example.replace("@dag(", FAILS_ONCE.lstrip(), 1).replace("= LongshoreExportOperator(", "= FailsOnce(")
        self.add("fails_once", fails.replace("retries=0", "retries=1, retry_delay=0"))
        self.run("db", "migrate")

    def add(self, name: str, text: str) -> None:
        """Add a DAG."""
        (self.folder / "dags" / f"{name}.py").write_text(text.replace("nightly_ledger", name))

    def test(self, name: str, day: datetime, *, fails: bool = False) -> str:
        """Run a DAG for the data interval of a day."""
        moment = day + timedelta(days=1, minutes=30)
        return self.run("dags", "test", name, moment.isoformat(), fails=fails)

    def ids(self, day: datetime) -> list[int]:
        """Return the ids of the rows that a DAG has exported for a day, and delete their file."""
        file = self.results / f"{day:%Y-%m-%d}.parquet"
        found: list[int] = pq.read_table(file)["id"].to_pylist()
        file.unlink()
        return found


@pytest.fixture(scope="module")
def airflow(service: Longshore, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(service, tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def days(service: Longshore) -> list[datetime]:
    """Days in Amsterdam that have rows, one for each test."""
    found = service.sql(
        "select distinct (timestamp at time zone 'Europe/Amsterdam')::date as day from loyalty.wallet_ledger"
        " where chain_id = $1 and timestamp < now() - interval '3 days' order by 1 desc limit 9", CHAIN,
    )  # fmt: skip
    return [datetime(row["day"].year, row["day"].month, row["day"].day, tzinfo=ZONE) for row in found]


def rows_of(service: Longshore, day: datetime) -> list[int]:
    """Return the ids of the source's rows of a day."""
    where = "chain_id = $1 and timestamp >= $2 and timestamp < $3"
    found = service.sql(
        f"select id from loyalty.wallet_ledger where {where} order by id", CHAIN, day, day + timedelta(days=1)
    )
    assert found
    return [row["id"] for row in found]


def test_dag_exports_the_rows_of_its_data_interval_and_once_also_when_it_is_cleared(
    service: Longshore, airflow: Airflow, days: list[datetime]
) -> None:
    day = days[0]
    before = tasks_created(service)
    airflow.test("nightly_ledger", day)
    created = tasks_created(service)
    assert len(created) == len(before) + 1
    assert airflow.ids(day) == rows_of(service, day)
    output = airflow.test("nightly_ledger", day)  # which clears the run of this day, and begins it again
    assert tasks_created(service) == created
    assert f"rows of task {created[-1]} in " in output
    assert airflow.ids(day) == rows_of(service, day)


def test_retry_downloads_the_result_of_the_try_before_instead_of_exporting_twice(
    service: Longshore, airflow: Airflow, days: list[datetime]
) -> None:
    before = tasks_created(service)
    output = airflow.test("fails_once", days[1])
    assert "the first try fails" in output
    assert len(tasks_created(service)) == len(before) + 1
    assert airflow.ids(days[1]) == rows_of(service, days[1])


def test_cleared_dag_exports_again_after_its_export_was_cancelled_or_deleted(
    service: Longshore, airflow: Airflow, days: list[datetime]
) -> None:
    day = days[2]
    before = tasks_created(service)
    with Client(service.address, service.token(), chain=CHAIN) as client:
        with locked(service.url, "loyalty.wallet_ledger"):
            moment = (day + timedelta(days=1, minutes=30)).isoformat()
            with airflow.start("dags", "test", "nightly_ledger", moment) as process:
                assert process.stdout
                for line in process.stdout:
                    if "is READY" in line or "is INPROGRESS" in line:
                        break
                [created] = set(tasks_created(service)) - set(before)
                client.tasks.get(created).cancel()
                process.communicate(timeout=280)
            assert process.returncode != 0
        airflow.test("nightly_ledger", day)
        assert airflow.ids(day) == rows_of(service, day)
        assert [run.state for run in client.tasks.get(created).runs()] == ["DONE", "ERROR"]
        client.tasks.get(created).delete()
        airflow.test("nightly_ledger", day)
        assert airflow.ids(day) == rows_of(service, day)


@pytest.mark.parametrize(
    ("dag", "words"),
    [
        ("missing_folder", "missing' does not exist"),
        ("no_interval", "this DAG run has no data interval"),
    ],
)
def test_dag_that_cannot_succeed_fails_before_anything_is_exported(
    service: Longshore, airflow: Airflow, days: list[datetime], dag: str, words: str
) -> None:
    before = tasks_created(service)
    assert words in airflow.test(dag, days[3], fails=True)
    assert tasks_created(service) == before
