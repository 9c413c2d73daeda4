"""Connections and pools of connections to PostgreSQL, with the settings that every session pins.

Promise 7 leans on `is_transient` (a transient error is retried) and on pools that drop connections which cannot write.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import structlog

from longshore.database.address import Address, parse
from longshore.database.shares import SharedPool
from longshore.database.tls import ssl_context, ssl_mode
from longshore.fair_queue import QueueLimits

if TYPE_CHECKING:
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    DirectConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = DirectConnection = asyncpg.Connection

log = structlog.get_logger()

# Every setting that a role, a database or a server's configuration may hold and that changes what is read or written,
# as pg_dump does it: tests/exports/test_pinned_settings.py walks pg_settings and fails for one that is missing here.
# https://www.postgresql.org/docs/current/runtime-config-client.html
OUTPUT = {
    "quote_all_identifiers": "off",  # first, as it changes how the server writes down some of those below
    "timezone": "UTC", "timezone_abbreviations": "Default", "datestyle": "ISO, MDY", "intervalstyle": "iso_8601",
    "extra_float_digits": "1", "bytea_output": "hex", "xmlbinary": "base64", "xmloption": "content",
    "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C", "default_text_search_config": "pg_catalog.simple",
    # Names come from the catalog, so no search path is trusted; an index may name its own (exports/row_security.py).
    "search_path": "",
    # How SQL is read.
    "standard_conforming_strings": "on", "escape_string_warning": "on", "backslash_quote": "safe_encoding",
    "array_nulls": "on", "transform_null_equals": "off",
    # Which rows are seen, and in which order: of a search in a GIN index no part is left out, and no scan begins where
    # another one is.
    "row_security": "on", "gin_fuzzy_search_limit": "0", "synchronize_seqscans": "off",
    "default_transaction_isolation": "read committed", "default_transaction_deferrable": "off",
}  # fmt: skip

# What would end a statement or a session of the service, or lose what it has acknowledged, whoever set it.
LIMITS = {
    "statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0", "transaction_timeout": "0", "exit_on_error": "off",
    "client_min_messages": "warning", "synchronous_commit": "on",
}  # fmt: skip

# The server gives up a peer that vanished as the service does below: a host that is gone in the middle of a transaction
# holds locks until then, on a task, or on all tasks of a chain; Linux alone would take a quarter of an hour, or two.
KEEPALIVE = {
    "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "20s",
}  # fmt: skip

# Each is set only where the server knows it: older servers lack some.
SESSION = {**OUTPUT, **LIMITS, **KEEPALIVE}

# Classes and codes that say "not now" rather than "no"; see
# https://www.postgresql.org/docs/current/errcodes-appendix.html
PASSING_CLASSES = ("08", "53", "57", "58")
# A database is read-only (25006) while it fails over, is maintained, or has a full disk.
PASSING_CODES = ("40001", "40P01", "25006", "25P03", "55P03")
# 57014 is what a statement gets that somebody cancelled; a recovery conflict on a replica comes as 40001.
FINAL_CODES = ("57014",)

# What the kernel says of a host that is cut off, or of its own cable; Python has no class for them.
AWAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)

# A peer that vanished without a word (a host that lost power, a cut cable) would keep whoever only listens waiting for
# ever: the kernel asks it after SILENCE seconds, and gives up after three more questions. Linux's own two hours are too
# long for an export. https://man7.org/linux/man-pages/man7/tcp.7.html
SILENCE = 10
UNANSWERED = {"TCP_KEEPIDLE": SILENCE, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}

PIN_ATTEMPTS = 10

READ_ONLY_SECONDS = 1.0  # that a pool keeps a connection which cannot write


def is_transient(error: BaseException) -> bool:
    """Whether an error of the database may pass by itself: connection lost, deadlock, restart, no room for more."""
    # A statement was prepared before somebody changed the type of a column; asyncpg has forgotten it by now.
    if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
        return True
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        return code not in FINAL_CODES and (code in PASSING_CODES or code.startswith(PASSING_CLASSES))
    # Values and arguments that are our own fault are InterfaceErrors too.
    if isinstance(error, asyncpg.DataError | asyncpg.ClientConfigurationError):
        return False
    if isinstance(error, OSError) and error.errno in AWAY:
        return True
    # asyncpg speaks of a connection that was closed under it as an InterfaceError.
    kinds = (asyncpg.InterfaceError, ConnectionError, TimeoutError, FileNotFoundError, socket.gaierror)
    return isinstance(error, kinds)


class WatchedConnection(asyncpg.Connection):
    """A connection that is lost, rather than silent, when its peer is gone."""

    def __init__(self, protocol: Any, transport: asyncio.Transport, *args: Any) -> None:
        super().__init__(protocol, transport, *args)
        self.opened_at = time.monotonic()
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in UNANSWERED.items():
                if hasattr(socket, name):  # some are Linux's alone
                    peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def connect(
    url: str, name: str, session: Mapping[str, str] | None = None, *, seconds: float = 10.0
) -> DirectConnection:
    """Open one connection that calls itself `name` in pg_stat_activity, with the settings of SESSION and of `session`.

    `url`: a connection URI; its `connect_timeout` stands in for `seconds`. Raises AddressError for an address that
    cannot be used, and what asyncpg raises for a server that is away or refuses.
    """
    address = parse(url)
    _warn_of_ignored(url)
    async with asyncio.timeout(address.connect_seconds or seconds):
        connection = await _open(address, name)
        try:
            await _pin(connection, {**SESSION, **(session or {})})
        except BaseException:
            connection.terminate()
            raise
    return connection


async def _open(address: Address, name: str) -> DirectConnection:
    mode = ssl_mode(address)
    if address.is_local or mode == "disable":
        return await _open_with(address, name, False)
    context = await asyncio.to_thread(ssl_context, address)
    if mode not in ("allow", "prefer"):
        return await _open_with(address, name, context)
    first, second = (False, context) if mode == "allow" else (context, False)
    try:
        return await _open_with(address, name, first)
    except (asyncpg.InvalidAuthorizationSpecificationError, ConnectionError, ssl.SSLError) as error:
        if isinstance(error, ConnectionRefusedError):
            raise
        try:
            return await _open_with(address, name, second)
        except (asyncpg.InvalidAuthorizationSpecificationError, ConnectionError, ssl.SSLError):
            raise error from None


async def _open_with(address: Address, name: str, context: ssl.SSLContext | bool) -> DirectConnection:
    # These two alone go into the startup packet: PgBouncer refuses all others there, and other poolers drop them.
    options = address.parameters.get("options")
    startup = {"application_name": name, **({"options": options} if options else {})}
    # Where the address says nothing, asyncpg looks into libpq's environment variables.
    where: dict[str, Any] = {
        "host": address.hosts or None,
        "port": address.ports,
        "user": address.user,
        "password": address.password,
        "database": address.database,
        **{key: address.parameters.get(key) for key in ("passfile", "target_session_attrs", "krbsrvname", "gsslib")},
    }
    direct = address.parameter("sslnegotiation") == "direct"
    how: dict[str, Any] = {"ssl": context, "direct_tls": direct, "server_settings": startup, "timeout": None}
    try:
        opened: DirectConnection = await asyncpg.connect(**where, **how, connection_class=WatchedConnection)
    except asyncpg.TargetServerAttributeNotMatched:
        wanted = address.parameter("target_session_attrs")
        raise ConnectionError(f"no server of {', '.join(address.hosts)} is {wanted}") from None
    return opened


async def _pin(connection: DirectConnection, settings: dict[str, str]) -> None:
    """Set these settings, as far as the server knows them, for the rest of a session.

    Under a role's `statement_timeout` of a millisecond the first statement, which lifts it, may be cancelled itself.
    """
    for attempt in range(1, PIN_ATTEMPTS + 1):
        try:
            await connection.execute(_pin_script(settings))
            return
        except asyncpg.QueryCanceledError:
            if attempt == PIN_ATTEMPTS:
                raise


def _pin_script(settings: dict[str, str]) -> str:
    """One script for `_pin`.

    The transaction states its isolation level because a role's default of `serializable` fails on a hot standby.
    """
    values = ", ".join(f"('{name}', '{value}')" for name, value in settings.items())
    known = "name like '%.%' or pg_catalog.current_setting(name, true) is not null"
    return f"""
        set statement_timeout = 0;
        begin isolation level read committed;
        select pg_catalog.set_config(name, value, false) from (values {values}) s (name, value) where {known};
        commit
    """  # noqa: S608  # names and values of our own


@lru_cache
def _warn_of_ignored(url: str) -> None:
    if ignored := parse(url).ignored:
        log.warning("parameters of the database's address have no effect", parameters=", ".join(ignored))


@contextlib.asynccontextmanager
async def open_pool(url: str, *, size: int, name: str, **session: str) -> AsyncIterator[Pool]:
    """Open a pool of at most `size` connections that call themselves `name` in pg_stat_activity; closed on leaving."""
    async with _pool(url, asyncpg.create_pool, min(size, 1), size, name, session) as pool:
        yield pool


@contextlib.asynccontextmanager
async def open_lazy_pool(url: str, *, size: int, name: str, **session: str) -> AsyncIterator[Pool]:
    """As `open_pool`, but connects when it is asked to, so that the database may be away when this begins."""
    async with _pool(url, asyncpg.create_pool, 0, size, name, session) as pool:
        yield pool


@contextlib.asynccontextmanager
async def open_shared_pool(
    url: str, limits: QueueLimits, *, size: int, name: str, **session: str
) -> AsyncIterator[Pool]:
    """As `open_lazy_pool`, and each chain has a share of the connections, see `shares`."""
    async with _pool(url, partial(SharedPool, limits), 0, size, name, session) as pool:
        yield pool


@contextlib.asynccontextmanager
async def _pool(
    url: str, create: Callable[..., Any], least: int, most: int, name: str, session: dict[str, str]
) -> AsyncIterator[Pool]:
    async def open_one(*_: Any, **__: Any) -> DirectConnection:
        return await connect(url, name, session)

    writes = session.get("default_transaction_read_only") != "on"
    pool = await create(
        min_size=least,
        max_size=most,
        connect=open_one,
        connection_class=WatchedConnection,
        reset=_drop_if_read_only if writes else _leave_as_it_is,
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except Exception:
            pool.terminate()


@contextlib.asynccontextmanager
async def connected(url: str, name: str, **session: str) -> AsyncIterator[DirectConnection]:
    """Hold one connection of `connect`."""
    connection = await connect(url, name, session)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def connected_to_read(url: str, name: str) -> AsyncIterator[Connection]:
    """One connection that can only read and calls itself `name` in pg_stat_activity."""
    async with connected(url, name, default_transaction_read_only="on") as connection:
        yield connection


def is_read_only(connection: Connection) -> bool:
    """Whether the server says that sessions like this one cannot write.

    PostgreSQL reports both settings by itself, at the start and whenever they change; a pooler may keep that back.
    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
    """
    told = connection.get_settings()
    return "on" in (getattr(told, "default_transaction_read_only", "off"), getattr(told, "in_hot_standby", "off"))


async def _leave_as_it_is(_connection: DirectConnection) -> None:
    """Do nothing to a connection that comes back to its pool.

    All that is set while it is used is set for one transaction, so that there is no session to reset, and every request
    is spared a round trip. asyncpg rolls back what was left open.
    """


async def _drop_if_read_only(connection: DirectConnection) -> None:
    """Close a connection that comes back to its pool and cannot write, a second after it was opened.

    A session keeps its defaults for as long as it lives: one that was opened while the database was read-only could
    never write again, and one to a primary that became a standby neither. The second bounds how often a database that
    stays read-only is connected to.
    """
    opened = connection.opened_at if isinstance(connection, WatchedConnection) else 0.0
    if is_read_only(connection) and time.monotonic() - opened > READ_ONLY_SECONDS:
        connection.terminate()
