"""Credentials for a bucket: one set from AWS's standard chain for all requests, and a clear end of what is refused."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from longshore.api.download_urls import presigned_signer
from longshore.database.connect import open_pool
from longshore.results import aws
from longshore.results.bucket import BucketStore
from longshore.results.store import StoreError, StoreUnavailableError
from longshore.worker.cleanup import Cleanup
from tests.results.bucket import BUCKET, Relay, keys
from tests.results.refusing import Server
from tests.service import CHAIN, Longshore, ended, export_body, in_own_loop

NAME = f"{CHAIN}/1/2/Wallet_Export-1.csv"
PROFILE = "[other]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = s\n"


def store() -> BucketStore:
    return BucketStore(f"s3://{BUCKET}/some/prefix")


@pytest.fixture
def server_of_answers() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def refusing(bucket: Any, monkeypatch: pytest.MonkeyPatch, server_of_answers: Server) -> Server:
    assert bucket
    monkeypatch.setenv("AWS_ENDPOINT_URL", server_of_answers.address)
    return server_of_answers


def signers_of_everything(relay: Relay) -> set[str]:
    """Do all that is done with a bucket, and give the access keys that its requests were signed with."""
    with store().create(NAME) as file:
        file.write(b"x")
        file.publish({".manifest.json": b"{}"})
    made = store()
    assert made.bucket is not None
    upload = made.bucket.begin(NAME)
    made.bucket.call("abort_multipart_upload", NAME, UploadId=upload)
    (address,) = made.presigned_urls([NAME], 60)
    made.remove(NAME)
    (credential,) = parse_qs(urlsplit(address).query)["X-Amz-Credential"]
    return relay.signers | {credential.partition("/")[0]}


def test_a_profile_of_the_shared_files_signs_every_request(
    bucket: Any, relay: Relay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(PROFILE)
    (tmp_path / "config").write_text(f"[profile other]\nregion = eu-west-1\nendpoint_url = {relay.address}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert signers_of_everything(relay) == {"AKIDOTHER"}
    assert not store().exists(NAME), "it was removed"
    assert keys(bucket) == []


def test_a_role_of_a_container_signs_every_request(
    bucket: Any, relay: Relay, monkeypatch: pytest.MonkeyPatch, server_of_answers: Server
) -> None:
    assert bucket
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    server_of_answers.give_role("ASIAOFTHEROLE")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server_of_answers.address}/role")
    assert signers_of_everything(relay) == {"ASIAOFTHEROLE"}


def test_presigned_address_says_that_it_ends_with_the_credentials_of_a_role(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, server_of_answers: Server
) -> None:
    assert bucket
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    server_of_answers.give_role("ASIAOFTHEROLE", minutes=20)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server_of_answers.address}/role")
    results = store()
    for asked, expected in ((3600, 1200), (60, 60), (3600, 1200)):
        signer = presigned_signer(results, asked)
        (query,) = (parse_qs(urlsplit(url).query) for url in signer.sign([NAME]))
        assert expected - 10 < signer.expires - time.time() <= expected
        assert expected - 10 < int(query["X-Amz-Expires"][0]) <= expected


def test_presigned_address_ends_with_the_credentials_that_signed_it_while_newer_ones_are_there(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, server_of_answers: Server
) -> None:
    assert bucket
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server_of_answers.address}/role")
    monkeypatch.setattr(aws, "CREDENTIAL_SECONDS", 2)
    results = store()
    server_of_answers.give_role("ASIAOLD", minutes=5)
    seen = []
    for pause in (0, 0, 2.5):
        time.sleep(pause)
        signer = presigned_signer(results, 3600)
        (query,) = (parse_qs(urlsplit(url).query) for url in signer.sign([NAME]))
        seen.append((query["X-Amz-Credential"][0].partition("/")[0], round((signer.expires - time.time()) / 60)))
        server_of_answers.give_role("ASIANEW", minutes=40)
    assert seen == [("ASIAOLD", 5), ("ASIAOLD", 5), ("ASIANEW", 40)]


def test_an_unknown_profile_is_refused_at_the_start(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bucket
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(StoreError, match=r"results_url cannot be used: .*missing"):
        store()


def test_missing_credentials_are_a_permanent_error(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bucket
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    made = store()
    assert made.bucket is not None
    for act in everything(made):
        with pytest.raises(StoreError, match="no credentials for the results store; set AWS_ACCESS_KEY_ID"):
            act()


def test_a_missing_bucket_is_a_permanent_error(bucket: Any) -> None:
    assert bucket
    made = BucketStore("s3://no-such-bucket/some/prefix")
    for act in everything(made)[:4]:
        with pytest.raises(StoreError, match="the bucket for results does not exist"):
            act()


REFUSALS = [
    (403, "SignatureDoesNotMatch", r"refused the service's credentials \(SignatureDoesNotMatch\)"),
    (403, "InvalidAccessKeyId", r"refused the service's credentials \(InvalidAccessKeyId\)"),
    (403, "AccessDenied", r"refused the service's credentials \(AccessDenied\)"),
    (400, "ExpiredToken", r"credentials for the results store have expired"),
    (400, "InvalidToken", r"refused the service's credentials \(InvalidToken\)"),
    (403, "RequestTimeTooSkewed", r"the clocks of the service and the results store differ too much"),
    (400, "AuthorizationHeaderMalformed", r"in another region; set AWS_REGION"),
    (301, "PermanentRedirect", r"in another region; set AWS_REGION"),
    (404, "NoSuchBucket", r"the bucket for results does not exist"),
    (400, "InvalidStorageClass", r"the results store refused a request \(InvalidStorageClass\)"),
    (400, "KMS.DisabledException", r"the results store refused a request \(KMS.DisabledException\)"),
    (400, "EntityTooSmall", r"the results store refused a request \(EntityTooSmall\)"),
]


def test_a_refusal_is_a_permanent_error_with_the_code_of_the_store(refusing: Server) -> None:
    acts = everything(store())[:4]
    for status, code, message in REFUSALS:
        refusing.refuse(status, code)
        before = refusing.requests
        for act in acts:
            with pytest.raises(StoreError, match=message) as caught:
                act()
            assert "secret-bucket" not in str(caught.value)
        assert refusing.requests - before <= 7, "a refusal is not asked for again and again"


def test_lost_or_damaged_data_is_a_transient_error(refusing: Server) -> None:
    made = store()
    for status, code in [(404, "NoSuchUpload"), (400, "BadDigest"), (400, "RequestTimeout"), (409, "OperationAborted")]:
        refusing.refuse(status, code)
        with pytest.raises(StoreUnavailableError, match="out of reach or failed"):
            everything(made)[0]()


def everything(made: BucketStore) -> list[Callable[[], Any]]:
    """Return all requests to a bucket, of obstore and of botocore."""
    assert made.bucket is not None
    bucket = made.bucket

    def write() -> None:
        with made.create(NAME) as file:
            file.write(b"x")
            file.publish({".manifest.json": b"{}"})

    return [write, lambda: bucket.begin(NAME), lambda: made.attempts(1), lambda: made.remove(NAME),
            lambda: made.presigned_urls([NAME], 60)]  # fmt: skip


def test_an_export_to_a_store_that_refuses_ends_at_once_and_its_task_can_be_deleted(
    refusing: Server, new_service: Callable[..., Longshore]
) -> None:
    refusing.refuse(403, "SignatureDoesNotMatch")
    service = new_service(500, results_url=f"s3://{BUCKET}/exports")
    service.start("worker")
    service.start_api()
    with service.client() as client:
        task = ended(client, client.post("/tasks", json=export_body()).json()["id"])
        assert task["state"]["code"] == "ERROR"
        (reason,) = (entry["msg"] for entry in task["logs"] if entry["msg"].startswith("failed"))
        assert reason == "failed: the results store refused the service's credentials (SignatureDoesNotMatch)"
        assert not [entry for entry in task["logs"] if "the next one begins" in entry["msg"]], "one attempt"
        service.sql("update longshore.runs set state = 'DONE', location = $1 where task_id = $2", NAME, task["id"])
        service.sql("update longshore.tasks set state = 'DONE' where id = $1", task["id"])
        refused = client.get(f"/tasks/{task['id']}/download_url")
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/store-unavailable")
        assert client.delete(f"/tasks/{task['id']}").status_code == 204
        assert client.get(f"/tasks/{task['id']}").status_code == 404


def test_cleanup_goes_on_past_what_the_store_refuses_to_remove_and_says_so(
    refusing: Server, idle_service: Longshore
) -> None:
    refusing.refuse(403, "AccessDenied")
    insert = """
        insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state,
                                     modified_at, attempt_began_at)
        values (73, $1, 'export', '{}', '{}', '', 'DONE', now() - $2::int * interval '1 day', now()) returning id
    """
    (old,), (kept,) = idle_service.sql(insert, "old", 99)[0], idle_service.sql(insert, "kept", 1)[0]
    run = """
        insert into longshore.runs (task_id, run, first_attempt, attempt, state, began_at, attempt_began_at,
                                    progress_at, location, expires_at)
        values ($1, 1, 1, 1, 'DONE', now(), now(), now(), $2, now() - interval '1 hour')
    """
    idle_service.sql(run, kept, f"73/{kept}/1/file.csv")

    async def cleaned() -> None:
        async with open_pool(idle_service.url, size=2, name="a test") as pool:
            await Cleanup(pool, store(), timedelta(days=30)).run(None)  # type: ignore[arg-type]

    with pytest.raises(StoreError, match="AccessDenied"):
        in_own_loop(cleaned())
    assert idle_service.sql("select from longshore.tasks where id = $1", old) == []
    assert idle_service.sql("select expires_at from longshore.runs where task_id = $1", kept)[0][0] is not None
    idle_service.sql("delete from longshore.tasks where id = $1", kept)
