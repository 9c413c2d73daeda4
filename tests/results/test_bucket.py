"""Results in a bucket: a real S3 server (moto's) on this machine, plain HTTP downloads, and a network that fails."""

import hashlib
import io
import os
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pyarrow.parquet as pq
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from longshore.access.tokens import Level, Scope
from longshore.api.download_urls import presigned_signer
from longshore.results import bucket as objects
from longshore.results.bucket import BucketStore
from longshore.results.store import AttemptFiles, StoreError, StoreUnavailableError
from longshore.tasks.model import ChainId, TaskId
from tests.access.users import new_user
from tests.answers import violations
from tests.results.bucket import BUCKET, KEY, SECRET, Relay, keys, unfinished
from tests.service import CHAIN, Longshore, ended, export_body

NAME = f"{CHAIN}/1/2/Wallet_Export-1.csv"
DONE_RUN = """
with task as (
    update longshore.tasks
    set state = 'DONE', run = 1, attempt_began_at = now(), due_at = null, result = 'Wallet_Export.csv'
    where id = $1 returning id
)
insert into longshore.runs (task_id, run, first_attempt, attempt, state, began_at, attempt_began_at, progress_at,
                            location, result)
select id, 1, 1, 1, 'DONE', now(), now(), now(), $2, 'Wallet_Export.csv' from task
"""


def store() -> BucketStore:
    return BucketStore(f"s3://{BUCKET}/some/prefix")


def test_a_result_appears_whole_when_its_upload_completes_with_its_manifest_and_its_headers(bucket: Any) -> None:
    block = os.urandom(1 << 20)
    with store().create(NAME) as file:
        for _ in range(20):
            file.write(block)
        assert keys(bucket) == []
        file.publish({".manifest.json": b"{}", ".manifest.json.jws": b"e30..AA"})
    names = {
        "": "text/csv; charset=utf-8",
        ".manifest.json": "application/json",
        ".manifest.json.jws": "application/jose",
    }
    assert keys(bucket) == [f"some/prefix/{NAME}{suffix}" for suffix in names]
    for suffix, media_type in names.items():
        assert bucket.head_object(Bucket=BUCKET, Key=f"some/prefix/{NAME}{suffix}")["ContentType"] == media_type
    head = bucket.head_object(Bucket=BUCKET, Key=f"some/prefix/{NAME}")
    assert head["ETag"].endswith('-3"')  # three parts of 8 MiB
    assert head["ContentDisposition"] == 'attachment; filename="Wallet_Export-1.csv"'
    with store().open(NAME) as opened:
        assert hashlib.sha256(opened.read()).digest() == hashlib.sha256(block * 20).digest()


def test_aborted_upload_leaves_nothing(bucket: Any) -> None:
    with pytest.raises(KeyError), store().create(NAME) as file:
        for _ in range(20):
            file.write(bytes(1 << 20))
        assert unfinished(bucket)
        raise KeyError
    assert (keys(bucket), unfinished(bucket)) == ([], [])


def test_files_of_earlier_attempts_are_removed_except_results(bucket: Any) -> None:
    for key in ("1/2/1/a.csv", "1/2/1/a.csv.manifest.json", "1/2/2/a.csv", "1/2/3/a.csv", "1/20/1/a.csv"):
        bucket.put_object(Bucket=BUCKET, Key=f"some/prefix/{key}", Body=b"x")
    store().remove_abandoned(AttemptFiles(ChainId(1), TaskId(2), 2), ["1/2/2/a.csv"])
    assert keys(bucket) == [f"some/prefix/{key}" for key in ("1/2/2/a.csv", "1/2/3/a.csv", "1/20/1/a.csv")]


def test_a_presigned_address_is_good_for_an_hour_and_signed_as_the_rules_say(bucket: Any, relay: Relay) -> None:
    bucket.put_object(Bucket=BUCKET, Key=f"some/prefix/{NAME}", Body=b"x")
    (address,) = store().presigned_urls([NAME], 3600)
    parts = urlsplit(address)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert (query["X-Amz-Expires"], query["X-Amz-SignedHeaders"]) == ("3600", "host")
    # The signature again, by botocore's own arithmetic, from everything but the signature.
    request = AWSRequest("GET", f"{relay.address}{parts.path}", headers={"host": parts.netloc})
    auth = S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", "us-east-1", expires=3600)
    request.context["timestamp"] = query["X-Amz-Date"]
    request.params = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
    request.url = address.partition("&X-Amz-Signature=")[0]
    canonical = auth.canonical_request(request)
    assert auth.signature(auth.string_to_sign(request, canonical), request) == query["X-Amz-Signature"]


