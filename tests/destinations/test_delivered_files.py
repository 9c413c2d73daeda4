"""Results that the service brings to an S3 server and an SFTP server, and that other programs read there."""

import asyncio
import hashlib
import subprocess
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from longshore.access.tokens import Level
from longshore.destinations.concurrency import map_concurrently
from longshore.destinations.kind import DestinationError
from tests.destinations.front import Front, ProxiedRequest, ProxyReply, once
from tests.destinations.s3_servers import BUCKET, MotoServer, RcloneServer
from tests.destinations.servers import RCLONE, SampleDestination
from tests.destinations.sshd import PASSWORD, Sshd, place_of
from tests.service import Longshore, ended, export_body

CHAIN = 1765


@pytest.fixture(scope="module")
def admin(service: Longshore) -> Any:
    with service.client(Level.ADMIN, chain=CHAIN) as opened:
        yield opened


def create(admin: httpx2.Client, name: str, kind: str, made: SampleDestination) -> dict[str, Any]:
    body = {"name": name, "kind": kind, "settings": made.settings, "secret": made.secret}
    tested = admin.post("/destinations/test", json=body).json()
    assert tested["ok"], tested
    answer = admin.post("/destinations", json=body)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def test_result_lies_at_each_kind_of_server_as_it_is_in_the_store(
    service: Longshore, admin: httpx2.Client, rclone_server: RcloneServer, ssh_server: Sshd, tmp_path: Path
) -> None:
    bucket = create(admin, "a-bucket", "s3", rclone_server.place())
    folder = create(admin, "a-folder", "sftp", place_of(ssh_server))
    body = export_body(chain=CHAIN)
    path = "{index}/{run}-{name}"
    body["target"]["deliver"] = [{"destination": name, "path": path} for name in ("a-bucket", "a-folder")]
    task = admin.post("/tasks", json=body).json()["id"]
    found = ended(admin, task)
    assert found["state"]["code"] == "DONE", found
    address = admin.get(f"/tasks/{task}/download_url").json()["url"]
    result = httpx2.get(address).content
    place = f"wallet-ledger/1-{found['result']}"
    command = [str(RCLONE), "cat", f"t:{BUCKET}/in/{place}"]
    assert subprocess.run(command, env=rclone_server.environment, capture_output=True, check=True).stdout == result
    ssh_server.sftp(f"get /in/{place} {tmp_path}/back")
    assert (tmp_path / "back").read_bytes() == result
    delivered = admin.get(f"/tasks/{task}/runs/1/deliveries").json()
    assert {one["state"] for one in delivered} == {"delivered"}
    assert str(hashlib.sha256(result).hexdigest()) in str(delivered)
    shown = str([bucket, folder, found, delivered, admin.get("/destinations").json(), service.logged()])
    assert PASSWORD not in shown and rclone_server.place().secret["secret_access_key"] not in shown


def test_many_files_lie_at_each_kind_of_server_as_their_manifest_names_them(
    admin: httpx2.Client, rclone_server: RcloneServer, ssh_server: Sshd, tmp_path: Path
) -> None:
    create(admin, "many-bucket", "s3", rclone_server.place())
    create(admin, "many-folder", "sftp", place_of(ssh_server))
    body = export_body(chain=CHAIN)
    deliver = [{"destination": name, "path": "many/{run}/{name}"} for name in ("many-bucket", "many-folder")]
    body["target"] |= {"deliver": deliver, "split": {"rows": 100}}
    task = admin.post("/tasks", json=body).json()["id"]
    assert ended(admin, task)["state"]["code"] == "DONE"
    listed = {each["path"]: each["sha256"] for each in admin.get(f"/tasks/{task}/runs/1/manifest").json()["files"]}
    assert len(listed) == 20
    bucket, folder = tmp_path / "bucket", tmp_path / "folder"
    command = [str(RCLONE), "copy", f"t:{BUCKET}/in/many/1", str(bucket)]
    subprocess.run(command, env=rclone_server.environment, capture_output=True, check=True)
    ssh_server.sftp(f"get -r /in/many/1 {folder}")
    for copied in (bucket, folder):
        assert {path: hashlib.sha256((copied / path).read_bytes()).hexdigest() for path in listed} == listed
        assert len([path for path in copied.rglob("*") if path.is_file()]) == 22, "with manifest and signature alone"


