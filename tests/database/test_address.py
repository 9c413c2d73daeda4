"""Addresses of databases: what libpq takes is taken, and no message shows a part of a password."""

import os
import ssl
from pathlib import Path
from urllib.parse import quote

import botocore
import psycopg.conninfo
import pytest

from longshore.database.connection_uri import SUPPORTED, VARIABLES, parse
from longshore.database.tls import ssl_context, ssl_mode
from longshore.errors import LongshoreError
from longshore.settings_sources import load
from tests.command import failed, run

VALUES = {
    "port": "5432", "sslmode": "verify-full", "connect_timeout": "5", "channel_binding": "require",
    "gssencmode": "prefer", "target_session_attrs": "read-write", "sslnegotiation": "postgres",
    "ssl_min_protocol_version": "TLSv1.2", "ssl_max_protocol_version": "TLSv1.3", "gsslib": "gssapi",
}  # fmt: skip
NOT_OURS = ("service", "servicefile", "replication")  # a file that must be there; another protocol

ADDRESSES = [
    "postgresql://",
    "postgresql://localhost",
    "postgresql://localhost:5433",
    "postgres://me@localhost/db",
    "postgresql://me:s%2Fe%3Fc%23r%40e%25t%3A@db.example.com:6543/my%20db?sslmode=require",
    "postgresql://me:a:b:c@localhost/db",
    "postgresql://me::@localhost/db",
    "postgresql://me@one:5432,two:5433/db?target_session_attrs=read-write",
    "postgresql://me@/db?host=one,two&port=5432,5433",
    "postgresql://me@/db?host=/run/my%20postgres&port=5433",
    "postgresql://%2Frun%2Fpostgresql/db",
    "postgresql://me@[::1]:5433,[2001:db8::2]/db",
    "postgresql://me@[fe80::1%25eth0]:5433/db",
    "postgresql://other@db/?user=me&password=a%2Bb+c&dbname=x",
    "postgresql://db/x?options=-c%20statement_timeout%3D5s%20-c%20geqo%3Doff&application_name=a",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_address_is_parsed_as_by_libpq(url: str) -> None:
    theirs, ours = psycopg.conninfo.conninfo_to_dict(url), parse(url)
    assert ours.hosts == (str(theirs["host"]).split(",") if "host" in theirs else [])
    ports = [int(port or 5432) for port in str(theirs.get("port", "5432")).split(",")]
    assert ours.ports == (ports if len(ports) > 1 else ports * max(1, len(ours.hosts)))
    assert (ours.user, ours.password) == (theirs.get("user"), theirs.get("password"))
    assert ours.database == theirs.get("dbname")
    assert psycopg.conninfo.conninfo_to_dict(ours.uri) == theirs


def test_every_parameter_of_libpq_is_supported_or_ignored() -> None:
    names = [default.keyword.decode() for default in psycopg.pq.Conninfo.get_defaults()]
    assert len(names) > 35
    for name in set(names) - set(NOT_OURS):
        if not name.startswith("oauth_"):
            parse(f"postgresql://db/x?{name}={VALUES.get(name, 'x')}")


@pytest.mark.parametrize("parameter", ["pgbouncer=true", "connection_limit=1", "supa=base-pooler.x", "pool_timeout=0"])
def test_a_parameter_for_other_clients_is_ignored_and_not_printed_for_libpq(parameter: str) -> None:
    address = parse(f"postgresql://db/x?{parameter}&sslmode=require")
    assert address.ignored == [parameter.partition("=")[0]]
    assert address.uri == "postgresql://db/x?sslmode=require"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmod=require", ("sslmod ", "did you mean sslmode?")),
        ("schema=shop", ("schema is not a parameter",)),
        ("sslmode=always", ("sslmode must be one of", "verify-full")),
        ("gssencmode=require", ("gssencmode must be one of",)),
        ("connect_timeout=soon", ("connect_timeout",)),
        ("port=x", ("port",)),
        ("port=1,2", ("1 hosts and 2 ports",)),
        ("sslmode=prefer&channel_binding=require", ("channel_binding", "sslmode=require")),
        ("sslmode=require&sslrootcert=system", ("sslrootcert=system", "verify-full")),
        ("replication=database", ("replication is not a parameter",)),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused_by_name(query: str, words: tuple[str, ...]) -> None:
    with pytest.raises(LongshoreError) as caught:
        load({"LONGSHORE_DATABASE_URL": f"postgresql://db/x?{query}"})
    for word in ("database_url", *words):
        assert word in str(caught.value)


PASSWORDS = [
    *(f"hunt{character}geheim" for character in "/#?@% \n\t"),
    *("12/geheim", "12?geheim", "12?a=geheim", "geheim%zz", "geheim%", "1/2@geheim", "?geheim=1&x", "[geheim/"),
]


@pytest.mark.parametrize("setting", ["database_url", "source_url"])
@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_that_is_not_percent_encoded_is_refused_without_a_part_of_it(password: str, setting: str) -> None:
    with pytest.raises(LongshoreError) as caught:
        load({f"LONGSHORE_{setting.upper()}": f"postgresql://me:{password}@db.example.com/x"})
    message = str(caught.value)
    assert setting in message
    assert "percent-encode" in message
    assert "\n" not in message
    assert not any(part in message for part in ("hunt", "geheim", password))
    assert parse(f"postgresql://me:{quote(password, safe='')}@db.example.com/x").password == password


@pytest.mark.parametrize("part", ["geheim%00", "geheim%FF", "%C3geheim"])
@pytest.mark.parametrize("url", ["postgresql://me:{}@db/x", "postgresql://{}@db/x", "postgresql://db/{}?password=x",
                                 "postgresql://me@db/x?password={}", "postgresql://me@{}/x"])  # fmt: skip
def test_bytes_that_no_part_of_an_address_can_hold_are_refused_without_a_part_of_it(url: str, part: str) -> None:
    with pytest.raises(LongshoreError, match=r"it has %00|not UTF-8") as caught:
        parse(url.format(part))
    assert "geheim" not in str(caught.value)
    assert "percent-encode" in str(caught.value)


def test_unencoded_password_is_reported_in_one_line(tmp_path: Path) -> None:
    done = run("migrate", folder=tmp_path, database_url="postgresql://me:hunt/geheim@db/x")
    failed(done, "percent-encode")
    assert "geheim" not in done.stdout + done.stderr


def test_a_service_file_is_read_as_libpq_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "services"
    file.write_text("[shop]\nhost=one\nport=6000\nuser=me\npassword=50%\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    address = parse("postgresql:///x?service=shop&user=other")
    assert (address.hosts, address.ports, address.user, address.password) == (["one"], [6000], "other", "50%")
    with pytest.raises(LongshoreError, match="service=none"):
        parse("postgresql:///x?service=none")


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslcrl"])
def test_a_certificate_that_is_missing_is_named_with_its_parameter(tmp_path: Path, name: str) -> None:
    own = tmp_path / "root.pem"
    own.write_bytes((Path(botocore.__file__).parent / "cacert.pem").read_bytes())
    more = "" if name == "sslrootcert" else f"&sslrootcert={own}"
    with pytest.raises(LongshoreError) as caught:
        ssl_context(parse(f"postgresql://db/x?sslmode=verify-full&{name}=/no/such.pem{more}"))
    for word in (name, "/no/such.pem", "No such file"):
        assert word in str(caught.value)


def test_certificates_in_an_unreadable_home_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    (home / ".postgresql" / "root.crt").write_text("no certificate")
    home.chmod(0)
    monkeypatch.setenv("HOME", str(home))
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        context = ssl_context(parse("postgresql://db/x?sslmode=require"))
    finally:
        if root:
            os.seteuid(0)
        home.chmod(0o700)
    assert context.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("query", "mode", "verified", "named"),
    [
        ("", "prefer", False, False),
        ("sslmode=require", "require", False, False),
        ("sslrootcert=system", "verify-full", True, True),
        ("sslmode=verify-full&sslrootcert=system", "verify-full", True, True),
        ("sslmode=require&channel_binding=require", "verify-full", True, True),
    ],
)
def test_a_certificate_is_verified_as_the_address_asks(
    query: str, mode: str, verified: bool, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    address = parse(f"postgresql://db/x?{query}")
    context = ssl_context(address)
    assert ssl_mode(address) == mode
    assert (context.verify_mode == ssl.CERT_REQUIRED, context.check_hostname) == (verified, named)


def test_verify_full_without_certificates_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LongshoreError, match="sslrootcert=system"):
        ssl_context(parse("postgresql://db/x?sslmode=verify-full"))


def test_every_environment_variable_of_libpq_for_a_supported_parameter_is_read() -> None:
    by_the_driver = {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGPASSFILE", "PGSERVICE"}
    theirs = {
        default.keyword.decode(): default.envvar.decode()
        for default in psycopg.pq.Conninfo.get_defaults()
        if default.envvar and default.keyword.decode() in SUPPORTED
    }
    left_out = by_the_driver | {"PGHOSTADDR"}
    assert {name: variable for name, variable in theirs.items() if variable not in left_out} == VARIABLES


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PGSSLMODE", "verify_full"),
        ("PGCHANNELBINDING", "required"),
        ("PGTARGETSESSIONATTRS", "primry"),
        ("PGSSLMINPROTOCOLVERSION", "1.3"),
        ("PGSSLMAXPROTOCOLVERSION", "TLS1.3"),
        ("PGSSLNEGOTIATION", "directly"),
        ("PGCONNECT_TIMEOUT", "soon"),
    ],
)
def test_an_environment_variable_with_an_invalid_value_is_refused_by_name_unless_the_address_overrides_it(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(LongshoreError, match=f"{variable} must be"):
        load({"LONGSHORE_DATABASE_URL": "postgresql://db/x"})
    name = next(name for name, each in VARIABLES.items() if each == variable)
    parse(f"postgresql://db/x?{name}={VALUES[name]}")


def test_tls_variables_of_the_environment_hold_for_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGCHANNELBINDING", "require")
    monkeypatch.setenv("PGSSLMINPROTOCOLVERSION", "TLSv1.3")
    address = parse("postgresql://db/x")
    context = ssl_context(address)
    assert ssl_mode(address) == "verify-full"
    assert (context.verify_mode, context.minimum_version) == (ssl.CERT_REQUIRED, ssl.TLSVersion.TLSv1_3)
    assert address.uri == "postgresql://db/x"


def test_a_service_file_holds_where_the_address_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "services"
    file.write_text("[shop]\nhost=one\nport=6000\nuser=me\ndbname=shop\nsslmode=require\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGSSLMODE", "disable")
    address = parse("postgresql://other@two/x?service=shop")
    assert (address.hosts, address.ports, address.user, address.database) == (["two"], [6000], "other", "x")
    assert ssl_mode(address) == "require"


@pytest.mark.parametrize(
    ("url", "hosts", "ignored"),
    [
        ("postgresql:///x?hostaddr=127.0.0.1", ["127.0.0.1"], []),
        ("postgresql://db/x?hostaddr=127.0.0.1", ["db"], ["hostaddr"]),
    ],
)
def test_a_hostaddr_beside_a_host_is_reported_as_ignored(url: str, hosts: list[str], ignored: list[str]) -> None:
    address = parse(url)
    assert (address.hosts, address.ignored) == (hosts, ignored)
