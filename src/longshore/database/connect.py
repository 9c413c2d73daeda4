"""How the service reaches PostgreSQL: pools, and one connection that listens and never gives up.

Promise 7 leans on `is_passing` (what may pass is tried again) and on `Listener` (a restarted database is noticed).
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import structlog

if TYPE_CHECKING:
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

log = structlog.get_logger()

# Every setting that a role, a database or a server's configuration may hold and that changes what is read or written,
# as pg_dump does it: tests/exports/test_pinned_settings.py walks pg_settings and fails for one that is missing here.
# https://www.postgresql.org/docs/current/runtime-config-client.html
OUTPUT = {
    "timezone": "UTC", "timezone_abbreviations": "Default", "datestyle": "ISO, MDY", "intervalstyle": "iso_8601",
    "extra_float_digits": "1", "bytea_output": "hex", "xmlbinary": "base64", "xmloption": "content",
    "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C", "default_text_search_config": "pg_catalog.simple",
    # Names come from the catalog, so no search path is trusted; an index may name its own (exports/row_security.py).
    "search_path": "",
    # How SQL is read.
    "standard_conforming_strings": "on", "escape_string_warning": "on", "backslash_quote": "safe_encoding",
    "array_nulls": "on", "transform_null_equals": "off", "quote_all_identifiers": "off",
    # Which rows are seen, and in which order: of a search in a GIN index no part is left out, and no scan begins where
    # another one is.
    "row_security": "on", "gin_fuzzy_search_limit": "0", "synchronize_seqscans": "off",
    "default_transaction_isolation": "read committed", "default_transaction_deferrable": "off",
}  # fmt: skip

# What would end a statement or a session of the service, or lose what it has acknowledged, whoever set it.
LIMITS = {
    "statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0", "exit_on_error": "off", "client_min_messages": "warning", "synchronous_commit": "on",
}  # fmt: skip

# The server gives up a peer that vanished as the service does below: a host that is gone in the middle of a transaction
# holds locks until then, on a task, or on all tasks of a chain; Linux alone would take a quarter of an hour, or two.
KEEPALIVE = {
    "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "20s",
}  # fmt: skip

SESSION = {**OUTPUT, **LIMITS, **KEEPALIVE}

# Settings that older servers do not have, so they are set only where the server knows them.
NEWER = """
select set_config(name, '0', false) from pg_catalog.pg_settings where name in ('transaction_timeout')
"""

# Classes and codes that say "not now" rather than "no"; see
# https://www.postgresql.org/docs/current/errcodes-appendix.html
PASSING_CLASSES = ("08", "53", "57", "58")
PASSING_CODES = ("40001", "40P01", "25P03", "55P03")
# 57014 is what a statement gets that somebody cancelled; a recovery conflict on a replica comes as 40001.
FINAL_CODES = ("57014",)

# What the kernel says of a host that is cut off, or of its own cable; Python has no class for them.
AWAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)

# A peer that vanished without a word (a host that lost power, a cut cable) would keep whoever only listens waiting for
# ever: the kernel asks it after SILENCE seconds, and gives up after three more questions. Linux's own two hours are too
# long for an export. https://man7.org/linux/man-pages/man7/tcp.7.html
SILENCE = 10
UNANSWERED = {"TCP_KEEPIDLE": SILENCE, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}


def is_passing(error: BaseException) -> bool:
    """Whether an error of the database may pass by itself: connection lost, deadlock, restart, no room for more."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        return code not in FINAL_CODES and (code in PASSING_CODES or code.startswith(PASSING_CLASSES))
    if isinstance(error, asyncpg.DataError):  # a value that fits no column: an InterfaceError too, but ours
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
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in UNANSWERED.items():
                if hasattr(socket, name):  # some are Linux's alone
                    peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@contextlib.asynccontextmanager
async def open_pool(url: str, *, size: int, name: str, **session: str) -> AsyncIterator[Pool]:
    """Open a pool of at most `size` connections that call themselves `name` in pg_stat_activity; closed on leaving."""
    async with _pool(url, min(size, 1), size, name, session) as pool:
        yield pool


@contextlib.asynccontextmanager
async def open_lazy_pool(url: str, *, size: int, name: str, **session: str) -> AsyncIterator[Pool]:
    """As `open_pool`, but connects when it is asked to, so that the database may be away when this begins."""
    async with _pool(url, 0, size, name, session) as pool:
        yield pool


@contextlib.asynccontextmanager
async def _pool(url: str, least: int, most: int, name: str, session: dict[str, str]) -> AsyncIterator[Pool]:
    pool = await asyncpg.create_pool(
        url,
        min_size=least,
        max_size=most,
        server_settings={**SESSION, "application_name": name, **session},
        timeout=10,
        command_timeout=None,
        connection_class=WatchedConnection,
        init=_pin_newer,
        reset=_leave_as_it_is,
    )
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except Exception:
            pool.terminate()


@contextlib.asynccontextmanager
async def connected_to_read(url: str, name: str) -> AsyncIterator[Connection]:
    """One connection that can only read and calls itself `name` in pg_stat_activity."""
    settings = {**SESSION, "application_name": name, "default_transaction_read_only": "on"}
    connection = await asyncpg.connect(url, server_settings=settings, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


async def _pin_newer(connection: Connection) -> None:
    await connection.execute(NEWER)


async def _leave_as_it_is(_connection: Connection) -> None:
    """What a pool does to a connection that comes back: nothing.

    All that is set here is set for one transaction, so there is no session to reset, and every request is spared a
    round trip. asyncpg itself still rolls back what was left open.
    """


class Listener:
    """One connection that listens on a channel, and connects again whenever it is lost.

    `on_payload` gets each notification's payload. `on_gap` is called after every (re)connection: what was said
    meanwhile is lost, so whoever waits has to look for itself.
    """

    def __init__(self, url: str, channel: str, on_payload: Callable[[str], None], on_gap: Callable[[], None]) -> None:
        self._url = url
        self._channel = channel
        self._on_payload = on_payload
        self._on_gap = on_gap
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()

    async def __aenter__(self) -> "Listener":
        self._task = asyncio.create_task(self._run(), name=f"listen {self._channel}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        pause = 0.1
        while True:
            try:
                await self._listen()
                pause = 0.1
            except Exception as error:
                log.warning("listener lost", channel=self._channel, error=str(error), again_in=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    async def _listen(self) -> None:
        settings = {**SESSION, "application_name": f"longshore {self._channel}"}
        connection = await asyncpg.connect(self._url, server_settings=settings, timeout=5)
        try:
            self._lost.clear()
            connection.add_termination_listener(lambda *_: self._lost.set())
            await connection.add_listener(self._channel, self._receive)
            self.connected.set()
            self._on_gap()
            while not self._lost.is_set():
                try:
                    await asyncio.wait_for(self._lost.wait(), 10)
                except TimeoutError:
                    # A peer that vanished without a word is only noticed by asking it something.
                    await connection.execute("select 1", timeout=5)
        finally:
            self.connected.clear()
            connection.terminate()

    def _receive(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        self._on_payload(str(payload))
