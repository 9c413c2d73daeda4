"""Azure Blob Storage does what S3 does: `make azure` asks Azurite, its emulator, which checks signatures."""

import hashlib
import hmac
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import httpx2
import pytest

from longshore.results.bucket import BucketStore
from tests.service import Longshore, ended, export_body, free_port

PROGRAM = Path(__file__).parent / "node_modules/.bin/azurite-blob"
# Azurite's only account, the same everywhere:
# https://learn.microsoft.com/azure/storage/common/storage-connect-azurite
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CONTAINER = "longshore-results"
RESULTS = f"az://{CONTAINER}/exports"
READY_TIMEOUT = 30.0  # seconds


@pytest.fixture
def azurite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the emulated account, with an empty container."""
    port = free_port()
    options = ("--blobPort", str(port), "--location", str(tmp_path / "azurite"), "--silent", "--disableTelemetry")
    process = subprocess.Popen([PROGRAM, *options])
    try:
        address = f"http://127.0.0.1:{port}/{ACCOUNT}"
        make_container(address)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
        monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", f"http://127.0.0.1:{port}")
        yield address
    finally:
        process.terminate()
        process.wait()


def make_container(address: str) -> None:
    """Make the container, as soon as the emulator answers; signed as its rules for `Shared Key` say."""
    about = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    fields = "\n".join(f"{name}:{value}" for name, value in about.items())
    text = f"PUT{12 * chr(10)}{fields}\n/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
    signature = b64encode(hmac.digest(b64decode(KEY), text.encode(), "sha256")).decode()
    about["Authorization"] = f"SharedKey {ACCOUNT}:{signature}"
    url = f"{address}/{CONTAINER}?restype=container"
    deadline = time.monotonic() + READY_TIMEOUT
    while True:
        try:
            made = httpx2.put(url, headers=about)
            break
        except httpx2.TransportError:
            assert time.monotonic() < deadline, "the emulator does not answer"
            time.sleep(0.1)
    assert made.status_code == 201, made.text


def curl(address: str) -> str:
    """The status that plain curl gets."""
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", address]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.usefixtures("azurite")
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_service_does_with_a_container_what_it_does_with_a_disk(
    new_service: Callable[..., Longshore], kind: str
) -> None:
    service = new_service(100_000, results_url=RESULTS)  # of more than one block
    service.start("worker")
    service.start_api()
    with service.client() as client:
        task = client.post("/tasks", json=export_body(kind)).json()["id"]
        found = ended(client, task)
        assert found["state"]["code"] == "DONE", found
        address = client.get(f"/tasks/{task}/download_url").json()["url"]
        answer = httpx2.get(address)
        run = client.get(f"/tasks/{task}/runs").json()[0]
        assert hashlib.sha256(answer.content).hexdigest() == run["sha256"]
        assert answer.headers["content-disposition"] == f'attachment; filename="{found["result"]}"'
        assert answer.headers["content-type"].startswith("text/csv" if kind == "csv" else "application/vnd.apache")
        assert curl(address) == "200"
        assert curl(address.replace("sig=", "sig=A")) == "403"
        assert client.delete(f"/tasks/{task}").status_code == 204
        assert curl(address) == "404"
    assert service.files() == []


@pytest.mark.usefixtures("azurite")
def test_a_presigned_address_ends_with_its_time() -> None:
    store = BucketStore(RESULTS)
    with store.create("1/2/3/a.csv") as file:
        file.write(b"x")
        file.publish()
    (address,) = store.presigned_urls(["1/2/3/a.csv"], 2)
    assert curl(address) == "200"
    time.sleep(3)
    assert curl(address) == "403"


@pytest.mark.usefixtures("azurite")
def test_an_upload_that_is_given_up_leaves_nothing_to_be_seen() -> None:
    store = BucketStore(RESULTS)
    with pytest.raises(KeyError), store.create("1/2/3/a.csv") as file:
        for _ in range(20):
            file.write(bytes(1 << 20))
        raise KeyError
    assert not store.exists("1/2/3/a.csv")
    assert store.attempts(time.time() + 60) == []
