"""The list `deliver` of a target: violations are named with their place, and templates make paths."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore.errors import LongshoreError
from longshore.exports.target.deliver import Deliver, TemplateValues, check_template, delivery_place, path_of
from longshore.tasks.model import Interval
from tests.answers import violations
from tests.destinations.places import Place, add_place, delivered_body
from tests.service import Longshore, export_body

FACTS = TemplateValues(
    chain=1764,
    task=12,
    run=7,
    index="wallet-ledger",
    result="Wallet_Export-12.csv",
    interval=Interval(None, datetime(2026, 5, 26, 23, tzinfo=UTC)),
    zone="Europe/Amsterdam",
)
MANY = TemplateValues(**{**{key: getattr(FACTS, key) for key in FACTS.__struct_fields__}, "result": "a.manifest.json"})
FAR = "2126-05-26T12:00:00Z"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (None, "wallet-ledger/2026-05-27/7-{name}"),
        ("{chain}/{task}/{run}/{name}", "1764/12/7/{name}"),
        ("y={interval_end:%Y}/{interval_end:%m-%dT%H}/{run}_{name}", "y=2026/05-27T01/7_{name}"),
    ],
)
def test_template_is_filled_with_the_facts_of_the_run_in_the_zone_of_its_trigger(
    path: str | None, expected: str
) -> None:
    entry = Deliver("warehouse", path=path)
    assert check_template(entry) is None
    assert delivery_place(entry, FACTS) == expected


def test_many_files_have_a_folder_of_their_own_by_default() -> None:
    place = delivery_place(Deliver("warehouse"), MANY)
    assert path_of(place, "users/part-00001.csv") == "wallet-ledger/2026-05-27/12-7/users/part-00001.csv"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../{run}{name}", "relative path"), ("/{run}/{name}", "relative path"), ("a//{run}{name}", "relative path"),
        ("a/./{run}{name}", "relative path"), ("{run}{name}/", "relative path"), ("a/ /{run}{name}", "relative path"),
        ("{interval_end:../}{run}{name}", "relative path"), ("{interval_end:/%Y}/{run}{name}", "relative path"),
        (".../{run}-{name}", "of dots and spaces alone"),
        ("a\\{run}{name}", "expected letters"), ("{run}{name}\n", "expected letters"),
        ("é/{run}{name}", "expected letters"),
        ("{{run}}{name}", "expected letters"), ("{run}}{name}", "expected letters"),
        ("{region}/{run}{name}", "{region} is not known"), ("{interval_end:%c}{run}{name}", "expected a format of"),
        ("{interval_end:}{run}{name}", "expected a format of"), ("{interval_end:%}{run}{name}", "expected a format of"),
        ("{run}{name}{name}", "once, at the end"), ("{name}/{run}", "once, at the end"),
        ("{run}-{name}.bak", "once, at the end"), ("{run}/{name}/{name}", "once, at the end"),
        ("{run}/data.csv", "lacks {name}"), ("{date}/{name}", "has no {run}"),
    ],
)  # fmt: skip
def test_template_that_could_lead_elsewhere_or_mix_files_is_refused(path: str, message: str) -> None:
    assert message in (check_template(Deliver("warehouse", path=path)) or "nothing")


def test_many_files_lie_below_the_folder_of_their_manifest() -> None:
    for path in ("{run}-{name}", "a/{run}{name}"):
        assert "after a slash" in (check_template(Deliver("warehouse", path=path), many_files=True) or "nothing")
    for path in ("{run}/{name}", "a/{task}-{run}/{name}"):
        assert check_template(Deliver("warehouse", path=path), many_files=True) is None
    assert check_template(Deliver("warehouse", path="{name}", overwrite=True), many_files=True) is None


def test_path_that_no_store_takes_is_an_error() -> None:
    with pytest.raises(LongshoreError, match="more than 1,000 bytes"):
        path_of("a/{name}", "x" * 1000)


@pytest.fixture(scope="module")
def files(idle_service: Longshore, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return add_place(idle_service, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def tables(idle_service: Longshore, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return add_place(idle_service, tmp_path_factory.mktemp("tables"), "folder-table")


TABLE = {"table": "ledger", "mode": "append"}
MERGE = {"table": "ledger", "mode": "merge"}
ON_ACK = {"incremental": "on_ack"}


@pytest.mark.parametrize(
    ("entry", "target", "expected"),
    [
        (TABLE, {}, {}),
        (TABLE, {"export_format": "parquet"}, {}),
        (TABLE, ON_ACK, {}),
        (MERGE, {"incremental": True}, {}),
        (MERGE, {"incremental": "on_ack", "deletes": True}, {}),
        ({"table": "ledger", "mode": "replace"}, {}, {}),
        ({"table": "ledger", "mode": "replace"}, ON_ACK, {"mode": "`replace` would leave"}),
        (TABLE, {"incremental": True}, {"mode": "`append` would repeat"}),
        (TABLE, ON_ACK | {"deletes": True}, {"mode": "list of changes"}),
        (MERGE, {"fields": ["amount"]}, {"mode": "missing: id"}),
        ({"table": "ledger"}, {}, {"mode": "is required"}),
        ({"mode": "append"}, {}, {"table": "is required"}),
        (TABLE | {"path": "{run}{name}"}, {}, {"path": "is for files"}),
        (TABLE, {"export_format": "jsonl"}, {"table": "takes parquet, or csv"}),
        (TABLE, {"compression": "gzip"}, {"table": "takes parquet, or csv"}),
        (TABLE, {"csv": {"delimiter": ";"}}, {"table": "takes parquet, or csv"}),
        (TABLE, {"split": {"rows": 9}}, {"table": "takes a result of one file"}),
        (TABLE, {"partition_by": [{"field": "kind"}]}, {"table": "takes a result of one file"}),
        (TABLE, {"export_index": None, "export_indexes": ["users"]}, {"table": "takes a result of one file"}),
        ({"table": "a b", "mode": "append"}, {}, {"table": "expected"}),
        (TABLE | {"table": "_Longshore_Deliveries"}, {}, {"table": "reserved"}),
        (TABLE | {"table": "PG_class"}, {}, {"table": "reserved"}),
        ({}, {}, {"table": "takes tables"}),
    ],
)
def test_entry_for_a_table_has_to_fit_the_result(
    idle_client: httpx2.Client, tables: Place, entry: dict[str, Any], target: dict[str, Any], expected: dict[str, str]
) -> None:
    body = delivered_body({"destination": tables.name} | entry, target=target, once=FAR)
    body["target"] = {key: value for key, value in body["target"].items() if value is not None}
    answer = idle_client.post("/tasks", json=body)
    if not expected:
        assert answer.status_code == 201, answer.text
        return
    found = violations(answer)
    for key, message in expected.items():
        assert message in found[f"/target/deliver/0/{key}"], found


def test_violations_of_entries_are_named_together_with_all_others(idle_client: httpx2.Client, files: Place) -> None:
    entries = [
        {"destination": "nowhere"},
        {"destination": files.name, "path": "x"},
        {"destination": files.name} | TABLE,
    ]
    found = violations(idle_client.post("/tasks", json=delivered_body(*entries, target={"export_index": "wallets"})))
    assert 'this chain has no destination "nowhere"' in found["/target/deliver/0/destination"]
    assert "lacks {name}" in found["/target/deliver/1/path"]
    assert "takes files" in found["/target/deliver/2/table"]
    assert "/target/export_index" in found


@pytest.mark.parametrize(
    ("deliver", "place"),
    [([], "/target/deliver"), ({}, "/target/deliver"), ([{"destination": 1}], "/target/deliver/0/destination")],
)
def test_malformed_list_is_refused(idle_client: httpx2.Client, deliver: Any, place: str) -> None:
    body = export_body()
    body["target"]["deliver"] = deliver
    assert place in violations(idle_client.post("/tasks", json=body))


def test_same_place_is_named_once_and_deletes_need_acknowledgements(idle_client: httpx2.Client, files: Place) -> None:
    twice = [{"destination": files.name}, {"destination": files.name}]
    found = violations(
        idle_client.post("/tasks", json=delivered_body(*twice, target={"incremental": True, "deletes": True}))
    )
    assert "same place" in found["/target/deliver/1"]
    assert "on_ack" in found["/target/deliver"]


def test_destination_of_another_chain_is_unknown(
    idle_service: Longshore, idle_client: httpx2.Client, tmp_path: Path
) -> None:
    theirs = add_place(idle_service, tmp_path, chain=9)
    found = violations(idle_client.post("/tasks", json=delivered_body({"destination": theirs.name})))
    assert "no destination" in found["/target/deliver/0/destination"]


def test_task_that_replaces_a_table_runs_no_old_interval(idle_client: httpx2.Client, tables: Place) -> None:
    entry = {"destination": tables.name, "table": "ledger", "mode": "replace"}
    body = delivered_body(entry, once="2026-05-01T00:00:00Z", repeat="daily")
    task = idle_client.post("/tasks", json=body).json()["id"]
    times = {"start": "2026-05-01T00:00:00Z", "end": "2026-05-03T00:00:00Z"}
    for path, sent in (("backfill", times), ("execute", {"interval_end": "2026-05-02T00:00:00Z"})):
        answer = idle_client.post(f"/tasks/{task}/{path}", json=sent)
        assert answer.json()["type"].endswith("/no-intervals"), answer.text