@pytest.mark.parametrize(
    ("region", "host"),
    [("eu-west-1", "s3.eu-west-1.amazonaws.com"), ("cn-north-1", "s3.cn-north-1.amazonaws.com.cn"),
     ("eusc-de-east-1", "s3.eusc-de-east-1.amazonaws.eu")],
)  # fmt: skip
@pytest.mark.usefixtures("relay")
def test_address_of_a_bucket_without_an_endpoint_is_that_of_its_region(
    monkeypatch: pytest.MonkeyPatch, region: str, host: str
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_REGION", region)
    (address,) = store().presigned_urls([NAME], 60)  # which are made without a request
    assert urlsplit(address).netloc == host
    assert urlsplit(address).path == f"/{BUCKET}/some/prefix/{NAME}"


def test_encryption_asked_for_in_the_environment_is_passed_on(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SERVER_SIDE_ENCRYPTION", "AES256")
    with store().create(NAME) as file:
        file.write(b"x")
        file.publish({".manifest.json": b"{}"})
    assert bucket.head_object(Bucket=BUCKET, Key=f"some/prefix/{NAME}")["ServerSideEncryption"] == "AES256"


def test_store_that_does_not_answer_is_unavailable(bucket: Any, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "TIMEOUT", timedelta(seconds=1))
    monkeypatch.setattr(objects, "MAX_RETRIES", 1)
    hung = store()
    relay.hang = True
    with pytest.raises(StoreUnavailableError, match="out of reach"), hung.create(NAME) as file:
        file.write(bytes(100))
        file.publish({".manifest.json": b"{}"})
    relay.hang = False
    assert keys(bucket) == []


def test_a_large_block_waits_for_the_upload_so_that_memory_is_bounded_by_bytes(bucket: Any, relay: Relay) -> None:
    block = bytes(64 << 20)  # a row group of Parquet
    relay.hang = True
    with store().create(NAME) as file:
        writing = threading.Thread(target=file.write, args=(block,))
        writing.start()
        writing.join(3)
        waits = writing.is_alive()
        relay.hang = False
        writing.join()
        file.publish()
    assert waits
    assert bucket.head_object(Bucket=BUCKET, Key=f"some/prefix/{NAME}")["ContentLength"] == len(block)


def test_exports_come_through_a_network_that_drops_one_connection_in_five(
    bucket: Any, relay: Relay, new_service: Callable[..., Longshore]
) -> None:
    service = new_service(2_000, results_url=f"s3://{BUCKET}/exports")
    relay.fail = 5
    service.start("worker")
    service.start_api()
    with service.client() as client:
        for _ in range(3):
            task = ended(client, client.post("/tasks", json=export_body()).json()["id"])
            assert task["state"]["code"] == "DONE", task
            answer = client.get(f"/tasks/{task['id']}/download_url")
            while answer.status_code == 503:  # obstore does not try again after every kind of lost connection
                assert answer.headers["Retry-After"] == "1"
                answer = client.get(f"/tasks/{task['id']}/download_url")
            assert answer.status_code == 200, answer.text
            address = answer.json()["url"]
            curl = ["curl", "-sS", "--retry", "9", "--retry-all-errors", address]
            content = subprocess.run(curl, capture_output=True, check=True).stdout
            run = service.sql("select sha256 from longshore.runs where task_id = $1", task["id"])[0]
            assert hashlib.sha256(content).digest() == run["sha256"]
        relay.fail = 0
        for key in keys(bucket):
            bucket.delete_object(Bucket=BUCKET, Key=key)
        assert client.get(f"/tasks/{task['id']}/download_url").status_code == 410
    assert relay.seen > 5
    assert relay.dropped
    assert service.files() == []


def test_service_with_a_bucket_exports_downloads_and_cleans_up(
    bucket: Any, new_service: Callable[..., Longshore]
) -> None:
    service = new_service(2_000, results_url=f"s3://{BUCKET}/exports")
    service.start("worker")
    service.start_api()
    with service.client() as client:
        task = client.post("/tasks", json=export_body()).json()["id"]
        assert ended(client, task)["state"]["code"] == "DONE"
        assert client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
        manifest = client.get(f"/tasks/{task}/runs/2/manifest").json()
        assert manifest["totals"], "the text was read on its way"
        first, second = (client.get(f"/tasks/{task}/runs/{run}/download_url").json()["url"] for run in (1, 2))
        assert first != second
        contents = [httpx2.get(url).content for url in (first, second)]
        assert contents[0] == contents[1]
        assert hashlib.sha256(contents[0]).hexdigest() == manifest["sha256"]

        # An option that the bucket does not support is refused, not ignored.
        faulty = client.get(f"/tasks/{task}/download_url", params={"max_uses": 1})
        assert list(violations(faulty)) == ["max_uses"]
        short = client.get(f"/tasks/{task}/download_url", params={"expires_in": 60}).json()["url"]
        assert parse_qs(urlsplit(short).query)["X-Amz-Expires"] == ["60"]

        columns = export_body("parquet")
        columns["target"]["fields"] = ["id", "amount", "currency_symbol"]
        parquet = client.post("/tasks", json=columns).json()["id"]
        assert ended(client, parquet)["state"]["code"] == "DONE"
        found = httpx2.get(client.get(f"/tasks/{parquet}/download_url").json()["url"]).content
        assert pq.read_table(io.BytesIO(found)).num_rows == 2_000
        assert client.get(f"/tasks/{parquet}/runs/1/manifest").json()["totals"], "the object was read"

        assert client.delete(f"/tasks/{task}").status_code == 204
        assert {key.split("/")[2] for key in keys(bucket)} == {str(parquet)}
    assert service.files() == []


@pytest.mark.usefixtures("bucket")
def test_presigned_addresses_end_together_whenever_they_are_signed() -> None:
    signer = presigned_signer(store(), 2)
    lives = set()
    with pytest.raises(StoreError):
        for _ in range(500):
            (url,) = signer.sign([NAME])
            lives.add(int(parse_qs(urlsplit(url).query)["X-Amz-Expires"][0]))
            time.sleep(0.01)
    assert lives == {1, 2}


def test_presigned_address_ends_no_later_than_the_credential_that_asked_for_it(
    bucket: Any, idle_service: Longshore
) -> None:
    over_bucket = Longshore(idle_service.data, idle_service.url, results_url=f"s3://{BUCKET}", session_life="86400")
    over_bucket.log_file = idle_service.data / "bucket.log"
    try:
        over_bucket.start_api()
        with over_bucket.client() as owner:
            task = owner.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
        location = f"{CHAIN}/{task}/1/Wallet_Export-{task}.csv"
        bucket.put_object(Bucket=BUCKET, Key=location, Body=b"x")
        idle_service.sql(DONE_RUN, task, location)

        def life(headers: dict[str, str], **asked: int) -> int:
            path = f"{over_bucket.address}/tasks/{task}/download_url"
            answer = httpx2.get(path, params=asked, headers=headers)
            assert answer.status_code == 200, answer.text
            return int(parse_qs(urlsplit(answer.json()["url"]).query)["X-Amz-Expires"][0])

        def bearer(seconds: int | None) -> dict[str, str]:
            expires = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
            return {"Authorization": f"Bearer {over_bucket.token(Level.READ, scope=Scope(expires=expires))}"}

        assert life(bearer(None)) == 3600
        assert life(bearer(7200)) == 3600
        assert 800 < life(bearer(900)) <= 900
        assert life(bearer(900), expires_in=60) == 60
        user = new_user(over_bucket, _1764=Level.READ)
        session = user.session()
        assert life(session) == 3600
        began = "update longshore.sessions set created_at = now() - interval '23 hours 50 minutes' where user_id = $1"
        idle_service.sql(began, user.id)
        assert 500 < life(session) <= 600
    finally:
        over_bucket.stop()


def test_files_that_no_row_names_are_found_by_age_and_removed(bucket: Any) -> None:
    for key in ("1/2/1/a.csv", "1/2/1/a.csv.manifest.json", "1/2/2/a.csv", "1/3/1/a.csv", "notes.txt"):
        bucket.put_object(Bucket=BUCKET, Key=f"some/prefix/{key}", Body=b"x")
    places = {(place.chain, place.task, place.attempt) for place in store().attempts(time.time() + 60)}
    assert places == {(1, 2, 1), (1, 2, 2), (1, 3, 1)}
    assert store().attempts(time.time() - 60) == []
    store().remove_attempt(AttemptFiles(ChainId(1), TaskId(2), 1))
    store().remove("1/3/1/a.csv")
    assert keys(bucket) == [f"some/prefix/{key}" for key in ("1/2/2/a.csv", "notes.txt")]
    store().remove_task(ChainId(1), TaskId(2))
    assert keys(bucket) == ["some/prefix/notes.txt"]
