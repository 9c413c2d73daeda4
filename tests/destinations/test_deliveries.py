"""Deliveries of files, from the request to the evidence."""

import hashlib
from pathlib import Path

import httpx2

from longshore.destinations import DestinationError
from longshore.worker.delivery_runner import describe_error
from tests.destinations.folder import WRITES
from tests.destinations.places import add_place, created, delivered_body, deliveries_of, reached, settled
from tests.faults.held import messages
from tests.service import Longshore, downloaded, ended


def test_run_is_done_once_its_files_lie_at_every_destination_and_were_read_back(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    one, other = (add_place(service, tmp_path, chain=1765) for _ in range(2))
    path = "in/{date}/{task}-{run}/{name}"
    body = delivered_body({"destination": one.name}, {"destination": other.name, "path": path}, chain=1765)
    task = ended(small_client, created(small_client, body))
    assert task["state"]["code"] == "DONE", task["logs"]
    name, day = task["result"], small_client.get(f"/tasks/{task['id']}/runs/1").json()["interval"]["end"][:10]
    result = downloaded(small_client, task["id"])
    manifest = small_client.get(f"/tasks/{task['id']}/runs/1/manifest").content
    signature = small_client.get(f"/tasks/{task['id']}/runs/1/manifest.jws").content
    for place, prefix in ((one, f"wallet-ledger/{day}/1-"), (other, f"in/{day}/{task['id']}-1/")):
        found = place.files()
        assert found[prefix + name] == result
        assert found[f"{prefix}{name}.manifest.json"] == manifest
        assert found[f"{prefix}{name}.manifest.json.jws"] == signature
        order = [name, f"{name}.manifest.json.jws", f"{name}.manifest.json"]
        assert [each["path"] for each in place.noted(WRITES)] == [prefix + each for each in order]
    listed = deliveries_of(small_client, task["id"])
    assert [each["destination"] for each in listed] == [one.name, other.name]
    for each in listed:
        assert (each["state"], each["attempts"], each["error"]) == ("delivered", 1, None)
        digest = hashlib.sha256(result).hexdigest()
        assert each["evidence"] == {"files": 1, "bytes": len(result), "sha256": digest}
        assert each["address"].endswith(name)
    message = messages(task)
    assert message[0] == "READY -> INPROGRESS"
    assert message[2] == f"delivering to {one.name}, {other.name}"
    assert sorted(message[3:5]) == sorted(f"delivered to {each['destination']}: {each['address']}" for each in listed)
    assert message[-1] == "INPROGRESS -> DONE"


def test_result_of_many_files_lies_at_the_destination_as_its_manifest_names_it(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    place = add_place(service, tmp_path, chain=1765)
    several = {"export_indexes": ["wallet-ledger", "users"], "split": {"rows": 700}}
    body = delivered_body({"destination": place.name, "path": "{index}/{run}/{name}"}, target=several, chain=1765)
    del body["target"]["export_index"]
    task = ended(small_client, created(small_client, body))
    assert task["state"]["code"] == "DONE", task["logs"]
    manifest = small_client.get(f"/tasks/{task['id']}/runs/1/manifest")
    found = place.files()
    assert found.pop(f"bundle/1/{task['result']}") == manifest.content
    listed = {f"bundle/1/{each['path']}": each["sha256"] for each in manifest.json()["files"]}
    assert len(listed) > 3
    assert {path: hashlib.sha256(data).hexdigest() for path, data in found.items() if path in listed} == listed
    evidence = {"files": len(listed), "bytes": manifest.json()["bytes"]}
    evidence["sha256"] = hashlib.sha256(manifest.content).hexdigest()
    assert deliveries_of(small_client, task["id"])[0]["evidence"] == evidence


def test_failed_delivery_stops_no_other_and_a_later_one_makes_the_task_done(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    good, bad = (add_place(service, tmp_path, chain=1765) for _ in range(2))
    bad.faults(refused="the key may not write here")
    entries = [{"destination": good.name}, {"destination": bad.name}]
    task = ended(small_client, created(small_client, delivered_body(*entries, chain=1765)))
    assert task["state"]["code"] == "ERROR"
    assert task["result"] == ""
    assert f"delivery to {bad.name} failed: the key may not write here" in messages(task)
    states = {each["destination"]: (each["state"], each["error"]) for each in deliveries_of(small_client, task["id"])}
    assert states == {good.name: ("delivered", None), bad.name: ("failed", "the key may not write here")}
    assert small_client.get(f"/tasks/{task['id']}/download_url").status_code == 409
    assert small_client.get(f"/tasks/{task['id']}/runs/1/download_url").status_code == 200
    assert small_client.get(f"/tasks/{task['id']}/runs/1").json()["state"] == "ERROR"

    bad.faults()
    answer = small_client.post(f"/tasks/{task['id']}/runs/1/deliver", headers={"Idempotency-Key": "again"})
    assert answer.status_code == 202, answer.text
    assert [each["destination"] for each in answer.json()] == [bad.name, bad.name, good.name], "only what lacks it"
    again = reached(small_client, task["id"], "DONE")
    assert messages(again)[-1] == "ERROR -> DONE"
    assert again["result"]
    assert small_client.get(f"/tasks/{task['id']}/runs/latest").json()["run"] == 1
    assert {data for path, data in bad.files().items() if path.endswith(".csv")} == {
        downloaded(small_client, task["id"])
    }
    repeated = small_client.post(f"/tasks/{task['id']}/runs/1/deliver", headers={"Idempotency-Key": "again"})
    assert repeated.headers["Idempotent-Replayed"] == "true"
    assert len(repeated.json()) == 3


def test_delivery_of_a_run_that_lacks_none_goes_to_all_destinations(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    places = [add_place(service, tmp_path, chain=1765) for _ in range(2)]
    task = ended(
        small_client,
        created(small_client, delivered_body(*({"destination": each.name} for each in places), chain=1765)),
    )
    assert task["state"]["code"] == "DONE"
    for each in places:
        for path in each.files():
            (each.folder / path).unlink()
    assert small_client.post(f"/tasks/{task['id']}/runs/latest/deliver").status_code == 202
    settled(small_client, task["id"])
    assert [each["state"] for each in deliveries_of(small_client, task["id"])] == ["delivered"] * 4
    assert all(len(each.files()) == 3 for each in places)
    assert reached(small_client, task["id"], "DONE")["state"]["code"] == "DONE"


def test_destination_that_is_made_anew_under_the_name_of_a_deleted_one_lacks_what_that_one_had(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    kept, old = (add_place(service, tmp_path, chain=1765) for _ in range(2))
    entries = [{"destination": each.name} for each in (kept, old)]
    task = ended(small_client, created(small_client, delivered_body(*entries, chain=1765)))
    assert task["state"]["code"] == "DONE"
    service.sql("delete from longshore.destinations where name = $1", old.name)
    new = add_place(service, tmp_path, chain=1765, name=old.name)
    assert small_client.post(f"/tasks/{task['id']}/runs/1/deliver").status_code == 202
    states = [(each["destination"], each["state"]) for each in settled(small_client, task["id"])]
    assert states == [(kept.name, "delivered"), (old.name, "delivered"), (old.name, "delivered")], "only the new one"
    assert new.files() == old.files()


def test_file_that_differs_at_the_destination_ends_the_run_in_error_that_says_how(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    place = add_place(service, tmp_path, chain=1765)
    place.faults(corrupt=True)
    task = ended(small_client, created(small_client, delivered_body({"destination": place.name}, chain=1765)))
    assert task["state"]["code"] == "ERROR"
    (failed,) = deliveries_of(small_client, task["id"])
    size = small_client.get(f"/tasks/{task['id']}/runs/1").json()["bytes"]
    assert f"has {size - 1:,} bytes, and Wallet_Export-{task['id']}.csv has {size:,}" in failed["error"]
    assert not any(path.endswith("manifest.json") for path in place.files()), "no manifest says that it is there"


def test_file_of_another_run_is_replaced_only_where_the_target_says_so(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    place = add_place(service, tmp_path, chain=1765)
    entry = {"destination": place.name, "path": "newest/{name}", "overwrite": True}
    task = ended(small_client, created(small_client, delivered_body(entry, chain=1765)))
    executed = small_client.post(f"/tasks/{task['id']}/execute")
    assert executed.status_code == 202, "the result is being delivered"
    assert executed.json()["code"] == "INPROGRESS"
    assert reached(small_client, task["id"], "DONE")
    manifest = small_client.get(f"/tasks/{task['id']}/runs/2/manifest").content
    assert place.files()[f"newest/{task['result']}.manifest.json"] == manifest
    refused = small_client.post(f"/tasks/{task['id']}/runs/1/deliver")
    assert refused.status_code == 409, "the files of an earlier run would replace those of a later one"
    assert refused.json()["type"].endswith("later-run-delivered")


def test_run_fails_at_once_where_its_destination_was_deleted(
    service: Longshore, small_client: httpx2.Client, tmp_path: Path
) -> None:
    place = add_place(service, tmp_path, chain=1765)
    body = delivered_body({"destination": place.name}, once="2126-05-26T12:00:00Z", chain=1765)
    id = created(small_client, body)
    service.sql("delete from longshore.destinations where name = $1", place.name)
    assert small_client.post(f"/tasks/{id}/execute").status_code in (200, 202)
    task = reached(small_client, id, "ERROR")
    assert any(f'has no destination "{place.name}"' in message for message in messages(task))


def test_reason_of_a_failed_delivery_names_no_file_of_the_machine() -> None:
    error = FileNotFoundError(2, "No such file or directory", "/var/lib/longshore/results/1764/12/1/a.csv")
    assert describe_error(error) == "FileNotFoundError: No such file or directory"
    assert describe_error(TimeoutError()) == "the destination did not answer in time"
    assert describe_error(DestinationError("no such bucket")) == "no such bucket"
