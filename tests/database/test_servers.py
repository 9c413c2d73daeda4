"""Servers that people have: TLS, poolers, standbys, roles without rights, other locales and encodings."""

import asyncio
import csv
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import asyncpg
import pytest

from longshore.database.connect import connected, open_pool
from longshore.database.migrate import migrate
from longshore.database.pinned_settings import PINNED_SETTINGS
from longshore.database.requirements import require_sessions
from longshore.database.tls import open_by_mode
from longshore.errors import LongshoreError
from tests.command import failed, run
from tests.debian_postgres import DebianPostgres, debian_postgres, pgbouncer, standby_of
from tests.service import Longshore, export_body, exported, in_own_loop

TLS = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
PASSWORD = "p@ss/w?rd#%:"


@pytest.fixture(scope="module")
def server() -> Iterator[DebianPostgres]:
    """A Turkish PostgreSQL 15 with a role that owns one database of another locale and may do nothing else."""
    with debian_postgres(locale="tr_TR.UTF-8") as server:
        server.sql(f"create role longshore login password '{PASSWORD}'")
        server.sql("create database longshore owner longshore locale 'C.UTF-8' template template0")
        server.sql("create role unencrypted login password 'u'; create role encrypted login password 'e'")
        rules = server.cluster / "pg_hba.conf"
        first = "hostssl all unencrypted all reject\nhostnossl all encrypted all reject\n"
        rules.write_text(first + rules.read_text())
        server.sql("select pg_reload_conf()")
        yield server


def answer(url: str, query: str = TLS) -> object:
    async def ask() -> object:
        async with connected(url, "test") as connection:
            return await connection.fetchval(query)

    return in_own_loop(ask())


@pytest.mark.parametrize(
    ("query", "encrypted"),
    [
        ("", True),
        ("?sslmode=disable", False),
        ("?sslmode=allow", False),
        ("?sslmode=require", True),
        ("?sslmode=verify-ca&sslrootcert={authority}", True),
        ("?sslmode=verify-full&sslrootcert={authority}", True),
        ("?sslmode=require&channel_binding=require&sslrootcert={authority}", True),
        ("?sslmode=require&channel_binding=prefer&gssencmode=disable&target_session_attrs=read-write", True),
        (
            "?pgbouncer=true&connection_limit=5&keepalives=1&keepalives_idle=30&application_name=x&connect_timeout=10",
            True,
        ),
        ("?ssl_min_protocol_version=TLSv1.3&options=-c%20work_mem%3D8MB", True),
    ],
)
def test_addresses_as_providers_hand_them_out_connect(server: DebianPostgres, query: str, encrypted: bool) -> None:
    assert answer(server.tcp("postgres", "postgres") + query.format(authority=server.authority)) is encrypted


def test_options_of_an_address_reach_the_server(server: DebianPostgres) -> None:
    url = server.tcp("postgres", "postgres", options="-c work_mem=8MB")
    assert answer(url, "show work_mem") == "8MB"


@pytest.mark.parametrize("query", ["sslmode=verify-full&sslrootcert=system", "sslmode=require&channel_binding=require"])
def test_a_server_that_cannot_prove_who_it_is_gets_no_password(server: DebianPostgres, query: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        answer(f"{server.tcp('postgres', 'postgres')}?{query}")


def test_verify_full_refuses_another_host_and_verify_ca_does_not(server: DebianPostgres) -> None:
    for mode, good in (("verify-ca", True), ("verify-full", False)):
        url = server.tcp("postgres", "postgres", host="127.0.0.1", sslmode=mode, sslrootcert=str(server.authority))
        if good:
            assert answer(url)
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                answer(url)


def test_unverified_certificate_is_reported_in_one_line(server: DebianPostgres, tmp_path: Path) -> None:
    url = server.tcp("postgres", "postgres", sslmode="verify-full", sslrootcert="system")
    failed(run("migrate", folder=tmp_path, database_url=url), "certificate", "sslrootcert")


@pytest.mark.parametrize("mode", ["allow", "prefer"])
@pytest.mark.parametrize(("role", "encrypted"), [("encrypted", True), ("unencrypted", False)])
def test_prefer_and_allow_use_the_kind_of_connection_that_the_server_accepts(
    server: DebianPostgres, mode: str, role: str, encrypted: bool
) -> None:
    assert answer(server.tcp(role, role[0], sslmode=mode)) is encrypted


def test_the_writable_one_of_several_hosts_is_used_also_after_a_failover(server: DebianPostgres) -> None:
    with standby_of(server) as standby:
        both = f"localhost:{standby.port},localhost:{server.port}"
        url = f"postgresql://postgres:postgres@{both}/postgres?target_session_attrs=read-write"
        port = "select current_setting('port')::int"
        assert answer(url, port) == server.port
        assert answer(url.replace("read-write", "standby"), port) == standby.port
        only = f"postgresql://postgres:postgres@localhost:{standby.port}/postgres?target_session_attrs=read-write"
        with pytest.raises(ConnectionError, match="read-write"):
            answer(only)
        standby.sql("select pg_promote()")
        assert answer(only, port) == standby.port


@pytest.mark.parametrize("query", ["", "?connect_timeout=2", "?connect_timeout=2&target_session_attrs=read-write"])
def test_host_that_never_answers_does_not_keep_the_next_one_from_being_tried(
    server: DebianPostgres, query: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        both = f"127.0.0.1:{silent.getsockname()[1]},localhost:{server.port}"
        url = f"postgresql://postgres:postgres@{both}/postgres{query}"
        assert answer(url, "select current_setting('port')::int") == server.port


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_host_that_closes_each_connection_does_not_keep_the_next_one_from_being_tried(
    server: DebianPostgres, mode: str
) -> None:
    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def found() -> object:
        async with await asyncio.start_server(close, "127.0.0.1", 0) as closing:
            both = f"127.0.0.1:{closing.sockets[0].getsockname()[1]},localhost:{server.port}"
            url = f"postgresql://postgres:postgres@{both}/postgres?sslmode={mode}"
            async with connected(url, "test") as connection:
                return await connection.fetchval("select current_setting('port')::int")

    assert asyncio.run(found()) == server.port


def test_hosts_and_ports_of_the_environment_are_tried_in_turn(
    server: DebianPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PGHOST", "127.0.0.1,localhost")
        monkeypatch.setenv("PGPORT", f"{silent.getsockname()[1]},{server.port}")
        url = "postgresql://postgres:postgres@/postgres?connect_timeout=2"
        assert answer(url, "select current_setting('port')::int") == server.port


def test_server_that_starts_up_is_reported_rather_than_a_host_that_is_down() -> None:
    async def start_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
        writer.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)
        await writer.drain()
        writer.close()

    async def connect_to(*order: int) -> None:
        starting = await asyncio.start_server(start_up, "127.0.0.1", 0)
        with socket.socket() as down:
            down.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in (starting.sockets[0], down)]
            hosts = ",".join(f"127.0.0.1:{ports[number]}" for number in order)
            async with starting, connected(f"postgresql://a@{hosts}/a?sslmode=disable", "test"):
                pass

    for order in ((0, 1), (1, 0)):
        with pytest.raises(asyncpg.CannotConnectNowError):
            asyncio.run(connect_to(*order))


def test_standby_is_preferred_among_several_hosts_where_there_is_one(server: DebianPostgres) -> None:
    port = "select current_setting('port')::int"
    with standby_of(server) as standby:
        both = f"localhost:{server.port},localhost:{standby.port}"
        assert answer(f"postgresql://postgres:postgres@{both}/postgres?target_session_attrs=prefer-standby", port) == (
            standby.port
        )
    alone = server.tcp("postgres", "postgres", target_session_attrs="prefer-standby")
    assert answer(alone, port) == server.port


def test_wrong_password_is_reported_where_the_server_lacks_tls_too() -> None:
    async def open_with(context: ssl.SSLContext | Literal[False]) -> None:
        raise ConnectionError("no TLS") if context else asyncpg.InvalidPasswordError("wrong password")

    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(open_by_mode("prefer", ssl.create_default_context(), open_with))


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pgbouncer"])
def test_every_session_keeps_its_pinned_settings(server: DebianPostgres, pooled: bool) -> None:
    async def held(url: str) -> dict[str, str]:
        found = 'select name, current_setting(name) from pg_settings where lower(name collate "C") = any($1)'
        async with open_pool(url, size=1, name="test", lock_timeout="7s") as pool:
            return {row[0].lower(): row[1] for row in await pool.fetch(found, [*PINNED_SETTINGS])}

    with pgbouncer(server, {"postgres": "postgres"}) as port:
        url = server.tcp("postgres", "postgres")
        found = in_own_loop(held(url.replace(str(server.port), str(port)) if pooled else url))
    expected = {
        **PINNED_SETTINGS,
        "lock_timeout": "7s",
        "search_path": found["search_path"],
        "tcp_user_timeout": "20000",
    }
    assert found["search_path"] in ("", '""')
    assert expected.keys() - found.keys() == {"transaction_timeout"}  # which PostgreSQL 15 does not know
    assert found == {name: expected[name] for name in found}


def test_a_pooler_in_transaction_mode_is_refused_in_one_line(server: DebianPostgres, tmp_path: Path) -> None:
    with pgbouncer(server, {"postgres": "postgres"}, pool_mode="transaction") as port:
        url = f"postgresql://postgres:postgres@localhost:{port}/longshore"
        failed(run("migrate", folder=tmp_path, database_url=url), "transaction mode", "session")
        with pytest.raises(LongshoreError, match="transaction mode"):
            asyncio.run(require_sessions(url))


def test_pooler_in_transaction_mode_that_takes_its_servers_in_turn_is_refused(server: DebianPostgres) -> None:
    async def check(url: str) -> None:
        async with connected(url, "test") as first, connected(url, "test") as second, connected(url, "test") as third:
            for each in (first, second, third):  # at once, so that the pooler opens a server connection for each
                await each.execute("begin")
            for each in (first, second, third):
                await each.execute("commit")
        await require_sessions(url)

    options = {"pool_mode": "transaction", "server_round_robin": "1"}
    with (
        pgbouncer(server, {"postgres": "postgres"}, **options) as port,
        pytest.raises(LongshoreError, match="transaction mode"),
    ):
        in_own_loop(check(f"postgresql://postgres:postgres@localhost:{port}/longshore"))


def test_an_export_works_as_a_plain_role_through_pgbouncer(server: DebianPostgres, tmp_path: Path) -> None:
    with pgbouncer(server, {"longshore": PASSWORD}) as port:
        url = server.tcp("longshore", PASSWORD, "longshore").replace(str(server.port), str(port))
        assert asyncio.run(migrate(url))
        done = run("seed", "--rows", "2000", folder=tmp_path, database_url=url)
        assert done.returncode == 0, done.stderr
        service = Longshore(tmp_path, server.url("longshore", "longshore"), database_url=url)
        try:
            service.start("worker")
            service.start_api()
            with service.client() as client:
                _, result = exported(client, export_body())
        finally:
            service.stop()
        assert len(list(csv.reader(result.decode().splitlines()))) == 2001
        logged = [entry for entry in service.logged() if entry["level"] in ("error", "critical")]
        assert not logged


def test_a_database_of_another_encoding_is_refused_in_one_line(server: DebianPostgres, tmp_path: Path) -> None:
    server.sql("create database latin encoding 'LATIN1' locale 'C' template template0")
    done = run("migrate", folder=tmp_path, database_url=server.url(database="latin"))
    failed(done, "LATIN1", "encoding 'UTF8'")


def test_a_database_whose_locale_changes_what_is_compared_is_refused_in_one_line(
    server: DebianPostgres, tmp_path: Path
) -> None:
    failed(run("migrate", folder=tmp_path, database_url=server.url()), "tr_TR.UTF-8", "locale 'C.UTF-8'")


def test_a_database_of_a_turkish_icu_locale_is_refused_by_the_name_of_that_locale(
    server: DebianPostgres, tmp_path: Path
) -> None:
    server.sql("create database icu locale_provider icu icu_locale 'tr' locale 'C.UTF-8' template template0")
    failed(run("migrate", folder=tmp_path, database_url=server.url(database="icu")), "has the ICU locale tr, in which")


def test_a_read_only_database_is_named_as_such_in_one_line(server: DebianPostgres, tmp_path: Path) -> None:
    server.sql("create role reads superuser login; alter role reads set default_transaction_read_only = on")
    server.sql("create database quiet locale 'C.UTF-8' template template0")
    url = server.url("reads", "quiet")
    for command in (("migrate",), ("seed", "--rows", "1")):
        failed(run(*command, folder=tmp_path, database_url=url), "is read-only", "default_transaction_read_only")


def test_a_statement_timeout_of_a_role_that_is_too_short_for_anything_is_lifted(server: DebianPostgres) -> None:
    server.sql("create role hasty login; alter role hasty set statement_timeout = 1")
    assert answer(server.url("hasty"), "select count(*) from generate_series(1, 100000), pg_sleep(0.01)") == 100_000


def test_a_source_that_refuses_the_worker_is_named(server: DebianPostgres, tmp_path: Path) -> None:
    asyncio.run(migrate(server.url("longshore", "longshore")))
    server.sql("create role locked_out login; revoke connect on database longshore from public")
    source = server.url("locked_out", "longshore")
    done = run("worker", folder=tmp_path, database_url=server.url("longshore", "longshore"), source_url=source)
    failed(done, "source (LONGSHORE_SOURCE_URL)", "permission denied for database")


def test_role_that_owns_an_existing_schema_can_migrate(server: DebianPostgres) -> None:
    server.sql("create role guest login")
    server.sql("create database shared locale 'C.UTF-8' template template0")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(migrate(server.url("guest", "shared")))
    server.sql("create schema longshore authorization guest", database="shared")
    assert asyncio.run(migrate(server.url("guest", "shared")))
