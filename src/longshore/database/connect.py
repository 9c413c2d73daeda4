"""Connections and pools of connections to PostgreSQL, with the settings that every session pins.

Promise 7 depends on pools that drop read-only connections; `retry` has what is retried.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg
import msgspec
import structlog

from longshore.database.connection_uri import ConnectionUri, parse
from longshore.database.fair_pool import FairPool
from longshore.database.pinned_settings import PINNED_SETTINGS
from longshore.database.tls import open_by_mode, ssl_context, ssl_mode
from longshore.fair_queue import QueueLimits

if TYPE_CHECKING:
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    DirectConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = DirectConnection = asyncpg.Connection

log = structlog.get_logger()

# A connection that only listens never notices a peer that vanished (a host without power, a cut cable). With these
# options the kernel probes after KEEPALIVE_SECONDS of silence and closes the connection after three failed probes; the
# two hours of Linux's default are too long for an export. https://man7.org/linux/man-pages/man7/tcp.7.html
KEEPALIVE_SECONDS = 10
SOCKET_OPTIONS = {"TCP_KEEPIDLE": KEEPALIVE_SECONDS, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}

MAX_PIN_ATTEMPTS = 10

MAX_READ_ONLY_SECONDS = 1.0  # that a pool keeps a read-only connection


class WatchedConnection(asyncpg.Connection):
    """A connection that is closed when its peer vanishes."""

    def __init__(self, protocol: Any, transport: asyncio.Transport, *args: Any) -> None:
        super().__init__(protocol, transport, *args)
        self.opened_at = time.monotonic()
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in SOCKET_OPTIONS.items():
                if hasattr(socket, name):  # some exist on Linux only
                    peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def connect(
    url: str, name: str, settings: Mapping[str, str] | None = None, *, seconds: float = 10.0
) -> DirectConnection:
    """Open a connection with PINNED_SETTINGS and `settings` of PostgreSQL.

    `url`: a connection URI, whose hosts are tried in turn, until one refuses the user or the session; those that are
    unavailable, close the connection or are not as `target_session_attrs` demands are passed over. `name`: in
    pg_stat_activity. `seconds`: for all hosts; the address may have a `connect_timeout` for each. Raises LongshoreError
    for an unusable address, and asyncpg's errors and OSError for servers that refuse or are unavailable: of several
    that are unavailable, the error of one that starts up or stops.
    """
    address = parse(url)
    _warn_of_ignored(url)
    pinned = {**PINNED_SETTINGS, **(settings or {})}
    unavailable: Exception | None = None
    for target in _targets(address):
        try:
            async with asyncio.timeout(address.seconds_for_each_host(seconds)):
                connection = await _open(address, target, name)
                try:
                    await _pin(connection, pinned)
                except BaseException:
                    connection.terminate()
                    raise
                return connection
        except asyncpg.CannotConnectNowError as error:
            unavailable = error
        except (OSError, asyncpg.PostgresConnectionError) as error:
            unavailable = unavailable or error
        except asyncpg.TargetServerAttributeNotMatched:
            pass
    if unavailable is not None:
        raise unavailable
    raise ConnectionError(f"no server of {', '.join(address.hosts)} is {address.parameters['target_session_attrs']}")


class _Target(msgspec.Struct, frozen=True):
    """A server to try."""

    host: str | None
    """None: where the driver expects a server on this machine."""
    port: int
    session_attrs: str | None
    """The value of `target_session_attrs` for this server."""


def _targets(address: ConnectionUri) -> list[_Target]:
    wanted = address.parameters.get("target_session_attrs")
    rounds = ["standby", "any"] if wanted == "prefer-standby" else [wanted]
    hosts: list[str | None] = [*address.hosts] or [None]
    return [_Target(host, port, attrs) for attrs in rounds for host, port in zip(hosts, address.ports, strict=True)]


async def _open(address: ConnectionUri, target: _Target, name: str) -> DirectConnection:
    open_with = partial(_open_with, address, target, name)
    if (target.host or "").startswith("/") or (mode := ssl_mode(address)) == "disable":
        return await open_with(False)
    return await open_by_mode(mode, await asyncio.to_thread(ssl_context, address), open_with)


async def _open_with(
    address: ConnectionUri, target: _Target, name: str, context: ssl.SSLContext | Literal[False]
) -> DirectConnection:
    # Only these two go into the startup packet: PgBouncer refuses all others there, and other poolers drop them.
    options = address.parameters.get("options")
    startup = {"application_name": name, **({"options": options} if options else {})}
    # For a user, password or database that the address lacks, asyncpg reads libpq's environment variables.
    where: dict[str, Any] = {
        "host": target.host,
        "port": target.port,
        "user": address.user,
        "password": address.password,
        "database": address.database,
        "target_session_attrs": target.session_attrs,
        **{key: address.parameters.get(key) for key in ("passfile", "krbsrvname", "gsslib")},
    }
    direct = address.parameters.get("sslnegotiation") == "direct"
    how: dict[str, Any] = {"ssl": context, "direct_tls": direct, "server_settings": startup, "timeout": None}
    opened: DirectConnection = await asyncpg.connect(**where, **how, connection_class=WatchedConnection)
    return opened


async def _pin(connection: DirectConnection, settings: dict[str, str]) -> None:
    """Set those of the settings that the server knows, for the session.

    The isolation level is stated, as a role's default of `serializable` fails on a hot standby. Retried, as a role's
    `statement_timeout` of a millisecond may cancel the statement that lifts it.
    """
    values = ", ".join(f"('{name}', '{value}')" for name, value in settings.items())
    known = "name like '%.%' or pg_catalog.current_setting(name, true) is not null"
    script = f"""
        set statement_timeout = 0;
        begin isolation level read committed;
        select pg_catalog.set_config(name, value, false) from (values {values}) s (name, value) where {known};
        commit
    """
    for attempt in range(1, MAX_PIN_ATTEMPTS + 1):
        try:
            await connection.execute(script)
            return
        except asyncpg.QueryCanceledError:
            if attempt == MAX_PIN_ATTEMPTS:
                raise


@lru_cache
def _warn_of_ignored(url: str) -> None:
    if ignored := parse(url).ignored:
        log.warning("parameters of the database's address have no effect", parameters=", ".join(ignored))


def open_pool(url: str, *, size: int, name: str, **settings: str) -> AbstractAsyncContextManager[Pool]:
    """A pool of at most `size` connections, named `name` in pg_stat_activity; they are opened on first use."""
    return _pool(url, asyncpg.create_pool, size, name, settings)


def open_fair_pool(
    url: str, limits: QueueLimits, *, size: int, name: str, **settings: str
) -> AbstractAsyncContextManager[Pool]:
    """A pool like that of `open_pool` in which no chain can hold all connections, see `fair_pool`."""
    return _pool(url, partial(FairPool, limits), size, name, settings)


@contextlib.asynccontextmanager
async def _pool(
    url: str, create: Callable[..., Any], size: int, name: str, settings: dict[str, str]
) -> AsyncIterator[Pool]:
    async def open_one(*_: Any, **__: Any) -> DirectConnection:
        return await connect(url, name, settings)

    writes = settings.get("default_transaction_read_only") != "on"
    pool = await create(
        min_size=0,
        max_size=size,
        connect=open_one,
        connection_class=WatchedConnection,
        reset=_drop_if_read_only if writes else _keep,
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except Exception:
            pool.terminate()


@contextlib.asynccontextmanager
async def connected(url: str, name: str, **settings: str) -> AsyncIterator[DirectConnection]:
    """A connection of `connect`."""
    connection = await connect(url, name, settings)
    try:
        yield connection
    finally:
        await connection.close()


def connected_to_read(url: str, name: str) -> AbstractAsyncContextManager[DirectConnection]:
    """A read-only connection, named `name` in pg_stat_activity."""
    return connected(url, name, default_transaction_read_only="on")


def is_read_only(connection: Connection) -> bool:
    """Return whether the server reports that this session cannot write.

    PostgreSQL reports both settings at the start and when they change; a pooler may not pass that on.
    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC
    """
    reported = connection.get_settings()
    return "on" in (
        getattr(reported, "default_transaction_read_only", "off"),
        getattr(reported, "in_hot_standby", "off"),
    )


async def _keep(_connection: DirectConnection) -> None:
    """Leave the session as it is when its connection returns to the pool, which saves a round trip.

    Settings are changed for a transaction only, and asyncpg rolls back an open one.
    """


async def _drop_if_read_only(connection: DirectConnection) -> None:
    """Close a read-only connection that returns to its pool, unless it was opened within MAX_READ_ONLY_SECONDS.

    A session that was opened while the database was read-only stays so. The time bounds the reconnections to a database
    that stays read-only, too.
    """
    opened = connection.opened_at if isinstance(connection, WatchedConnection) else 0.0
    if is_read_only(connection) and time.monotonic() - opened > MAX_READ_ONLY_SECONDS:
        connection.terminate()
