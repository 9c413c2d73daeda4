"""SFTP servers that differ from OpenSSH's: with a bound on transfers, or with a plain rename that replaces files."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import IO, Any, ClassVar

import asyncssh
import pytest

from longshore.destinations.deliver import discard
from longshore.destinations.kind import DestinationError
from longshore.destinations.sftp import sftp
from longshore.destinations.sftp_place import SftpPlace
from longshore.destinations.sftp_steps import RENAME_REPLACES
from longshore.settings import Settings
from tests.destinations.many_files import NO_STORE, delivery_of_files
from tests.destinations.servers import BytesFile, SampleDestination, random_file

REASON = "Maximum concurrent transfers exceeded"


class AnyPassword(asyncssh.SSHServer):
    """A server that takes any password."""

    def begin_auth(self, username: str) -> bool:
        return bool(username)

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, _username: str, _password: str) -> bool:
        return True


class OneTransfer(asyncssh.SFTPServer):
    """A session has one file open at a time."""

    opened = 0

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        if self.opened:
            raise asyncssh.SFTPPermissionDenied(f"{REASON}\r\n")
        self.opened += 1
        return super().open(path, pflags, attrs)

    def close(self, file_obj: Any) -> Any:
        self.opened -= 1
        return super().close(file_obj)


class NoTransfer(asyncssh.SFTPServer):
    """A session may open no file."""

    def open(self, *_: Any, **__: Any) -> Any:
        raise asyncssh.SFTPPermissionDenied(REASON)


class Replacing(asyncssh.SFTPServer):
    """The plain rename replaces files."""

    def rename(self, oldpath: bytes, newpath: bytes) -> Any:
        return self.posix_rename(oldpath, newpath)


class Failing(asyncssh.SFTPServer):
    """No file can be renamed."""

    def rename(self, *_: Any, **__: Any) -> Any:
        raise asyncssh.SFTPFailure("the index is locked")


@contextlib.asynccontextmanager
async def serving(server: type[asyncssh.SFTPServer], folder: Path) -> AsyncIterator[SampleDestination]:
    """A destination on a server that lasts while the context is open."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    factory = partial(server, chroot=str(folder).encode())
    listening = asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=AnyPassword, sftp_factory=factory, process_factory=None
    )
    async with await listening as opened:
        host_key = " ".join(key.export_public_key().decode().split()[:2])
        settings = {"host": "127.0.0.1", "port": opened.get_port(), "username": "shop", "host_key": host_key}
        yield SampleDestination(sftp(Settings()), settings, {"password": "a password"})


async def write_all(made: SampleDestination, files: dict[str, BytesFile]) -> None:
    async with made.kind.open(*made.values) as place:
        writes = (place.write(name, file, "d1", overwrite=False) for name, file in files.items())  # type: ignore[union-attr]
        await asyncio.gather(*writes)


def test_files_beyond_the_transfers_that_a_server_allows_are_written_one_after_another(tmp_path: Path) -> None:
    files = {f"{number}.csv": random_file(300_000) for number in range(10)}

    async def run() -> None:
        async with serving(OneTransfer, tmp_path) as made:
            await write_all(made, files)

    asyncio.run(run())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: file.content for name, file in files.items()
    }


def test_error_has_the_reason_that_the_server_gives(tmp_path: Path) -> None:
    async def run(server: type[asyncssh.SFTPServer]) -> None:
        async with serving(server, tmp_path) as made:
            await write_all(made, {"a.csv": BytesFile(b"x")})

    with pytest.raises(DestinationError, match=rf"has no right on .* to write .* \({REASON}\)$"):
        asyncio.run(run(NoTransfer))
    with pytest.raises(Exception, match=r"failed to rename a file to a\.csv \(the index is locked\): is its disk full"):
        asyncio.run(run(Failing))


def test_file_that_appears_while_another_is_sent_is_not_replaced_by_a_plain_rename_that_would(tmp_path: Path) -> None:
    class Interfering(BytesFile, frozen=True):
        def open(self) -> IO[bytes]:
            (tmp_path / "race.csv").write_bytes(b"of another program")
            return super().open()

    async def run() -> None:
        async with serving(Replacing, tmp_path) as made:
            with pytest.raises(DestinationError, match="another file lies at"):
                await write_all(made, {"race.csv": Interfering(b"ours")})
            details = {step.step: step.detail async for step in made.kind.test(*made.values)}
            assert details["rename"] == RENAME_REPLACES

    asyncio.run(run())
    assert (tmp_path / "race.csv").read_bytes() == b"of another program"
    assert [path.name for path in tmp_path.iterdir() if "test" in path.name] == []


class Counting(asyncssh.SFTPServer):
    """Counts how often each file is opened."""

    opened: ClassVar[list[bytes]] = []

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        self.opened.append(path)
        return super().open(path, pflags, attrs)


def test_file_that_may_be_replaced_is_compared_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"old")

    async def run() -> None:
        async with serving(Counting, tmp_path) as made, made.kind.open(*made.values) as place:
            await place.write("a.csv", BytesFile(b"new"), "d1", overwrite=True)  # type: ignore[union-attr]

    asyncio.run(run())
    assert (tmp_path / "a.csv").read_bytes() == b"new"
    assert [path for path in Counting.opened if path.endswith(b"a.csv")] == [b"a.csv"]


class Endless(asyncssh.SFTPServer):
    """A folder whose list never ends."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        while path:
            yield asyncssh.SFTPName(b"one", attrs=asyncssh.SFTPAttrs())


def test_the_test_reads_only_the_beginning_of_a_list(tmp_path: Path) -> None:
    async def run() -> list[str]:
        async with serving(Endless, tmp_path) as made, asyncio.timeout(20):
            return [step.step async for step in made.kind.test(*made.values) if step.ok]

    assert "list" in asyncio.run(run())


@contextlib.asynccontextmanager
async def far_away(port: int) -> AsyncIterator[int]:
    """The port of a server, from which each answer takes 50 ms."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
        while data := await reader.read(1 << 16):
            await asyncio.sleep(seconds)
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, to_server, 0), pass_on(from_server, writer, 0.05))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def test_what_many_files_have_left_is_removed_many_at_a_time(tmp_path: Path) -> None:
    async def run() -> float:
        async with (
            serving(asyncssh.SFTPServer, tmp_path) as made,
            far_away(made.settings["port"]) as port,
            made.kind.open(*made.change(port=port).values) as place,
        ):
            assert isinstance(place, SftpPlace)
            for number in (7, 300):
                (tmp_path / place._temporary(f"{number}.csv", f"12-1-1-{number % 2}")).write_bytes(b"left")
            began = time.monotonic()
            await discard(delivery_of_files(400), place, NO_STORE, range(2))
            return time.monotonic() - began

    taken = asyncio.run(run())
    assert list(tmp_path.iterdir()) == []
    assert taken < 4, "each of 802 removals waited for the one before, or for the fourth before"
