"""Every manifest is signed: through HTTP, worker, store, rotation of the key, and without LONGSHORE_SECRET."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner

from longshore.cli.main import app
from longshore.database.connect import open_pool
from longshore.database.migrate import connected_if_current
from longshore.errors import LongshoreError
from longshore.exports import signing_keys
from longshore.exports.manifest import SIGNATURE, SUFFIX
from longshore.exports.signing_keys import SigningKeys
from longshore.exports.verify import verify
from longshore.vault import Vault
from tests import command
from tests.exports.test_files import done, fetched, files_body
from tests.service import Longshore, downloaded, ended, export_body, in_own_loop

KEYS = "/.well-known/longshore-keys.json"


def keys_file(service: Longshore, folder: Path) -> Path:
    """Download the JWK Set, which needs no credential."""
    answer = httpx2.get(service.address + KEYS)
    assert answer.status_code == 200, answer.text
    path = folder / "keys.json"
    path.write_bytes(answer.content)
    return path


def signed(client: httpx2.Client, task: int, path: Path, run: int | str = 1) -> Path:
    """Write manifest and signature of a run of one file beside `path`. Return `path`."""
    manifest = client.get(f"/tasks/{task}/runs/{run}/manifest")
    signature = client.get(f"/tasks/{task}/runs/{run}/manifest.jws")
    assert (manifest.status_code, signature.status_code) == (200, 200), signature.text
    assert signature.headers["content-type"] == "application/jose"
    path.with_name(path.name + SUFFIX).write_bytes(manifest.content)
    path.with_name(path.name + SUFFIX + SIGNATURE).write_bytes(signature.content)
    return path


def test_result_of_one_file_is_checked_by_its_signature_without_the_service(service: Longshore, tmp_path: Path) -> None:
    with service.client(chain=1765) as client:
        task = done(client, export_body(chain=1765))
        path = tmp_path / task["result"]
        path.write_bytes(downloaded(client, task["id"]))
        signed(client, task["id"], path)
        signed(client, task["id"], path, "latest")
    keys = keys_file(service, tmp_path)
    shown = CliRunner().invoke(app, ["verify", "--keys", str(keys), str(path)])
    assert "signed: good" in shown.output
    beside = path.with_name(path.name + SUFFIX)
    beside.write_bytes(beside.read_bytes().replace(b'"run": 1', b'"run": 2'))
    assert verify([path])[0].run == 2, "without keys a changed manifest looks good"
    with pytest.raises(LongshoreError, match="does not fit the manifest"):
        verify([path], keys)


def test_signature_lies_beside_the_result_and_goes_with_it(service: Longshore) -> None:
    with service.client(chain=1765) as client:
        one = done(client, export_body(chain=1765))
        many = done(client, files_body(index="products", split={"rows": 50}) | {"chain": 1765})
        for task, suffix in ((one, SUFFIX), (many, "")):
            (folder,) = (service.data / "results" / "1765" / str(task["id"])).iterdir()
            beside = folder / f"{task['result']}{suffix}{SIGNATURE}"
            assert beside.read_text() == client.get(f"/tasks/{task['id']}/runs/1/manifest.jws").text
            assert client.delete(f"/tasks/{task['id']}").status_code == 204
            assert not beside.exists()


@pytest.mark.parametrize(
    "target",
    [{"index": ["users", "products"]}, {"index": "products", "split": {"rows": 40}}],
    ids=["several indexes", "parts"],
)
def test_result_of_many_files_is_checked_by_its_signature(
    service: Longshore, tmp_path: Path, target: dict[str, Any]
) -> None:
    with service.client(chain=1765) as client:
        task = done(client, files_body(**target) | {"chain": 1765})
        fetched(client, task["id"], tmp_path)
        path = tmp_path / task["result"]
        path.write_bytes(client.get(f"/tasks/{task['id']}/runs/1/manifest").content)
        signature = path.with_name(path.name + SIGNATURE)
        signature.write_bytes(client.get(f"/tasks/{task['id']}/runs/1/manifest.jws").content)
    keys = keys_file(service, tmp_path)
    assert verify([path], keys)[0].rows > 0
    signature.unlink()
    with pytest.raises(LongshoreError, match=r"\.manifest\.json\.jws is missing"):
        verify([path], keys)


def test_increment_that_is_given_again_has_a_signature_of_its_own(shop: Longshore, tmp_path: Path) -> None:
    shop.sql("truncate shop.entries")
    shop.sql("insert into shop.entries (id) values (1), (2)")
    with shop.client() as client:
        body = export_body()
        body["target"] |= {"export_index": "entries", "incremental": "on_ack"}
        task = done(client, body)["id"]
        assert client.post(f"/tasks/{task}/execute").json()["code"] == "DONE"
        paths = []
        for run in (1, 2):
            path = tmp_path / str(run) / "increment.csv"
            path.parent.mkdir()
            path.write_bytes(httpx2.get(client.get(f"/tasks/{task}/runs/{run}/download_url").json()["url"]).content)
            paths.append(signed(client, task, path, run))
        assert "again" in str(ended(client, task)["logs"])
    assert [found.run for found in verify(paths, keys_file(shop, tmp_path))] == [1, 2]


def test_set_of_signing_keys_can_be_cached_and_revalidated_by_its_entity_tag(service: Longshore) -> None:
    with service.client(chain=1765) as client:
        done(client, export_body(chain=1765))
    with httpx2.Client(base_url=service.address) as anybody:
        answer = anybody.get(KEYS)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "public, max-age=300"
        assert all(set(key) == {"kty", "crv", "use", "alg", "kid", "x"} for key in answer.json()["keys"])
        tag = answer.headers["etag"]
        again = anybody.get(KEYS, headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert anybody.get(KEYS, headers={"If-None-Match": '"other"'}).status_code == 200
        assert anybody.get(KEYS, params={"x": "1"}).status_code == 400
        assert anybody.head(KEYS).status_code == 200


def test_run_without_a_manifest_has_no_signature(idle_client: httpx2.Client) -> None:
    task = idle_client.post("/tasks", json=export_body(once="2126-05-26T12:00:00Z")).json()["id"]
    answer = idle_client.get(f"/tasks/{task}/runs/1/manifest.jws")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/run-not-found")


def test_rotated_key_signs_and_manifests_of_the_old_one_still_verify(service: Longshore, tmp_path: Path) -> None:
    kids, paths = [], []
    with service.client(chain=1765) as client:
        for turn in ("first", "second"):
            task = done(client, export_body(chain=1765))
            path = tmp_path / turn / task["result"]
            path.parent.mkdir()
            path.write_bytes(downloaded(client, task["id"]))
            paths.append(signed(client, task["id"], path))
            kids.append(httpx2.get(service.address + KEYS).json()["keys"][0]["kid"])
            rotated = command.run("keys", "rotate", folder=tmp_path, data=str(service.data), database_url=service.url)
            assert rotated.returncode == 0, rotated.stderr
    found = httpx2.get(service.address + KEYS).json()["keys"]
    assert [key["kid"] for key in found[:3]] == [rotated.stdout.split()[0], kids[1], kids[0]]
    assert f"the JWK Set has {len(found)} keys" in rotated.stdout
    assert len(verify(paths, keys_file(service, tmp_path))) == 2
    (tmp_path / "keys.json").write_text(json.dumps({"keys": found[:2]}))
    with pytest.raises(LongshoreError, match=f"is of the key '{kids[0]}', which is not among the keys"):
        verify(paths, tmp_path / "keys.json")
    assert service.sql("select count(sealed) from longshore.signing_keys")[0][0] == 1, "old private keys are destroyed"
    audited = service.sql("select object from longshore.audit where action = 'key.rotate' order by id desc limit 2")
    assert [row["object"] for row in audited] == [f"key {key['kid']}" for key in found[:2]]


def vault(folder: Path, *secrets: str, may_use_file: bool = False) -> Vault:
    return Vault(secrets, folder / "secret.key", may_use_file=may_use_file)


def test_workers_that_begin_together_make_one_key(idle_service: Longshore, tmp_path: Path) -> None:
    idle_service.sql("delete from longshore.signing_keys")

    async def run() -> set[str]:
        async with open_pool(idle_service.url, size=8, name="test") as pool:
            workers = [SigningKeys(pool, vault(tmp_path, "s" * 32)) for _ in range(8)]
            return {key.kid for key in await asyncio.gather(*(worker.current() for worker in workers))}

    kids = in_own_loop(run())
    assert kids == {row["kid"] for row in idle_service.sql("select kid from longshore.signing_keys")}
    assert len(kids) == 1


def test_worker_with_another_secret_has_a_key_of_its_own(idle_service: Longshore, tmp_path: Path) -> None:
    idle_service.sql("delete from longshore.signing_keys")

    async def run() -> list[str]:
        async with open_pool(idle_service.url, size=2, name="test") as pool:
            workers = [SigningKeys(pool, vault(tmp_path, secret * 32)) for secret in "aba"]
            kids = [(await worker.current()).kid for worker in workers]
            both = SigningKeys(pool, vault(tmp_path, "b" * 32, "a" * 32))
            return [*kids, (await both.current()).kid]

    first, second, again, both = in_own_loop(run())
    assert first == again
    assert first != second == both


def test_worker_without_a_secret_signs_with_a_key_that_is_not_stored(idle_service: Longshore, tmp_path: Path) -> None:
    idle_service.sql("delete from longshore.signing_keys")

    async def run() -> list[str]:
        async with open_pool(idle_service.url, size=2, name="test") as pool:
            workers = [SigningKeys(pool, vault(tmp_path)) for _ in range(2)]
            return [(await worker.current()).kid for worker in workers * 2]

    first, second, *again = in_own_loop(run())
    assert again == [first, second]
    assert {
        row["kid"]: row["sealed"] for row in idle_service.sql("select kid, sealed from longshore.signing_keys")
    } == {
        first: None,
        second: None,
    }
    with httpx2.Client(base_url=idle_service.address) as anybody:
        assert {key["kid"] for key in anybody.get(KEYS).json()["keys"]} == {first, second}


def test_rotation_without_a_secret_is_refused_and_changes_nothing(idle_service: Longshore, tmp_path: Path) -> None:
    async def run() -> None:
        async with connected_if_current(idle_service.url) as connection:
            await signing_keys.rotate(connection, vault(tmp_path))

    with pytest.raises(LongshoreError, match="LONGSHORE_SECRET is not set"):
        in_own_loop(run())
