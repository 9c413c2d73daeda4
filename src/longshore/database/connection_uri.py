"""The address of a PostgreSQL server: a connection URI, parsed and checked before anything connects.

The grammar and the parameters are libpq's: https://www.postgresql.org/docs/current/libpq-connect.html
"""

import configparser
import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from longshore.errors import LongshoreError

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VERIFYING = ("verify-ca", "verify-full")
VALUES = {
    "sslmode": SSL_MODES,
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "gsslib": ("gssapi", "sspi"),
}
SUPPORTED = {
    *("host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service", "options", "connect_timeout"),
    *("sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "krbsrvname"),
    *VALUES,
}
# The service itself names its connections, detects vanished servers and uses UTF-8. The rest are options of libpq.
IGNORED = {
    *("application_name", "fallback_application_name", "client_encoding", "tcp_user_timeout"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("sslcompression", "sslsni", "sslcertmode", "sslcrldir", "sslkeylogfile", "requiressl", "requirepeer"),
    *("gssdelegation", "load_balance_hosts", "require_auth", "scram_client_key", "scram_server_key"),
    *("min_protocol_version", "max_protocol_version"),
}
# Parameters that providers add for other clients; libpq refuses them.
FOREIGN = {"pgbouncer", "connection_limit", "pool_timeout", "statement_cache_size", "supa", "uselibpqcompat"}

# PGHOST and PGPORT are read in `_hosts`; the driver itself reads PGUSER, PGPASSWORD, PGDATABASE and PGPASSFILE.
# https://www.postgresql.org/docs/current/libpq-envars.html
VARIABLES = {
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "gsslib": "PGGSSLIB",
    "krbsrvname": "PGKRBSRVNAME",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "options": "PGOPTIONS",
}

MIN_CONNECT_SECONDS = 2.0

ENCODE = (
    "percent-encode the user and the password (@ is %40, : is %3A, / is %2F, ? is %3F, # is %23, % is %25), as in"
    " postgresql://user:p%40ss@host/database"
)


class ConnectionUri(msgspec.Struct, frozen=True):
    """Hosts and credentials of a server. None or empty fields come from libpq's variables, such as PGPASSWORD."""

    hosts: list[str]
    ports: list[int]
    user: str | None
    password: str | None
    database: str | None
    parameters: dict[str, str]
    """All supported parameters: of the URI, else of its `service`, else of the environment."""
    ignored: list[str]
    """The names of the parameters that have no effect."""
    uri: str
    """The address as a connection URI for libpq."""

    def seconds_for_each_host(self, seconds: float) -> float:
        """Return how long connecting to one host may take: `connect_timeout`, or else its part of `seconds`.

        At least MIN_CONNECT_SECONDS, as in libpq.
        """
        given = int(self.parameters.get("connect_timeout", "0"))
        return max(MIN_CONNECT_SECONDS, float(given) if given > 0 else seconds / max(1, len(self.hosts)))


def parse(url: str) -> ConnectionUri:
    """Parse a connection URI, with the environment variables of libpq. Raises LongshoreError."""
    scheme, separator, rest = url.strip().partition("://")
    if scheme not in ("postgresql", "postgres") or not separator:
        raise LongshoreError("it must begin with postgresql://")
    if re.search(r"[\x00-\x20\x7f#]", rest):
        raise LongshoreError(f"it has a blank, a control character or a # in it; {ENCODE}")
    if re.search(r"%(?![0-9A-Fa-f]{2})", rest):
        raise LongshoreError(f"it has a % that no two hexadecimal digits follow; {ENCODE}")
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    before, at, hosts = authority.rpartition("@")
    # With an @ after it, a / or ? belongs to the user or the password.
    if "@" in before or (authority and not at and "@" in rest):
        raise LongshoreError(f"it cannot be taken apart; {ENCODE}")
    user, _, password = before.partition(":")  # further ":" belong to the password, as in libpq
    path, _, query = rest[len(authority) :].partition("?")
    own = dict(_pairs(query))
    variables = {name: os.environ[variable] for name, variable in VARIABLES.items() if os.environ.get(variable)}
    file = _service(own)
    parameters = {**variables, **file, **own}
    _check(parameters, {name: VARIABLES[name] for name in variables.keys() - file.keys() - own.keys()})
    named = (("user", user), ("password", password), ("dbname", path.removeprefix("/")))
    parts: dict[str, Any] = {**file, **{name: _decoded(value) for name, value in named if value}, **own}
    names, ports = _hosts(hosts, own, parts)
    kept = "&".join(pair for pair in query.split("&") if unquote(pair.partition("=")[0]) not in FOREIGN)
    return ConnectionUri(
        hosts=names,
        ports=ports,
        user=parts.get("user"),
        password=parts.get("password"),
        database=parts.get("dbname"),
        parameters={name: value for name, value in parameters.items() if name in SUPPORTED},
        ignored=sorted(
            name
            for name, value in parameters.items()
            if name in IGNORED | FOREIGN or (name == "hostaddr" and value.split(",") != names)
        ),
        uri=f"{scheme}://{rest.partition('?')[0]}" + (f"?{kept}" if kept else ""),
    )


def socket_uri(folder: str, port: int) -> str:
    """Return the connection URI of the superuser `postgres` through the Unix socket in a folder."""
    return f"postgresql://postgres@/postgres?host={quote(folder)}&port={port}"


def _decoded(text: str) -> str:
    """Decode percent-encoded text. Raises LongshoreError for bytes that are not UTF-8, and for U+0000."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise LongshoreError(f"it has percent-encoded bytes that are not UTF-8; {ENCODE}, of its UTF-8 bytes") from None
    if "\x00" in decoded:
        raise LongshoreError(f"it has %00, which neither a name nor a password can hold; {ENCODE}")
    return decoded


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for pair in query.split("&") if query else ():
        name, separator, value = pair.partition("=")
        if not separator or "=" in value:
            raise LongshoreError(f"its parameters must be name=value with & between; {ENCODE}")
        yield "dbname" if name == "database" else _decoded(name), _decoded(value)


def _check(parameters: dict[str, str], variables: dict[str, str]) -> None:
    """Raise LongshoreError for a parameter that cannot be used; `variables` are those of the environment, by name."""
    known = SUPPORTED | IGNORED | FOREIGN
    for name, value in parameters.items():
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1, 0.5)
            hint = (
                f"; did you mean {near[0]}?" if near else "; settings of the server go into options=-c%20name%3Dvalue"
            )
            raise LongshoreError(f"{name} is not a parameter of a connection{hint}")
        if name in VALUES and value not in VALUES[name]:
            raise LongshoreError(f"{variables.get(name, name)} must be one of {', '.join(VALUES[name])}")
    if not re.fullmatch(r"-?[0-9]{1,9}", parameters.get("connect_timeout", "0")):
        raise LongshoreError(f"{variables.get('connect_timeout', 'connect_timeout')} must be a number of seconds")
    system, mode = parameters.get("sslrootcert") == "system", parameters.get("sslmode", "verify-full")
    if system and mode != "verify-full":
        raise LongshoreError("sslrootcert=system needs sslmode=verify-full")
    if parameters.get("channel_binding") == "require" and mode in ("disable", "allow", "prefer"):
        raise LongshoreError("channel_binding=require needs sslmode=require or stronger")


def _hosts(authority: str, own: dict[str, str], parts: dict[str, str]) -> tuple[list[str], list[int]]:
    """Return the hosts and their ports, from `host:port,[address]:port` and the parameters host, hostaddr, port.

    `own`: the parameters of the URI, which replace its authority; `parts` has those of the service file, too.
    """
    names, ports = [], []
    for part in authority.split(",") if authority else ():
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+(?:%25[^\[\]]+)?\]|[^:\[\]]*)(?::([0-9]*))?", part)
        if not match:
            raise LongshoreError(f"a host in it cannot be taken apart, or its port is no number; {ENCODE}")
        names.append(_decoded(match[1].strip("[]")))
        ports.append(match[2] or "")
    others = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST")
    if listed := own.get("host") or (not names and others):
        names = str(listed).split(",")
    if "port" in own or ("port" in parts and not any(ports)):
        ports = parts["port"].split(",")
    default = os.environ.get("PGPORT", "5432").split(",")
    chosen = [port or default[min(index, len(default) - 1)] for index, port in enumerate(ports or default)]
    if not all(re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65_536 for port in chosen):
        raise LongshoreError("a port must be a number from 1 to 65535")
    numbers = [int(port) for port in chosen]
    if len(numbers) == 1:
        numbers *= max(1, len(names))
    if len(numbers) != max(1, len(names)):
        raise LongshoreError(f"it has {len(names)} hosts and {len(numbers)} ports")
    return names, numbers


def _service(parameters: dict[str, str]) -> dict[str, str]:
    """Return the parameters of a section of the connection service file."""
    name = parameters.get("service") or os.environ.get("PGSERVICE")
    if not name:
        return {}
    path = Path(os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf")
    file = configparser.ConfigParser(interpolation=None)
    try:
        file.read_string(path.read_text(encoding="utf-8"))
        return dict(file[name])
    except OSError as error:
        raise LongshoreError(f"service={name}: {path} cannot be read: {error.strerror}") from None
    except (configparser.Error, KeyError, UnicodeDecodeError):
        raise LongshoreError(f"service={name}: {path} has no such section, or is no service file") from None
