"""The command line: help with examples, exit codes, one clear line for what went wrong, nothing left behind."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest

from longshore.cli.main import app
from longshore.cli.main import run as run_here
from longshore.database.embedded import embedded_server
from tests.command import ended_by_ctrl_c, failed, line_with, nothing_left, run, start
from tests.service import Longshore, free_port

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"
PAIR = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:longshore_[A-Za-z0-9_-]{43}\n")


def commands() -> list[tuple[str, ...]]:
    """Every command and group, as it is typed."""
    found: list[tuple[str, ...]] = [()]
    for name, command in app.commands.items():
        found.append((name,))
        found += [(name, inner) for inner in getattr(command, "commands", {})]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help_ends_with_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here([*command, "--help"]) == 0
    assert re.search(rf"Example: (\S+=\S+ )*longshore {' '.join(command)}", " ".join(capsys.readouterr().out.split()))


@pytest.mark.parametrize(
    "arguments",
    [("sevre",), ("serve", "--prot", "1"), ("seed", "--rows", "x"), ("seed", "--rows", "0"), ("token", "create"),
     ("token", "create", "--chain", "-1", "--level", "read"), ("token", "create", "--chain", "1", "--level", "king"),
     ("token", "revoke", "x"), ("token", "revoke"), ("serve", "extra")],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err
    assert shown.out == ""


def test_settings_lists_values_and_origins_and_hides_urls(tmp_path: Path) -> None:
    (tmp_path / "longshore.toml").write_text('log_level = "debug"')
    secret = "postgresql://me:hunter2@db/x"
    done = run("settings", folder=tmp_path, port="9000", database_url=secret, source_url=secret)
    assert done.returncode == 0
    assert "LONGSHORE_PORT = 9000  [LONGSHORE_PORT]" in done.stdout
    assert "LONGSHORE_LOG_LEVEL = 'debug'  [longshore.toml]" in done.stdout
    assert "LONGSHORE_HOST = '127.0.0.1'  [default]" in done.stdout
    assert done.stdout.count("(set, not shown)") == 2
    assert "hunter2" not in done.stdout + done.stderr


def test_an_unknown_setting_is_reported_in_one_line(tmp_path: Path) -> None:
    failed(run("serve", folder=tmp_path, prot="1"), "LONGSHORE_PROT", "did you mean LONGSHORE_PORT?")


@pytest.mark.parametrize("command", ["serve", "api"])
def test_a_taken_port_is_reported_in_one_line(tmp_path: Path, command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        failed(run(command, folder=tmp_path, port=port), f"cannot listen on 127.0.0.1:{port}", "LONGSHORE_PORT")


@pytest.mark.parametrize("command", ["serve", "api", "worker", "migrate", "token list"])
def test_an_unreachable_database_is_reported_in_one_line(tmp_path: Path, command: str) -> None:
    done = run(*command.split(), folder=tmp_path, database_url=UNREACHABLE, port=str(free_port()))
    failed(done, "the database cannot be reached", "LONGSHORE_DATABASE_URL")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[x]\ny = 1", ("is not usable", "x.y: unknown key")),
        ("[", ("is not usable",)),
        (None, ("cannot be read", "No such file")),
    ],
)
def test_a_catalog_that_cannot_be_used_is_reported_in_one_line(
    idle_service: Longshore, tmp_path: Path, text: str | None, words: tuple[str, ...]
) -> None:
    file = tmp_path / "catalog.toml"
    if text is not None:
        file.write_text(text)
    port = str(free_port())
    for command in ("serve", "api", "worker"):
        done = run(command, folder=tmp_path, database_url=idle_service.url, catalog=str(file), port=port)
        failed(done, str(file), *words)


def test_a_token_is_made_listed_and_revoked(idle_service: Longshore, tmp_path: Path) -> None:
    made = run("token", "create", "--chain", "31", "--level", "write", "--client", "mine", folder=tmp_path,
               database_url=idle_service.url)  # fmt: skip
    assert made.returncode == 0
    assert PAIR.fullmatch(made.stdout)
    id = made.stdout.split(":")[0]
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    assert httpx2.get(f"{idle_service.address}/tasks", headers=headers).json() == []
    listed = run("token", "list", folder=tmp_path, database_url=idle_service.url).stdout
    assert [line.split() for line in listed.splitlines() if id in line] == [
        [id, "chain", "31", "write", "valid", "mine"]
    ]
    assert made.stdout.split(":")[1].strip() not in listed
    revoked = run("token", "revoke", id, folder=tmp_path, database_url=idle_service.url)
    assert (revoked.returncode, revoked.stdout) == (0, f"revoked {id}\n")
    failed(run("token", "revoke", id, folder=tmp_path, database_url=idle_service.url), id)


def test_client_that_token_create_makes_has_an_audit_entry_of_its_own(idle_service: Longshore, tmp_path: Path) -> None:
    for _ in range(2):
        made = run("token", "create", "--chain", "32", "--level", "read", "--client", "auditors", folder=tmp_path,
                   database_url=idle_service.url)  # fmt: skip
        assert made.returncode == 0, made.stderr
    entries = idle_service.sql(
        "select action, actor_kind, details from longshore.audit where chain_id = 32 order by id"
    )
    assert [entry["action"] for entry in entries] == ["client.create", "token.create", "token.create"]
    assert entries[0]["actor_kind"] == "command"
    assert json.loads(entries[0]["details"]) == {"name": "auditors", "contact": ""}


def test_an_unknown_token_is_reported_in_one_line(idle_service: Longshore, tmp_path: Path) -> None:
    id = str(uuid.uuid4())
    failed(run("token", "revoke", id, folder=tmp_path, database_url=idle_service.url), id)


@pytest.mark.parametrize(
    "command",
    ["token create --chain 1 --level read", "token list", "client list", "user list", "catalog check", "database url"],
)
def test_command_for_an_existing_service_makes_no_database_in_another_folder(tmp_path: Path, command: str) -> None:
    done = run(*command.split(), folder=tmp_path)
    failed(done, f"there is no database in the data folder {tmp_path / 'data'}", "longshore serve", "LONGSHORE_DATA")
    assert list(tmp_path.iterdir()) == []


def test_doctor_reports_a_folder_without_a_database_and_makes_none(tmp_path: Path) -> None:
    done = run("doctor", folder=tmp_path)
    assert done.returncode == 1
    assert f"wrong   database: there is no database in the data folder {tmp_path / 'data'}" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_command_that_makes_a_database_says_where(tmp_path: Path) -> None:
    first = run("seed", "--rows", "10", folder=tmp_path)
    assert first.returncode == 0
    assert first.stderr.splitlines()[0] == f"made a new database in {tmp_path / 'data'}"
    again = run("seed", "--rows", "10", folder=tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, "the data is there already\n", "")


def test_serve_runs_until_it_is_stopped_and_leaves_nothing_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        process = start("serve", folder=tmp_path, data=str(data), port=str(free_port()))
        try:
            address = re.search(r"http://[^ ]+", line_with(process, "Longshore answers at"))
            assert address
            assert httpx2.get(f"{address[0]}/readyz").status_code == 200
            if number == signal.SIGINT:
                ended_by_ctrl_c(process)
                continue
            process.send_signal(number)
            output, _ = process.communicate(timeout=30)
            assert process.returncode == 0, output
            assert "Traceback" not in output, output
        finally:
            process.kill()
            process.wait()
            nothing_left(data)


def test_seed_writes_three_chains_once(idle_service: Longshore, tmp_path: Path) -> None:
    async def counts() -> dict[int, int]:
        connection = await asyncpg.connect(idle_service.url)
        try:
            rows = await connection.fetch("select chain_id, count(*) from loyalty.wallet_ledger group by 1")
            return {row[0]: row[1] for row in rows}
        finally:
            await connection.close()

    def seeded(rows: int) -> subprocess.CompletedProcess[str]:
        return run("seed", "--rows", str(rows), folder=tmp_path, database_url=idle_service.url)

    first, again = seeded(1000), seeded(1000)
    assert (first.returncode, first.stdout) == (0, "done\n")
    assert (again.returncode, again.stdout) == (0, "the data is there already\n")
    assert asyncio.run(counts()) == {1764: 1000, 1765: 100, 9: 100}
    assert seeded(50).stdout == "done\n"
    assert asyncio.run(counts()) == {1764: 50, 1765: 5, 9: 5}


def test_migrate_check_says_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "data") as url:
        missing = run("migrate", "--check", folder=tmp_path, database_url=url)
        assert missing.returncode == 1
        assert missing.stdout.splitlines()[0] == "0001 initial"
        failed(run("api", folder=tmp_path, database_url=url, port=str(free_port())), "longshore migrate")
        assert run("migrate", folder=tmp_path, database_url=url).returncode == 0
        there = run("migrate", "--check", folder=tmp_path, database_url=url)
        assert (there.returncode, there.stdout) == (0, "the schema is this version's\n")

        async def from_the_future() -> None:
            connection = await asyncpg.connect(url)
            await connection.execute("insert into longshore.migrations (number, name) values (9999, 'later')")
            await connection.close()

        asyncio.run(from_the_future())
        failed(run("migrate", "--check", folder=tmp_path, database_url=url), "newer")
        failed(run("api", folder=tmp_path, database_url=url, port=str(free_port())), "newer")


def test_migrate_reports_its_steps_on_the_embedded_database(tmp_path: Path) -> None:
    missing = run("migrate", "--check", folder=tmp_path, data="data")
    assert (missing.returncode, missing.stdout.splitlines()[0]) == (1, "0001 initial")
    first = run("migrate", folder=tmp_path, data="data")
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, "0001 initial")
    assert first.stderr == ""
    again = run("migrate", folder=tmp_path, data="data")
    assert (again.returncode, again.stdout) == (0, "nothing to do\n")


def test_migrate_without_the_right_to_create_roles_says_that_row_security_is_off_and_how_to_mend_it(
    tmp_path: Path,
) -> None:
    async def as_admin(url: str, *statements: str) -> None:
        connection = await asyncpg.connect(url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    with embedded_server(tmp_path / "data") as url:
        asyncio.run(as_admin(url, "create role plain login", "create database plain owner plain"))
        parts = urlsplit(url)
        plain = parts._replace(netloc=f"plain@{parts.netloc.rpartition('@')[2]}", path="/plain").geturl()
        first = run("migrate", folder=tmp_path, database_url=plain)
        assert first.returncode == 0, first.stderr
        (warning,) = first.stderr.splitlines()
        assert warning.startswith("warning: the role longshore_export does not exist")
        statements = re.findall(r"(CREATE ROLE \w+ NOLOGIN|GRANT \w+ TO \w+)", warning)
        assert len(statements) == 2
        asyncio.run(as_admin(url, *statements))
        mended = run("migrate", folder=tmp_path, database_url=plain)
        assert (mended.returncode, mended.stdout, mended.stderr) == (0, "nothing to do\n", "")


def test_no_interrupt_is_lost_in_a_destructor() -> None:
    code = """
import os, signal, time
from longshore.processes import interrupt_on_sigterm

class Unlucky:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

interrupt_on_sigterm()
try:
    Unlucky()
    time.sleep(20)
    print("lost")
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\n"


def test_ctrl_c_reaches_commands_that_tests_start_where_the_tests_themselves_ignore_it() -> None:
    child = [
        sys.executable,
        "-c",
        "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)",
    ]
    code = f"""
import signal, subprocess
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what it runs in the background
import tests.conftest
subprocess.run({child!r}, check=True)
"""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr
