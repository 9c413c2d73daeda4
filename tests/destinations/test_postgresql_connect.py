"""Connections to a customer's PostgreSQL: TLS as in libpq, checked addresses, nothing of the service's environment."""

import asyncio
import os
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import uvloop

from longshore import outbound
from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.destinations.postgresql import postgresql
from longshore.destinations.postgresql.connect import PostgresqlSecret, PostgresqlSettings, connect
from longshore.destinations.postgresql.errors import is_transient, server_errors
from longshore.destinations.servers import checked_addresses
from tests.debian_postgres import DebianPostgres, pgbouncer
from tests.destinations.servers import begin_old_tls
from tests.destinations.warehouse import ALLOW, KIND, Warehouse, a_load
from tests.service import free_port

TLS = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"


async def query_warehouse(warehouse: Warehouse, query: str = TLS, password: str | None = None, **changes: Any) -> Any:
    settings = msgspec.structs.replace(warehouse.settings, **changes)
    secret = warehouse.secret if password is None else PostgresqlSecret(password)
    connection = await connect(settings, secret, await checked_addresses(settings.host, settings.port, ALLOW))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def opened(warehouse: Warehouse, password: str | None = None, allow: Any = ALLOW, **changes: Any) -> None:
    settings = msgspec.structs.replace(warehouse.settings, **changes)
    async with KIND.open(settings, warehouse.secret if password is None else PostgresqlSecret(password), allow):
        pass


@pytest.mark.parametrize(
    ("mode", "trusts", "host", "encrypted"),
    [
        ("disable", True, "localhost", False),
        ("allow", True, "localhost", False),
        ("prefer", True, "localhost", True),
        ("prefer", False, "127.0.0.1", True),
        ("require", False, "127.0.0.1", True),
        ("require", True, "127.0.0.1", True),
        ("verify-ca", True, "127.0.0.1", True),
        ("verify-full", True, "localhost", True),
    ],
)
def test_tls_is_used_as_sslmode_says(warehouse: Warehouse, mode: str, trusts: bool, host: str, encrypted: bool) -> None:
    changes = {"sslmode": mode, "host": host, **({} if trusts else {"sslrootcert": ""})}
    assert asyncio.run(query_warehouse(warehouse, **changes)) is encrypted


@pytest.mark.parametrize("mode", ["allow", "prefer"])
@pytest.mark.parametrize(("role", "encrypted"), [("encrypted", True), ("unencrypted", False)])
def test_prefer_and_allow_take_the_connection_that_the_server_admits(
    warehouse: Warehouse, mode: str, role: str, encrypted: bool
) -> None:
    assert asyncio.run(query_warehouse(warehouse, sslmode=mode, username=role, password=role[0])) is encrypted


OTHER_AUTHORITY = """-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUYYzYhVNjUTW1NpP6AFKHI9b4lKMwCgYIKoZIzj0EAwIw
-----END CERTIFICATE-----
"""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": "127.0.0.1"}, "certificate is refused: .*IP address mismatch"),
        ({"sslrootcert": ""}, "certificate is refused: .*set sslrootcert"),
        ({"sslrootcert": "", "sslmode": "verify-ca"}, "sslmode verify-ca needs sslrootcert"),
        ({"sslrootcert": "no certificate"}, "sslrootcert has no certificate in PEM form"),
        ({"sslrootcert": OTHER_AUTHORITY}, "sslrootcert has no certificate in PEM form"),
        ({"username": "unencrypted"}, "28000.*pg_hba.conf"),
    ],
)
def test_server_that_does_not_prove_who_it_is_gets_nothing(
    warehouse: Warehouse, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(DestinationError, match=message):
        asyncio.run(opened(warehouse, **changes))


def test_server_without_tls_is_refused_unless_sslmode_allows_it(warehouse_18: Warehouse) -> None:
    for mode in ("require", "verify-ca", "verify-full"):
        with pytest.raises(DestinationError, match="does not offer TLS"):
            asyncio.run(opened(warehouse_18, sslmode=mode, sslrootcert="" if mode != "verify-ca" else AUTHORITY()))
    for mode in ("disable", "allow", "prefer"):
        asyncio.run(opened(warehouse_18, sslmode=mode))


def AUTHORITY() -> str:  # noqa: N802
    import certifi

    return Path(certifi.where()).read_text(encoding="utf-8").partition("-----END")[0] + "-----END CERTIFICATE-----\n"


def test_tls_verifies_the_name_also_in_the_loop_of_the_service(warehouse: Warehouse) -> None:
    assert uvloop.run(query_warehouse(warehouse)) is True
    with pytest.raises(DestinationError, match="certificate is refused"):
        uvloop.run(opened(warehouse, host="127.0.0.1"))


def look_up(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Look up names by a function, none of whose answers is known before."""
    monkeypatch.setattr(socket, "getaddrinfo", answer)
    monkeypatch.setattr(outbound, "_lookups", outbound._Lookups())


def test_host_is_resolved_once_and_its_certificate_is_checked_for_its_name(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[Any] = []

    def resolve(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        names.append(host)
        found = "127.0.0.1" if names.count(host) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port))]

    look_up(monkeypatch, resolve)
    asyncio.run(opened(warehouse))
    assert names == ["localhost"]
    with pytest.raises(DestinationError, match="certificate is refused: Hostname mismatch"):
        asyncio.run(opened(warehouse, host="db.example.com"))


@pytest.mark.parametrize("found", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"])
def test_host_with_an_address_that_is_not_public_is_refused_before_a_connection(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    family = socket.AF_INET6 if ":" in found else socket.AF_INET
    answers = [(family, socket.SOCK_STREAM, 6, "", (found, warehouse.settings.port))]
    look_up(monkeypatch, lambda *_, **__: answers)
    with pytest.raises(DestinationError, match="not public; the operator can allow its network"):
        asyncio.run(opened(warehouse, allow=()))


def test_unknown_host_and_closed_port_are_transient_errors(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DestinationUnavailableError):
        asyncio.run(opened(warehouse, port=free_port()))

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    look_up(monkeypatch, unknown)
    with pytest.raises(DestinationUnavailableError, match="the host localhost is not known"):
        asyncio.run(opened(warehouse))


def test_second_address_of_a_host_is_tried(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(_: Any, port: Any, *__: Any, **___: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port)) for found in ("127.0.0.2", "127.0.0.1")]

    look_up(monkeypatch, both)
    asyncio.run(opened(warehouse))


def poison(monkeypatch: pytest.MonkeyPatch, home: Path, warehouse: Warehouse) -> None:
    """Fill the environment with everything that libpq and asyncpg look at."""
    settings = warehouse.settings
    (home / ".postgresql").mkdir()
    (home / ".postgresql" / "root.crt").write_text(settings.sslrootcert)
    password = warehouse.secret.password
    (home / ".pgpass").write_text(f"*:*:*:*:{password}\n")
    (home / ".pgpass").chmod(0o600)
    (home / ".pg_service.conf").write_text("[other]\nhost=127.0.0.9\nport=1\nuser=postgres\ndbname=postgres\n")
    (home / "authority.pem").write_text(settings.sslrootcert)
    variables = {
        "HOME": str(home), "PGHOST": "127.0.0.9", "PGHOSTADDR": "127.0.0.9", "PGPORT": "1", "PGDATABASE": "postgres",
        "PGUSER": "postgres", "PGPASSWORD": password, "PGPASSFILE": str(home / ".pgpass"), "PGSERVICE": "other",
        "PGSERVICEFILE": str(home / ".pg_service.conf"), "PGSSLMODE": "disable", "PGSSLNEGOTIATION": "direct",
        "PGSSLROOTCERT": str(home / "authority.pem"), "PGSSLCERT": "/nowhere", "PGSSLKEY": "/nowhere",
        "PGSSLCRL": "/nowhere", "PGSSLMINPROTOCOLVERSION": "TLSv1.3", "PGSSLMAXPROTOCOLVERSION": "TLSv1.1",
        "PGTARGETSESSIONATTRS": "standby", "PGKRBSRVNAME": "other", "PGGSSLIB": "bogus",
        "PGOPTIONS": "-c work_mem=99MB", "PGAPPNAME": "other", "PGCLIENTENCODING": "LATIN1",
        "PGTZ": "Asia/Tokyo", "PGDATESTYLE": "SQL, DMY",
        "SSL_CERT_FILE": str(home / "authority.pem"), "SSL_CERT_DIR": str(home), "SSLKEYLOGFILE": str(home / "keys"),
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_nothing_of_the_environment_is_read(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poison(monkeypatch, tmp_path, warehouse)
    query = (
        "select concat_ws(' ', current_user, current_database(), current_setting('application_name'),"
        " current_setting('client_encoding'), current_setting('work_mem'), current_setting('datestyle'))"
    )
    assert asyncio.run(query_warehouse(warehouse, query)) == "loader warehouse longshore delivery UTF8 4MB ISO, MDY"
    assert asyncio.run(query_warehouse(warehouse)) is True
    for password in ("", "wrong"):
        with pytest.raises(DestinationError, match="28P01"):
            asyncio.run(opened(warehouse, password))
    with pytest.raises(DestinationError, match="certificate is refused"):
        asyncio.run(opened(warehouse, sslrootcert=""))
    assert not (tmp_path / "keys").exists()
    warehouse.load(a_load({"id": "int8"}, [("1",)]))
    assert "PGPASSWORD" in os.environ


@pytest.mark.parametrize(
    "change",
    [{"host": "/var/run/postgresql"}, {"host": "a,b"}, {"host": ""}, {"host": "x y"}, {"port": 0}, {"port": 65_536},
     {"username": "a\x00b"}, {"database": ""}, {"schema": "a\x00"}, {"sslmode": "no-verify"}, {"service": "x"}],
)  # fmt: skip
def test_settings_that_could_mean_something_else_are_refused(change: dict[str, Any]) -> None:
    good = {"host": "db.example.com", "database": "d", "username": "u"}
    assert msgspec.convert(good, PostgresqlSettings).sslmode == "verify-full"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**good, **change}, PostgresqlSettings)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"password": "a\x00b"}, PostgresqlSecret)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [({"host": "10.1.2.3"}, "/settings/host"), ({"sslrootcert": "x"}, "/settings/sslrootcert"),
     ({"sslmode": "verify-ca"}, "/settings/sslrootcert"),
     ({"sslmode": "prefer", "sslrootcert": "x"}, "/settings/sslrootcert"),
     ({"sslmode": "disable", "sslrootcert": "-----BEGIN PRIVATE KEY-----"}, "/settings/sslrootcert")],
)  # fmt: skip
def test_settings_that_cannot_work_are_violations(change: dict[str, Any], pointer: str) -> None:
    good = {"host": "db.example.com", "database": "d", "username": "u"}
    secret = PostgresqlSecret("p")
    assert KIND.check(msgspec.convert(good, PostgresqlSettings), secret, ()) == []
    found = KIND.check(msgspec.convert({**good, **change}, PostgresqlSettings), secret, ())
    assert {violation.pointer for violation in found} == {pointer}


class OldServer(socketserver.StreamRequestHandler):
    """A server that takes any password and reports that it is PostgreSQL 14."""

    def handle(self) -> None:
        self.rfile.read(int.from_bytes(self.rfile.read(4)) - 4)
        version = b"server_version\x0014.19 (Debian 14.19-1)\x00"
        for kind, content in ((b"R", bytes(4)), (b"S", version), (b"K", bytes(8)), (b"Z", b"I")):
            self.wfile.write(kind + (len(content) + 4).to_bytes(4) + content)
        self.rfile.read()


def test_server_older_than_15_is_refused_by_its_version() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = PostgresqlSettings(
            host="127.0.0.1", port=server.server_address[1], database="d", username="u", sslmode="disable"
        )
        old = Warehouse("", settings, PostgresqlSecret("p"))
        try:
            with pytest.raises(DestinationError, match=r"is PostgreSQL 14; expected 15 or later"):
                old.load(a_load({"id": "int8"}, [("1",)]))
            *before, last = old.test()
        finally:
            server.shutdown()
    assert (last.step, [step.step for step in before]) == ("authenticate", ["resolve", "connect"])
    assert "15 or later" in last.detail


class Answering(socketserver.StreamRequestHandler):
    """A server that asks for a method of authentication that asyncpg lacks, after TLS of a version that is no more."""

    def handle(self) -> None:
        if self.rfile.read(int.from_bytes(self.rfile.read(4)) - 4)[:4] == (80877103).to_bytes(4):
            self.wfile.write(b"S")
            begin_old_tls(self.connection)
            return
        content = (10).to_bytes(4) + b"OAUTHBEARER\x00\x00"
        self.wfile.write(b"R" + (len(content) + 4).to_bytes(4) + content)
        self.rfile.read()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("sslmode", "message"), [("disable", "unsupported SASL"), ("require", "needs TLS 1.2 or later")]
)
def test_server_that_cannot_be_spoken_with_is_refused_at_once(sslmode: Any, message: str) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = PostgresqlSettings(
            host="127.0.0.1", port=server.server_address[1], database="d", username="u", sslmode=sslmode
        )
        try:
            with pytest.raises(DestinationError, match=message):
                Warehouse("", settings, PostgresqlSecret("p")).load(a_load({"id": "int8"}, [("1",)]))
        finally:
            server.shutdown()


def test_every_sqlstate_has_one_meaning() -> None:
    codes = {error.sqlstate for error in vars(asyncpg).values() if isinstance(getattr(error, "sqlstate", None), str)}
    passing = {code for code in codes if is_transient(code)}
    assert {
        "08006",
        "40P01",
        "40001",
        "53300",
        "53100",
        "55P03",
        "55006",
        "57P01",
        "57P03",
        "57014",
        "25006",
    } <= passing
    staying = {
        "28P01",
        "28000",
        "3D000",
        "3F000",
        "42501",
        "42P01",
        "22P02",
        "23505",
        "23502",
        "0A000",
        "55000",
        "P0001",
        "XX000",
    }
    assert not staying & passing


def test_error_of_a_lost_connection_has_a_message() -> None:
    lost = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    with (
        pytest.raises(DestinationUnavailableError, match=r"^there: connection was closed .*08003"),
        server_errors("there"),
    ):
        raise lost


def test_kind_is_installed_by_its_entry_point() -> None:
    from longshore.destinations.kind import load
    from longshore.settings import Settings

    assert load(Settings())["postgresql"].settings is PostgresqlSettings
    assert postgresql(Settings()).takes == "tables"


def test_role_with_hostile_defaults_loads_the_same(warehouse: Warehouse, warehouse_server: DebianPostgres) -> None:
    hostile = {"datestyle": "'SQL, DMY'", "intervalstyle": "sql_standard", "timezone": "'Asia/Tokyo'",
               "statement_timeout": "250", "lock_timeout": "250", "array_nulls": "off", "xmloption": "document",
               "standard_conforming_strings": "off", "bytea_output": "escape", "row_security": "off",
               "idle_in_transaction_session_timeout": "250",
               "quote_all_identifiers": "on", "client_min_messages": "debug5"}  # fmt: skip
    warehouse_server.sql(";".join(f"alter role loader set {name} = {value}" for name, value in hostile.items()))
    columns = {"id": "int8", "day": "date", "at": "timestamptz", "span": "interval", "list": "text[]", "x": "xml"}
    warehouse.sql("create table orders (id bigint); alter table orders owner to loader;"
                  "create function slow() returns trigger language plpgsql as"
                  " $$ begin perform pg_sleep(0.4); return new; end $$;"
                  "create trigger slow before insert on orders for each row execute function slow()")  # fmt: skip
    row = ("1", "2026-02-01", "2026-02-01T00:00:00.000000Z", "P-1DT-2H", "{NULL,a}", "a<b/>")
    try:
        warehouse.load(a_load(columns, [row], "merge"))
        warehouse.load(a_load(columns, [row], "merge", run=2))
    finally:
        warehouse_server.sql("alter role loader reset all")
    (found,) = warehouse.sql(
        "select day::text, at at time zone 'UTC', span::text, list[1] is null, x::text from orders"
    )
    assert (found[0], str(found[1]), *found[2:]) == (
        "2026-02-01",
        "2026-02-01 00:00:00",
        "-1 days -02:00:00",
        True,
        "a<b/>",
    )


@pytest.mark.parametrize("pool", ["session", "transaction"])
def test_loads_work_through_pgbouncer_and_leave_its_sessions_as_they_were(
    warehouse: Warehouse, warehouse_server: DebianPostgres, pool: str
) -> None:
    kept = "select concat_ws(' ', current_setting('lock_timeout'), current_setting('intervalstyle'))"
    with pgbouncer(
        warehouse_server, {"loader": warehouse.secret.password}, pool_mode=pool, default_pool_size="1"
    ) as port:
        behind = {"host": "127.0.0.1", "port": port, "sslmode": "disable"}
        pooled = Warehouse(warehouse.admin, msgspec.structs.replace(warehouse.settings, **behind), warehouse.secret)
        before = asyncio.run(query_warehouse(pooled, kept))
        columns, rows = {"id": "int8", "name": "text"}, [("1", "a"), ("2", None)]
        for run, mode in enumerate(("append", "merge", "replace", "merge"), 1):
            pooled.load(a_load(columns, rows, mode, run=run, table=mode))
        assert all(step.ok for step in pooled.test())
        assert asyncio.run(query_warehouse(pooled, kept)) == before == "0 postgres"
    assert warehouse.sql("select count(*) from merge, append, replace") == [(8,)]