def test_file_that_a_program_takes_away_at_once_is_delivered(admin: httpx2.Client, ssh_server: Sshd) -> None:
    create(admin, "picked-up", "sftp", place_of(ssh_server))
    folder, ended_polling = ssh_server.uploads / "drop", threading.Event()
    taken: list[str] = []

    def take() -> None:
        while not ended_polling.is_set():
            for file in folder.glob("[!.]*"):
                file.unlink()
                taken.append(file.name)

    program = threading.Thread(target=take)
    program.start()
    try:
        body = export_body(chain=CHAIN)
        body["target"]["deliver"] = [{"destination": "picked-up", "path": "drop/{run}-{name}"}]
        found = ended(admin, admin.post("/tasks", json=body).json()["id"])
    finally:
        ended_polling.set()
        program.join()
    assert found["state"]["code"] == "DONE", found
    assert f"1-{found['result']}" in taken


@pytest.mark.parametrize("rows", [None, 100])
def test_object_that_a_program_takes_away_at_once_is_delivered(
    admin: httpx2.Client, moto_server: MotoServer, rows: int | None
) -> None:
    taken: list[str] = []

    def take(seen: ProxiedRequest) -> None:
        key = urlsplit(seen.target).path.removeprefix(f"/{BUCKET}/")
        if seen.method == "GET" and f"picked-{rows}/" in key and key in moto_server.found_keys():
            moto_server.bucket.delete_object(Bucket=BUCKET, Key=key)
            taken.append(key.rpartition("/")[2])

    front = Front(moto_server.netloc, take)
    try:
        create(admin, f"picked-{rows}", "s3", moto_server.place(address=front.address))
        body = export_body(chain=CHAIN)
        body["target"]["deliver"] = [{"destination": f"picked-{rows}", "path": f"picked-{rows}/{{run}}/{{name}}"}]
        body["target"] |= {"split": {"rows": rows}} if rows else {}
        found = ended(admin, admin.post("/tasks", json=body).json()["id"])
        (delivered,) = admin.get(f"/tasks/{found['id']}/runs/1/deliveries").json()
    finally:
        front.close()
    assert found["state"]["code"] == "DONE", delivered
    assert (delivered["attempts"], len(taken)) == (1, 22 if rows else 3)


def test_object_that_is_read_with_other_bytes_is_written_anew_where_it_may_be_replaced(
    admin: httpx2.Client, moto_server: MotoServer
) -> None:
    damages = once(lambda seen: seen.method == "GET" and ".csv" in seen.target, ProxyReply(200, {}, b"other bytes"))
    front = Front(moto_server.netloc, damages)
    try:
        create(admin, "damaging", "s3", moto_server.place(address=front.address))
        body = export_body(chain=CHAIN)
        body["target"]["deliver"] = [{"destination": "damaging", "path": "damaged/{run}-{name}", "overwrite": True}]
        found = ended(admin, admin.post("/tasks", json=body).json()["id"])
        assert found["state"]["code"] == "DONE", found
        (delivered,) = admin.get(f"/tasks/{found['id']}/runs/1/deliveries").json()
    finally:
        front.close()
    assert delivered["attempts"] == 2
    assert "DELETE" not in [seen.method for seen in front.succeeded if found["result"] in seen.target]
    content = moto_server.content(f"in/damaged/1-{found['result']}")
    assert hashlib.sha256(content).hexdigest() == delivered["evidence"]["sha256"]


def test_missing_host_key_is_shown_by_the_test_and_required_to_store(admin: httpx2.Client, ssh_server: Sshd) -> None:
    made = place_of(ssh_server)
    settings = {name: value for name, value in made.settings.items() if name != "host_key"}
    body = {"name": "unpinned", "kind": "sftp", "settings": settings, "secret": made.secret}
    last = admin.post("/destinations/test", json=body).json()["steps"][-1]
    assert last == {"step": "host_key", "ok": False, "detail": ssh_server.host_key}
    refused = admin.post("/destinations", json=body)
    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/settings/host_key"]


def test_files_are_brought_some_at_a_time_and_the_first_error_ends_all() -> None:
    under_way, most, ended = 0, 0, 0

    async def work(number: int) -> int:
        nonlocal under_way, most, ended
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0)
            if number == 50:
                raise DestinationError("refused")
            await asyncio.sleep(3600 if number > 50 else 0)
        finally:
            under_way -= 1
            ended += 1
        return number

    async def run() -> None:
        assert sorted(await map_concurrently(range(50), work, 4)) == list(range(50))
        assert (most, ended) == (4, 50)
        with pytest.raises(DestinationError, match="refused"):
            await map_concurrently(range(100), work, 4)
        assert (most, under_way) == (4, 0)
        assert await map_concurrently(range(3), work, 1) == [0, 1, 2]

    asyncio.run(run())
