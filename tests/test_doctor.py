"""`longshore doctor` against installations that are sound, and broken in one way each."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import boto3
import httpx2
import libfaketime
import pytest
from moto.server import ThreadedMotoServer

from longshore.api.service import CONNECTIONS, POOL_SIZE
from longshore.doctor import store as doctor_of_store
from longshore.doctor.databases import SERVER, _server
from longshore.doctor.examine import examine
from longshore.findings import Finding
from longshore.settings_sources import load
from longshore.worker.process import LISTENERS
from tests.answers import problem
from tests.command import environment, run
from tests.odd_values_table import write_catalog
from tests.results.refusing import Server
from tests.service import Longshore, export_body, in_own_loop, listens
from tests.waiting import until

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"
BUCKET = "results-of-doctor"


def examined(url: str, folder: Path, **settings: str) -> list[Finding]:
    """Return the findings, with a data folder of its own."""
    variables = {f"LONGSHORE_{name.upper()}": value for name, value in settings.items()}
    variables |= {"LONGSHORE_DATABASE_URL": url, "LONGSHORE_DATA": str(folder)}

    async def collect() -> list[Finding]:
        return [finding async for finding in examine(load(variables).settings, url)]

    found: list[Finding] = in_own_loop(collect())
    assert all("\n" not in finding.what for finding in found), "one line each"
    return found


def wrong(found: list[Finding], area: str) -> str:
    """Return the findings of the level `wrong` of an area; there is at least one."""
    what = "; ".join(finding.what for finding in found if (finding.level, finding.where) == ("wrong", area))
    assert what, found
    return what


def as_role(longshore: Longshore, role: str, options: str, database: str = "postgres") -> str:
    """The address of a database for a new role of its server."""
    longshore.sql(f"create role {role} login {options}")
    parts = urlsplit(longshore.url)
    return parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}", path=f"/{database}").geturl()


def test_doctor_finds_nothing_wrong_with_a_sound_service(service: Longshore, tmp_path: Path) -> None:
    done = run("doctor", folder=tmp_path, database_url=service.url, data=str(service.data))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert {level for level, _ in lines} <= {"ok", "warning"}
    areas = {line.partition(":")[0] for _, line in lines}
    expected = {
        "settings",
        "secrets",
        "database",
        "clock",
        "workers",
        "queue",
        "source",
        "catalog",
        "row security",
        "store",
        "disk",
    }
    assert areas == expected
    assert done.stderr == ""


def test_doctor_names_a_setting_that_is_none(tmp_path: Path) -> None:
    done = run("doctor", folder=tmp_path, prot="1")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("wrong   settings: LONGSHORE_PROT is not a setting; did you mean LONGSHORE_PORT?")


def test_doctor_goes_on_where_the_database_cannot_be_reached(tmp_path: Path) -> None:
    found = examined(UNREACHABLE, tmp_path)
    assert "check LONGSHORE_DATABASE_URL" in wrong(found, "database")
    assert [finding.level for finding in found if finding.where == "store"] == ["ok"]


def test_doctor_names_missing_workers_missing_tables_and_old_tasks(idle_service: Longshore, tmp_path: Path) -> None:
    idle_service.sql("drop schema if exists loyalty cascade")  # another test may have written the demo's data
    with idle_service.client(chain=75) as client:
        id = client.post("/tasks", json=export_body(chain=75)).json()["id"]
    idle_service.sql(
        "update longshore.pgqueuer set created = now() - interval '1 hour', execute_after = now() - interval '1 hour'"
        " where id = (select max(id) from longshore.pgqueuer)"
    )
    found = examined(idle_service.url, tmp_path)
    assert "start `longshore worker`" in wrong(found, "workers")
    assert "start more workers" in wrong(found, "queue")
    assert "no table or view" in wrong(found, "catalog")
    with idle_service.client(chain=75) as client:
        client.post(f"/tasks/{id}/cancel")


def test_doctor_names_a_schema_that_is_not_this_versions(idle_service: Longshore, tmp_path: Path) -> None:
    idle_service.sql("create database doctor_empty")
    url = urlsplit(idle_service.url)._replace(path="/doctor_empty").geturl()
    assert "run `longshore migrate`" in wrong(examined(url, tmp_path), "database")


def test_doctor_names_a_role_without_rights_and_with_few_connections(idle_service: Longshore, tmp_path: Path) -> None:
    url = as_role(idle_service, "doctor_few", "connection limit 8")
    idle_service.sql("grant usage on schema longshore to doctor_few")
    idle_service.sql("grant select on longshore.migrations, longshore.pgqueuer to doctor_few")
    found = examined(url, tmp_path)
    assert "may not read and write access_tokens, " in wrong(found, "database")
    assert "ALTER ROLE doctor_few CONNECTION LIMIT" in wrong(found, "database")
    assert "GRANT longshore_export TO doctor_few" in wrong(found, "row security")


def test_connections_of_other_roles_are_counted_also_for_a_role_that_may_not_see_them(idle_service: Longshore) -> None:
    url = as_role(idle_service, "doctor_blind", "")

    async def used() -> int:
        others = [await asyncpg.connect(idle_service.url) for _ in range(5)]
        connection = await asyncpg.connect(url)
        try:
            found = await connection.fetchrow(SERVER)
            return int(found["used"]) if found else 0
        finally:
            for each in (connection, *others):
                await each.close()

    assert in_own_loop(used()) >= 6


def test_connections_that_listen_are_counted_as_a_service_has_them(service: Longshore) -> None:
    listening = """
        select count(*) from pg_stat_activity
        where datname = current_database() and application_name ~ '^longshore (longshore_|ch_)'
    """
    expected = LISTENERS + CONNECTIONS - POOL_SIZE
    until(lambda: service.sql(listening)[0][0] == expected, f"{expected} connections that listen")


def test_role_that_may_not_update_the_table_of_migrations_is_named_by_doctor_and_not_ready(
    new_service: Callable[..., Longshore], tmp_path: Path
) -> None:
    longshore = new_service()
    url = as_role(longshore, "doctor_nearly", "in role longshore_export")
    longshore.sql("grant usage on schema longshore to doctor_nearly")
    longshore.sql("grant select, insert, update, delete on all tables in schema longshore to doctor_nearly")
    longshore.sql("grant usage on all sequences in schema longshore to doctor_nearly")
    longshore.sql("revoke update on longshore.migrations from doctor_nearly")
    assert "may not read and write migrations; " in wrong(examined(url, tmp_path), "database")
    longshore.start("api", database_url=url)
    until(lambda: listens("127.0.0.1", longshore.port), "the API to listen")
    answer = httpx2.get(f"{longshore.address}/readyz")
    problem(answer, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert any("permission denied" in str(line.get("error")) for line in longshore.logged())
    longshore.sql("grant update on longshore.migrations to doctor_nearly")
    assert httpx2.get(f"{longshore.address}/readyz").status_code == 200


def test_doctor_names_a_database_that_is_read_only(idle_service: Longshore, tmp_path: Path) -> None:
    url = as_role(idle_service, "doctor_reads", "superuser")
    idle_service.sql("alter role doctor_reads set default_transaction_read_only = on")
    assert "is read-only" in wrong(examined(url, tmp_path), "database")


def test_doctor_ends_quietly_when_the_reader_of_its_output_ends_after_a_line(
    idle_service: Longshore, tmp_path: Path
) -> None:
    variables = environment(database_url=idle_service.url, data=str(tmp_path), log_format="json")
    command = [sys.executable, "-u", "-m", "longshore", "doctor"]
    with subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ok      settings: usable\n"
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (141, "")


def test_doctor_names_policies_that_do_not_apply(idle_service: Longshore, tmp_path: Path) -> None:
    idle_service.sql("create schema doctor_shop")
    idle_service.sql(
        "create table doctor_shop.orders (id bigint primary key, chain bigint not null, at timestamptz not null)"
    )
    idle_service.sql("alter table doctor_shop.orders enable row level security")
    file = tmp_path / "catalog.toml"
    file.write_text(
        '[orders]\ndescription = "Orders."\nrelation = "doctor_shop.orders"\nchain = "chain"\ntime = "at"\n'
        'prefix = "Order"\n[orders.fields]\nid = { type = "number", description = "Number." }\n'
    )
    policies = wrong(examined(idle_service.url, tmp_path / "data", catalog=str(file)), "row security")
    assert "GRANT SELECT ON doctor_shop.orders TO longshore_export" in policies
    idle_service.sql("grant select on doctor_shop.orders to longshore_export")
    found = examined(idle_service.url, tmp_path / "data", catalog=str(file))
    assert [finding.what for finding in found if finding.where == "row security"] == ["applies to 1 of 1 indexes"]
    file.write_text("[")
    assert "LONGSHORE_CATALOG" in wrong(examined(idle_service.url, tmp_path / "data", catalog=str(file)), "catalog")


def test_doctor_names_a_server_that_is_too_old() -> None:
    (found,) = _server("source", {"number": 140011, "version": "14.11"})
    assert (found.level, found.what) == ("wrong", "is PostgreSQL 14.11; upgrade it to 15 or later")


def test_doctor_names_a_clock_that_is_wrong(idle_service: Longshore, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in libfaketime.get_reload_information()[1].items():
            patched.setenv(name, value)
        patched.setenv("FAKETIME", "+600")
        done = run("doctor", folder=tmp_path, database_url=idle_service.url, data=str(tmp_path / "data"))
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if "clock:" in line)
    assert line.startswith("wrong   clock: this machine is ") and line.endswith(
        "s ahead of the database; run NTP on both"
    )


def test_doctor_names_a_folder_that_cannot_be_written_and_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    monkeypatch.setattr(doctor_of_store, "MIN_FREE_BYTES", 1 << 60)
    found = examined(UNREACHABLE, tmp_path)
    assert "let the service's user write to the folder `results`" in wrong(found, "store")
    assert "make room" in wrong(found, "disk")


def test_doctor_names_a_key_file_that_is_missing_and_makes_none(idle_service: Longshore, tmp_path: Path) -> None:
    key, kept = idle_service.data / "secret.key", tmp_path / "kept"
    key.rename(kept)
    try:
        idle_service.sql("insert into longshore.users (name, password, totp_secret) values ('sealed', '', 'x')")
        done = run("doctor", folder=tmp_path, data=str(idle_service.data))
        assert not key.exists()
    finally:
        kept.rename(key)
        idle_service.sql("delete from longshore.users where name = 'sealed'")
    missing = f"{key} is missing: restore the secret of this installation from a backup"
    assert f"wrong   secrets: {missing}" in done.stdout


def test_doctor_goes_on_where_the_data_folder_cannot_be_looked_at(idle_service: Longshore, tmp_path: Path) -> None:
    found = examined(idle_service.url, tmp_path / ("x" * 300))
    assert wrong(found, "secrets").endswith("cannot be used: File name too long")
    assert "File name too long" in wrong(found, "store")
    assert {finding.where for finding in found} >= {"clock", "source", "disk"}


def test_doctor_leaves_no_folder_behind(tmp_path: Path) -> None:
    found = examined(UNREACHABLE, tmp_path / "data")
    assert [finding.level for finding in found if finding.where == "store"] == ["ok"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data" / "results" / "0").mkdir(parents=True)
    examined(UNREACHABLE, tmp_path / "data")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "data", "data/results", "data/results/0"
    ]  # fmt: skip


def test_doctor_checks_the_file_system_of_the_results(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:  # a file system in memory
        if Path(other).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own")
        (tmp_path / "results").symlink_to(other)
        found = [finding.what for finding in examined(UNREACHABLE, tmp_path) if finding.where == "disk"]
    assert len(found) == 2
    assert found[0].endswith(f" in {tmp_path.resolve()}")
    assert found[1].endswith(f" in {other}")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server with one empty bucket, which the environment leads to."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_EC2_METADATA_DISABLED"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDAKIDAKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    made = boto3.client("s3", region_name="us-east-1")
    made.create_bucket(Bucket=BUCKET)
    yield made
    running.stop()


def test_doctor_tries_all_that_a_bucket_has_to_do_and_leaves_nothing(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examined(UNREACHABLE, tmp_path, results_url=f"s3://{BUCKET}/some/prefix")
    assert [finding.what for finding in found if finding.where == "store"] == ["a result was written, read and deleted"]
    assert s3.list_objects_v2(Bucket=BUCKET).get("Contents", []) == []
    missing = examined(UNREACHABLE, tmp_path, results_url="s3://no-such-bucket/some/prefix")
    assert "cannot be written: the bucket for results does not exist" in wrong(missing, "store")
    refusing = Server()
    refusing.refuse(403, "AccessDenied")
    monkeypatch.setenv("AWS_ENDPOINT_URL", refusing.address)
    refused = examined(UNREACHABLE, tmp_path, results_url=f"s3://{BUCKET}/some/prefix")
    refusing.close()
    assert "(AccessDenied); grant s3:PutObject" in wrong(refused, "store")


def test_tokens_that_name_what_the_catalog_lacks_are_found_also_where_the_source_is_another_database(
    idle_service: Longshore, tmp_path: Path
) -> None:
    assert run("migrate", folder=tmp_path).returncode == 0
    made = run("token", "create", "--chain", "1", "--level", "read", "--client", "x", "--hide", "users.phone_number",
               folder=tmp_path)  # fmt: skip
    assert made.returncode == 0, made.stderr
    catalog = str(write_catalog(tmp_path))
    for command in ("catalog check", "doctor"):
        done = run(*command.split(), folder=tmp_path, source_url=idle_service.url, catalog=catalog)
        assert "users.phone_number: access token" in done.stdout, done.stdout + done.stderr
    (tmp_path / "other").mkdir()
    done = run("catalog", "check", folder=tmp_path / "other", source_url=idle_service.url, catalog=catalog)
    assert "no tokens were checked" in done.stderr
    assert list((tmp_path / "other").iterdir()) == []
