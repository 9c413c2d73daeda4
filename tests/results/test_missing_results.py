"""Whether a result is still there: asked without reading it, and without holding the task meanwhile."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from longshore.destinations.delivery_files import StoredFile
from longshore.destinations.kind import DestinationError
from longshore.results.bucket import BucketStore
from longshore.results.local import LocalStore
from longshore.results.store import StoreUnavailableError
from tests.answers import problem
from tests.results.bucket import BUCKET, Relay
from tests.results.test_bucket import DONE_RUN
from tests.service import CHAIN, Longshore, export_body, further_api

NAME = f"{CHAIN}/1/2/Wallet_Export-1.csv"


def test_existence_of_a_result_is_known_in_a_folder_and_in_a_bucket(bucket: Any, tmp_path: Path) -> None:
    assert bucket
    for store in (LocalStore(tmp_path), BucketStore(f"s3://{BUCKET}")):
        assert not store.exists(NAME)
        with store.create(NAME) as file:
            file.write(b"x")
            file.publish()
        assert store.exists(NAME)
        store.remove(NAME)
        assert not store.exists(NAME)


def test_missing_result_is_missing_whichever_store_is_asked_and_is_no_outage(bucket: Any, tmp_path: Path) -> None:
    assert bucket
    for store in (LocalStore(tmp_path), BucketStore(f"s3://{BUCKET}")):
        with pytest.raises(FileNotFoundError):
            store.open(NAME)
        with pytest.raises(DestinationError, match="the result has expired or was deleted"):
            StoredFile(store, NAME, 1, b"").open()


def test_object_that_is_gone_before_its_attempt_has_read_it_is_a_transient_error(bucket: Any) -> None:
    with BucketStore(f"s3://{BUCKET}").create(NAME) as file:
        file.write(b"x")
        file.finish()
        bucket.delete_object(Bucket=BUCKET, Key=NAME)
        with pytest.raises(StoreUnavailableError):
            file.open()


@pytest.fixture
def over_bucket(bucket: Any, idle_service: Longshore) -> Iterator[Longshore]:
    """The service without a worker, with its results in the bucket behind the relay."""
    assert bucket
    with further_api(idle_service, "missing", results_url=f"s3://{BUCKET}") as longshore:
        yield longshore


def test_a_store_that_does_not_answer_a_delivery_request_holds_no_lock_on_the_task(
    over_bucket: Longshore, bucket: Any, relay: Relay
) -> None:
    target = {**export_body()["target"], "deliver": [{"destination": "somewhere"}]}
    with over_bucket.client() as client, ThreadPoolExecutor(1) as pool:
        task = client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
        location = f"{CHAIN}/{task}/1/Wallet_Export-{task}.csv"
        bucket.put_object(Bucket=BUCKET, Key=location, Body=b"x")
        over_bucket.sql(DONE_RUN, task, location)
        changed = "update longshore.tasks set target = $2 where id = $1"
        over_bucket.sql(changed, task, msgspec.json.encode(target).decode())
        relay.hang = True
        before = relay.seen

        def deliver() -> httpx2.Response:
            return client.post(f"/tasks/{task}/runs/1/deliver", headers={"Idempotency-Key": f"deliver {task}"})

        answer = pool.submit(deliver)
        deadline = time.monotonic() + 30
        while relay.seen == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        over_bucket.sql("select from longshore.tasks where id = $1 for update nowait", task)
        relay.hang = False
        assert answer.result().status_code == 202, answer.result().text
        bucket.delete_object(Bucket=BUCKET, Key=location)
        relay.hang = True  # a repeated request asks the store nothing
        assert deliver().headers["idempotent-replayed"] == "true"
        relay.hang = False
        over_bucket.sql("update longshore.run_deliveries set state = 'failed' where task_id = $1", task)
        problem(client.post(f"/tasks/{task}/runs/1/deliver"), "result-gone")
