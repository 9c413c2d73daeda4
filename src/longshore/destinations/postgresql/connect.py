"""Connections to a destination's server: to checked addresses, with nothing of the service's environment.

asyncpg reads libpq's variables, `~/.pgpass` and service files for what it is not given, so it is given everything.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import asyncpg
import msgspec
from msgspec import Meta

from longshore import outbound
from longshore.database.connect import DirectConnection, WatchedConnection
from longshore.database.pinned_settings import KEEPALIVE, LIMITS, OUTPUT
from longshore.database.tls import open_by_mode
from longshore.destinations.kind import DestinationError, SecretStruct
from longshore.destinations.postgresql.errors import needing
from longshore.destinations.postgresql.types import quoted
from longshore.validation import Violation

MIN_SERVER_VERSION = 15  # COPY compares a header with the columns since then
CONNECT_SECONDS = 10.0  # for each address
USER_TIMEOUT_SECONDS = 120  # that a server may take nothing of what is sent, as it writes what came before to its disk

# Settings that change how values are read, or that would end a transaction. Others, such as the search path, are the
# role's own: triggers and defaults of the customer's tables depend on them.
VALUE_SETTINGS = (
    "datestyle", "intervalstyle", "timezone_abbreviations", "xmloption", "lc_monetary", "array_nulls",
    "standard_conforming_strings", "transform_null_equals", "extra_float_digits", "bytea_output",
    "quote_all_identifiers", "row_security",
)  # fmt: skip
PINNED = {**{name: OUTPUT[name] for name in VALUE_SETTINGS}, **LIMITS, **KEEPALIVE}

Text = Annotated[
    str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+\Z", extra={"expected": "text without U+0000"})
]


class PostgresqlSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the tables are, and as whom to connect."""

    host: Annotated[
        str,
        Meta(
            min_length=1, max_length=253, pattern=r"^[A-Za-z0-9_.:%-]+\Z", description="The server's name or address.",
            extra={"expected": "a name or address without a port"}, examples=["db.example.com"],
        ),
    ]  # fmt: skip
    port: Annotated[int, Meta(ge=1, le=outbound.MAX_PORT, description="The server's port.")] = 5432
    database: Annotated[Text, Meta(description="The database.", examples=["warehouse"])]
    schema: Annotated[Text, Meta(description="The schema of the tables. It must exist.")] = "public"
    username: Annotated[Text, Meta(description="The role that loads the tables.", examples=["longshore"])]
    sslmode: Annotated[
        Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        Meta(
            description="How TLS is used, as in libpq: verify-full encrypts, and checks that the certificate is for"
            " the host; verify-ca checks its authority alone; require encrypts, and checks nothing without"
            " sslrootcert. The others may send rows unencrypted."
        ),
    ] = "verify-full"
    sslrootcert: Annotated[
        str,
        Meta(
            max_length=30_000, extra_json_schema={"format": "textarea"},
            description="The certificates of the authorities to trust, in PEM. Empty: those that browsers trust.",
        ),
    ] = ""  # fmt: skip

    @property
    def address(self) -> str:
        """The address of the schema, without a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{host}:{self.port}/{self.database}/{self.schema}"


class PostgresqlSecret(SecretStruct, frozen=True, forbid_unknown_fields=True):
    """The password of the role."""

    password: Annotated[
        str,
        Meta(
            max_length=1000, pattern=r"^[^\x00]*\Z", description="The role's password.",
            extra={"expected": "text without U+0000"},
        ),
    ]  # fmt: skip


class LoadConnection(WatchedConnection):
    """A connection whose server may pause for longer than one that serves requests."""

    def __init__(self, protocol: Any, transport: asyncio.Transport, *args: Any) -> None:
        super().__init__(protocol, transport, *args)
        peer = transport.get_extra_info("socket")
        if (
            peer is not None
            and peer.family in (socket.AF_INET, socket.AF_INET6)
            and hasattr(socket, "TCP_USER_TIMEOUT")
        ):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_SECONDS * 1000)


class NamedContext(ssl.SSLContext):
    """A TLS context that verifies `host`, although the connection goes to one of the host's addresses."""

    host: str
    inner: ssl.SSLContext

    def wrap_bio(self, incoming: Any, outgoing: Any, *_: Any, **__: Any) -> ssl.SSLObject:
        """Return the TLS of a connection, for the host's name."""
        return self.inner.wrap_bio(incoming, outgoing, server_hostname=self.host)


def check(
    settings: PostgresqlSettings, _secret: PostgresqlSecret, allow: tuple[outbound.Network, ...]
) -> list[Violation]:
    """Return the violations of settings, without a connection."""
    violations = []
    if refused := outbound.check_host(settings.host, allow):
        violations.append(Violation(refused, "/settings/host"))
    if settings.schema.startswith("pg_") or settings.schema == "information_schema":
        violations.append(Violation("is a schema of PostgreSQL's own; expected another one", "/settings/schema"))
    if "PRIVATE KEY" in settings.sslrootcert:
        violations.append(Violation("expected certificates without a private key", "/settings/sslrootcert"))
    try:
        tls_context(settings)
    except DestinationError as error:
        violations.append(Violation(str(error), "/settings/sslrootcert"))
    return violations


async def connect(
    settings: PostgresqlSettings, secret: PostgresqlSecret, addresses: Sequence[outbound.Address]
) -> DirectConnection:
    """Connect to the first address that answers. Raises asyncpg's errors, OSError and DestinationError."""
    context = tls_context(settings)

    async def connect_to(address: outbound.Address) -> DirectConnection:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await open_by_mode(settings.sslmode, context, partial(_connect, settings, secret, str(address)))

    return await outbound.first_reachable(addresses, connect_to, (OSError,))


async def _connect(
    settings: PostgresqlSettings, secret: PostgresqlSecret, address: str, context: ssl.SSLContext | Literal[False]
) -> DirectConnection:
    options: dict[str, Any] = {
        "host": address, "port": settings.port, "database": settings.database,
        "user": settings.username, "password": secret.password,
        "ssl": context, "direct_tls": False, "target_session_attrs": "any", "timeout": None,
        "krbsrvname": "postgres", "gsslib": "sspi",  # which Linux lacks, so that no ticket of the service's own is sent
        "statement_cache_size": 0,  # poolers may give each transaction another session
        "server_settings": {"application_name": "longshore delivery"},
    }  # fmt: skip
    database = quoted(settings.database)
    with needing(f"connect to the database {database}", f"grant connect on database {database} to the role"):
        opened: DirectConnection = await asyncpg.connect(**options, connection_class=LoadConnection)
    major = opened.get_server_version().major
    if major < MIN_SERVER_VERSION:
        opened.terminate()
        raise DestinationError(f"{settings.address} is PostgreSQL {major}; expected {MIN_SERVER_VERSION} or later")
    return opened


def tls_context(settings: PostgresqlSettings) -> ssl.SSLContext:
    """Return the TLS context of the settings, as in libpq. Raises DestinationError."""
    context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.host, context.inner = settings.host, _verifying_context(settings)
    return context


def _verifying_context(settings: PostgresqlSettings) -> ssl.SSLContext:
    mode, roots = settings.sslmode, settings.sslrootcert
    if mode == "verify-full" and not roots:
        return outbound.tls_context()
    if mode == "verify-ca" and not roots:
        raise DestinationError("sslmode verify-ca needs sslrootcert")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if roots:
        try:
            context.load_verify_locations(cadata=roots)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise DestinationError(f"sslrootcert has no certificate in PEM form: {reason}") from None
    if mode in ("allow", "prefer") or not roots:
        context.verify_mode = ssl.CERT_NONE
    return context
