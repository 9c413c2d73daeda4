"""Files for destinations whose servers refuse requests, lose connections, hang, fill up, restart; writers are killed.

At any moment each file is whole or absent; in the end each is there, was written once, and nothing is left over.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest

from longshore.destinations import http_client, sftp_place
from longshore.destinations.kind import DestinationUnavailableError
from tests.destinations.front import Front, ProxiedRequest, ProxyReply, s3_error
from tests.destinations.gcs import gcs
from tests.destinations.gcs import place_of as gcs_place
from tests.destinations.s3_servers import BUCKET, MotoServer, rclone
from tests.destinations.servers import BytesFile, SampleDestination
from tests.destinations.sshd import FULL_BYTES, place_of, sshd
from tests.destinations.wire import Wire

FILES = int(os.environ.get("FAULT_FILES", "8"))  # for each server; `make faults` asks for more
AT_A_TIME = 4
FAULTS_OF_100 = 20  # requests or connections
SECONDS_FOR_EACH = 20.0
SIZES = (0, 1, 1000, 300_000, 5_000_000, (8 << 20) + 1, 18_000_000)


@pytest.fixture(scope="module", autouse=True)
def clean() -> None:
    """Nothing: in place of the fixture of other fault tests, which starts a service."""


@pytest.fixture
def seed() -> int:
    made = int(os.environ.get("FAULT_SEED", str(random.randrange(2**32))))
    print(f"seed {made}")
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs is given up after two seconds."""
    monkeypatch.setattr(http_client, "TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(sftp_place, "CALL_SECONDS", 5.0)


class Delivery(msgspec.Struct, frozen=True):
    """A file with its path."""

    path: str
    file: BytesFile


def deliveries(source: random.Random) -> list[Delivery]:
    return [
        Delivery(f"day-{number % 3}/{number} file+%.csv", BytesFile(source.randbytes(SIZES[number % len(SIZES)]), []))
        for number in range(FILES)
    ]


async def deliver_all(made: SampleDestination, all_of_them: list[Delivery]) -> int:
    """Write all files, each until it has arrived; return how many tries failed."""
    slots, failed = asyncio.Semaphore(AT_A_TIME), 0
    deadline = time.monotonic() + SECONDS_FOR_EACH * FILES

    async def deliver(number: int, delivery: Delivery) -> None:
        nonlocal failed
        while True:
            async with slots:
                try:
                    async with made.kind.open(*made.values) as place:
                        await place.write(delivery.path, delivery.file, f"d{number}", overwrite=False)  # type: ignore[union-attr]
                        return
                except DestinationUnavailableError as error:
                    assert time.monotonic() < deadline, error
                    failed += 1
            await asyncio.sleep(0.1)

    await asyncio.gather(*(deliver(number, delivery) for number, delivery in enumerate(all_of_them)))
    return failed


class PartialFileDetector(threading.Thread):
    """Looks, as long as it may, whether any file is to be seen that is not whole."""

    def __init__(self, folder: Path, all_of_them: list[Delivery]) -> None:
        super().__init__()
        self._files = {folder / delivery.path: delivery.file.content for delivery in all_of_them}
        self.over = threading.Event()
        self.broken: list[Path] = []
        self.looked = 0

    def run(self) -> None:
        while not self.over.wait(0.05):
            for path, content in self._files.items():
                with contextlib.suppress(FileNotFoundError):
                    self.looked += 1
                    if path.read_bytes() != content:
                        self.broken.append(path)

    @classmethod
    @contextlib.contextmanager
    def watching(cls, folder: Path, all_of_them: list[Delivery]) -> Iterator["PartialFileDetector"]:
        watch = cls(folder, all_of_them)
        watch.start()
        try:
            yield watch
        finally:
            watch.over.set()
            watch.join()
        assert watch.broken == []
        assert {path for path in watch._files if not path.exists()} == set()


def random_faults(source: random.Random, refusals: list[ProxyReply]) -> Callable[[ProxiedRequest], ProxyReply | None]:
    """A rule by which one request in five fails, in any way."""
    kinds: list[Callable[[], ProxyReply]] = [
        lambda: source.choice(refusals),
        lambda: ProxyReply(drops=True),
        lambda: ProxyReply(passes_on=True, drops=True),
        lambda: ProxyReply(cuts_after=source.randrange(1000)),
    ]
    hangs = iter([True, True])
    lock = threading.Lock()

    def rule(_: ProxiedRequest) -> ProxyReply | None:
        with lock:
            if source.randrange(100) >= FAULTS_OF_100:
                return None
            if source.randrange(20) == 0 and next(hangs, False):
                return ProxyReply(hangs=True)
            return source.choice(kinds)()

    return rule


def test_each_file_is_written_to_s3_once_whatever_fails(seed: int) -> None:
    source = random.Random(seed)
    files = deliveries(source)
    server = MotoServer()
    rule = random_faults(
        source, [s3_error(503, "SlowDown"), s3_error(500, "InternalError"), s3_error(507, "QuotaExceeded")]
    )
    front = Front(server.netloc, rule)
    try:
        failed = asyncio.run(deliver_all(server.place(address=front.address), files))
        front.rule = lambda _: None
        for number, delivery in enumerate(files):
            server.place(address=front.address).discard(delivery.path, write_id=f"d{number}")
        assert {key: server.content(key) for key in server.found_keys()} == {
            f"in/{delivery.path}": delivery.file.content for delivery in files
        }
        assert server.uploads() == []
        # The end of one upload may be asked for twice, where the first answer was lost: it makes one object.
        made = {(seen.target if seen.method == "POST" else id(seen), made_key(seen)) for seen in front.succeeded}
        written = Counter(key for _, key in made if key)
        assert len(written) == FILES
        assert {key: times for key, times in written.items() if times > 1} == {}
        print(f"{len(front.seen)} requests, {failed} tries failed")
    finally:
        front.close()
        server.stop()


def test_each_file_is_written_to_google_whatever_fails(seed: int) -> None:
    source = random.Random(seed)
    files = deliveries(source)
    with gcs() as (address, tokens):
        parts = urlsplit(address)
        front = Front(
            (str(parts.hostname), int(parts.port or 0)),
            random_faults(source, [ProxyReply(503), ProxyReply(500), ProxyReply(429)]),
        )
        made = gcs_place((front.address, tokens))
        failed = asyncio.run(deliver_all(made, files))
        print(f"{len(front.seen)} requests, {failed} tries failed")
        front.rule = lambda _: None
        assert [made.read(delivery.path) == delivery.file.content for delivery in files] == [True] * FILES
        front.close()


def test_each_file_is_written_to_s3_although_its_server_restarts(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    files = deliveries(source)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(rclone(tmp_path))
        made = server.place()
        over = threading.Event()

        def restart() -> None:
            pauses = random.Random(seed)
            while not over.wait(pauses.uniform(0.5, 2)):
                stack.close()
                over.wait(pauses.uniform(0, 0.5))
                stack.enter_context(rclone(tmp_path, port=int(server.address.rpartition(":")[2])))

        thread = threading.Thread(target=restart)
        thread.start()
        try:
            with PartialFileDetector.watching(tmp_path / BUCKET / "in", files):
                asyncio.run(deliver_all(made, files))
        finally:
            over.set()
            thread.join()
        assert [made.read(delivery.path) == delivery.file.content for delivery in files] == [True] * FILES


def write_in_child(made: SampleDestination, delivery: Delivery, number: int, folder: Path) -> "subprocess.Popen[bytes]":
    """Begin to write a file in a process of its own, which can be killed."""
    content = folder / f"content-{number}"
    content.write_bytes(delivery.file.content)
    arguments = msgspec.json.encode([made.settings, made.secret, delivery.path, str(content), f"d{number}"])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.write_file", arguments.decode()], stdout=subprocess.PIPE
    )


def test_each_file_is_written_by_sftp_whatever_fails(seed: int, tmp_path: Path) -> None:
    """Connections are cut after any number of bytes, the server restarts, and the writers of some files are killed."""
    source = random.Random(seed)
    files = deliveries(source)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sshd(tmp_path))
        lock = threading.Lock()

        def limit() -> int:
            with lock:
                most = source.choice((3000, 300_000, 6_000_000))  # within the login, or within the file
                return source.randrange(most) if source.randrange(100) < 3 * FAULTS_OF_100 else -1

        wire = Wire(server.port, limit)
        made = place_of(server).change(port=wire.port)
        with PartialFileDetector.watching(server.uploads, files):
            for number in range(min(4, FILES)):
                child = write_in_child(place_of(server), files[number], number, tmp_path)
                assert child.stdout is not None
                child.stdout.readline()  # it has signed in
                time.sleep(source.uniform(0, 0.3))
                child.send_signal(signal.SIGKILL)
                child.wait()
            stack.close()
            stack.enter_context(sshd(tmp_path, port=server.port))
            failed = asyncio.run(deliver_all(made, files))
        print(f"{wire.connections} connections, {failed} tries failed")
        assert list(server.uploads.rglob(".longshore*")) == []
        wire.close()


def test_files_that_do_not_fit_wait_until_there_is_room(tmp_path: Path) -> None:
    with sshd(tmp_path) as server:
        made = place_of(server, "full")
        made.write("first.csv", BytesFile(bytes(FULL_BYTES - 100_000), []))

        async def deliver() -> None:
            async def make_room() -> None:
                await asyncio.sleep(0.5)
                async with made.kind.open(*made.values) as place:
                    opened: Any = place
                    await opened.remove("/in/first.csv")

            files = [Delivery(f"{n}.csv", BytesFile(bytes(200_000), [])) for n in range(3)]
            await asyncio.gather(make_room(), deliver_all(made, files))

        asyncio.run(deliver())
        assert [len(made.read(f"{n}.csv")) for n in range(3)] == [200_000] * 3


def made_key(seen: ProxiedRequest) -> str | None:
    """The key of the object that a request makes, if it makes one."""
    target = urlsplit(seen.target)
    ends = seen.method == "POST" and "uploadId=" in target.query
    return unquote(target.path) if ends or (seen.method == "PUT" and not target.query) else None
