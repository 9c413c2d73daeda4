"""A physical standby is a source like its primary, until it is promoted."""

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from longshore.database.connect import Connection, open_pool
from longshore.database.connection_uri import parse
from longshore.database.embedded import embedded_server
from longshore.database.embedded_server import programs
from longshore.errors import LongshoreError, TransientError
from longshore.exports.catalog import Field, FieldType
from longshore.exports.columns import columns_of
from longshore.exports.increments import change_query
from longshore.exports.increments.change_query import ClientCopy, KeyList
from longshore.exports.increments.keys import key_of
from longshore.exports.row_query import RowQuery
from longshore.exports.snapshot import EXPORT_SESSION, ExportedSnapshot, SourceConnections, export_snapshot
from tests.exports.engine import index_over
from tests.exports.incremental import taken

INDEX = index_over("public.entries", id=Field(type=FieldType.NUMBER, description=""))
KEYED = msgspec.structs.replace(INDEX, key="id")
WAIT = 30.0  # seconds


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Yield a primary's address, and the folder of a standby that follows it."""
    with embedded_server(tmp_path) as url:
        primary, standby = tmp_path / "postgres", tmp_path / "standby" / "postgres"
        standby.parent.mkdir()
        owner = primary.stat()
        os.chown(standby.parent, owner.st_uid, owner.st_gid)
        copy = ["pg_basebackup", "-d", url, "-D", str(standby), "-R", "-c", "fast"]
        run(primary, *copy)
        socket = f"-c unix_socket_directories={standby.parent} -c listen_addresses="
        run(primary, "pg_ctl", "-D", str(standby), "-l", str(standby.parent / "log"), "-o", socket, "-w", "start")
        try:
            yield url, standby
        finally:
            run(primary, "pg_ctl", "-D", str(standby), "-m", "immediate", "-w", "stop")


def run(cluster: Path, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs as the user that owns the cluster."""
    owner = cluster.stat()
    command = [str(programs() / program), *arguments]
    done = subprocess.run(command, capture_output=True, user=owner.st_uid, group=owner.st_gid, cwd="/")
    assert done.returncode == 0, done.stderr


async def replayed(primary: Connection, standby: Connection) -> None:
    """Wait until the standby has everything that the primary has written to disk."""
    written = await primary.fetchval("select pg_current_wal_flush_lsn()::text")
    deadline = time.monotonic() + WAIT
    while not await standby.fetchval("select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", written):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_standby_has_increments_until_it_is_promoted(pair: tuple[str, Path]) -> None:
    url, folder = pair

    async def steps() -> None:
        primary, late = await asyncpg.connect(url), await asyncpg.connect(url)
        standby = await asyncpg.connect(user="postgres", database="postgres", host=str(folder.parent))
        await primary.execute("create table entries (id bigint, chain_id bigint default 1764, at timestamptz)")
        await primary.execute("insert into entries values (1)")
        await replayed(primary, standby)
        first, mark = await taken(standby, INDEX, None)

        await late.execute("begin")
        for id in range(100, 200):  # more savepoints than a standby keeps track of
            await late.execute(f"savepoint a; insert into entries values ({id})")
        await primary.execute("insert into entries values (2)")
        await replayed(primary, standby)
        second, mark = await taken(standby, INDEX, mark)
        await late.execute("commit")
        await replayed(primary, standby)
        third, mark = await taken(standby, INDEX, mark)
        assert (first, second, third) == ([1], [], [2, *range(100, 200)])

        await primary.execute("insert into entries values (3)")
        ahead, mark = await taken(primary, INDEX, mark)
        await standby.execute("select pg_wal_replay_pause()")
        await primary.execute("insert into entries values (4)")
        ahead += (await taken(primary, INDEX, mark))[0]
        _, newest = await taken(primary, INDEX, mark)
        assert (await taken(standby, INDEX, newest)) == ([], newest)  # it lags, and the watermark does not move back
        assert ahead == [3, 4]
        with pytest.raises(TransientError, match="lags behind"):
            await taken(standby, INDEX, mark, newest)  # an increment that was delivered and is read again

        await standby.execute("select pg_wal_replay_resume()")
        await standby.execute("select pg_promote()")
        with pytest.raises(LongshoreError, match="restored or promoted"):
            await taken(standby, INDEX, mark)
        for connection in (primary, late, standby):
            await connection.close()

    asyncio.run(steps())


def alternating(*sockets: Path) -> tuple[socket.socket, int]:
    """Return a listener and its port, which passes each connection on to the next of these Unix sockets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(origin: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := origin.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            for path in itertools.cycle(sockets):
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(str(path))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=pass_on, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener, listener.getsockname()[1]


def test_fewer_connections_read_a_snapshot_where_others_lead_to_another_standby(pair: tuple[str, Path]) -> None:
    primary, folder = pair
    folders = (folder.parent, Path(parse(primary).hosts[0]))
    listener, port = alternating(*(path / ".s.PGSQL.5432" for path in folders))
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"

    async def steps() -> None:
        async with open_pool(url, size=2, name="test", **EXPORT_SESSION) as pool:
            database = SourceConnections(pool, 1)
            async with database.snapshot() as (first, _):
                async with database.connections(first, 1) as found:
                    assert found == [first]
                    assert await first.fetchval("select 1") == 1
                own = await export_snapshot(first)
                async with database.connections(first, 1) as found:
                    assert len(found) == 2
                for strange in (ExportedSnapshot(own.name, "0"), ExportedSnapshot("00000009-00000009-1", own.server)):
                    with pytest.raises(TransientError, match="another server"):
                        async with database.join(strange):
                            pass

    with listener:
        asyncio.run(steps())


def test_a_run_with_deletes_waits_for_a_standby_that_lags_behind_the_run_before(
    pair: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = pair
    monkeypatch.setattr(change_query, "REPLAY_SECONDS", 0.0)

    async def watermark(connection: Connection) -> str:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            columns = await columns_of(connection, KEYED, [("id", "id")])
            copy = ClientCopy("keyed", columns, RowQuery(KEYED.from_clause, (1764,)), key_of(KEYED, columns, "csv"))
            found = await change_query.resolve(connection, KEYED, None, copy)
            return found.watermark(KeyList("", 0, "", 0, found.definition_hash))

    async def steps() -> None:
        primary = await asyncpg.connect(url)
        standby = await asyncpg.connect(user="postgres", database="postgres", host=str(folder.parent))
        await primary.execute("create table entries (id bigint, chain_id bigint default 1764, at timestamptz)")
        await replayed(primary, standby)
        await change_query.wait_for_replay(standby, await watermark(standby))
        await standby.execute("select pg_wal_replay_pause()")
        await primary.execute("insert into entries values (1)")
        ahead = await watermark(primary)
        await change_query.wait_for_replay(primary, ahead)
        with pytest.raises(TransientError, match="lags behind the run before"):
            await change_query.wait_for_replay(standby, ahead)
        other = msgspec.json.decode(ahead)
        await change_query.wait_for_replay(standby, msgspec.json.encode({**other, "system": 1}).decode())
        await standby.execute("select pg_wal_replay_resume()")
        await primary.execute("insert into entries values (2)")
        await replayed(primary, standby)
        await change_query.wait_for_replay(standby, ahead)
        for connection in (primary, standby):
            await connection.close()

    asyncio.run(steps())
