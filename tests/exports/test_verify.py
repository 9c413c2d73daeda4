"""A result can be checked without the service: a changed file, a changed manifest and a missing run are found."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from longshore.errors import LongshoreError
from longshore.exports.manifest import SUFFIX
from longshore.exports.verify import verify
from tests.service import Longshore, downloaded, ended, export_body


def three_runs(service: Longshore, folder: Path, **target: Any) -> list[Path]:
    """Return the results of three runs of one task, each in a folder of its own, with their manifests."""
    paths = []
    with service.client() as client:
        body = export_body()
        body["target"] |= target
        task = client.post("/tasks", json=body).json()["id"]
        for run in (1, 2, 3):
            if run > 1:
                client.post(f"/tasks/{task}/execute")
            found = ended(client, task)
            assert found["state"]["code"] == "DONE", found
            path = folder / str(run) / found["result"]
            path.parent.mkdir()
            path.write_bytes(downloaded(client, task))
            path.with_name(path.name + SUFFIX).write_bytes(manifest(client, task, run).content)
            paths.append(path)
    return paths


def manifest(client: httpx2.Client, task: int, run: int) -> httpx2.Response:
    answer = client.get(f"/tasks/{task}/runs/{run}/manifest")
    assert answer.status_code == 200
    return answer


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"csv": {"profile": "excel-eu"}},
        {"csv": {"header": False}},
        {"export_format": "json"},
        {"export_format": "jsonl", "compression": "zstd"},
        {"compression": "gzip"},
        {"export_format": "parquet"},
        {"export_format": "xlsx"},
    ],
)
def test_unchanged_results_of_every_format_pass(service: Longshore, tmp_path: Path, target: Any) -> None:
    paths = three_runs(service, tmp_path, **target)
    assert [found.run for found in verify(reversed(paths))] == [1, 2, 3]
    assert {found.rows for found in verify(paths)} == {20_000}
    assert [found.run for found in verify([*paths, paths[1]])] == [1, 2, 2, 3]  # named twice
    with pytest.raises(LongshoreError, match="is a folder; name the result file"):
        verify([tmp_path])


def test_verify_finds_a_file_with_a_changed_byte(service: Longshore, tmp_path: Path) -> None:
    path = three_runs(service, tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(LongshoreError, match="was changed"):
        verify([path])
    path.write_bytes(content[:-1])
    with pytest.raises(LongshoreError, match="bytes, and must have"):
        verify([path])


def test_a_missing_run_and_a_changed_manifest_are_found(service: Longshore, tmp_path: Path) -> None:
    first, second, third = three_runs(service, tmp_path)
    with pytest.raises(LongshoreError, match=r"run 3 of task .* does not follow run 1"):
        verify([first, third])
    beside = second.with_name(second.name + SUFFIX)
    changed = json.loads(beside.read_text())
    changed["segment"] = {"rules": []}
    beside.write_text(json.dumps(changed))
    with pytest.raises(LongshoreError, match=r"run 3 of task .* does not follow run 2"):
        verify([first, second, third])


def test_the_manifest_of_another_chains_run_is_not_found(service: Longshore) -> None:
    with service.client() as client, service.client(chain=9) as other:
        task = client.post("/tasks", json=export_body()).json()["id"]
        ended(client, task)
        manifest(client, task, 1)
        assert client.get(f"/tasks/{task}/runs/2/manifest").status_code == 404
        assert other.get(f"/tasks/{task}/runs/1/manifest").json()["type"] == "/problems/task-not-found"


def test_relative_rules_are_in_the_manifest_with_their_times(service: Longshore) -> None:
    rule = {
        "field_name": "timestamp",
        "field_type": "date",
        "operator": "relative_less_than",
        "time_factor": "month",
        "time_amount": 1,
    }
    segment = {"entity": "people", "index": "wallet-ledger", "join": "all", "chain_id": 1764, "rules": [rule]}
    with service.client() as client:
        task = client.post("/tasks", json=export_body(segment=segment)).json()["id"]
        ended(client, task)
        found = manifest(client, task, 1).json()["segment"]["rules"][0]
        due = client.get(f"/tasks/{task}/runs").json()[0]["due"]
    assert {key: found[key] for key in rule} == rule
    assert found["to"].startswith(due.removesuffix("Z"))
    assert found["from"] < found["to"]
