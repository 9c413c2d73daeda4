"""The worst that the clients of one chain can do, one behavior a process: `python -m tests.neighbour.worst NAME`.

Each behavior asks at a fixed rate, far above what the service's bounds let through, with at most MAX_UNANSWERED
requests unanswered, and costs this process a fraction of one core. The process is niced, so that the load generator
itself yields to the service and to the client that is measured. It reads a `Client` as one line of JSON and prints
`at work` once something was refused or held back. It ends at the end of its standard input, or after MAX_SECONDS, and
prints how many answers had which status.
"""

import asyncio
import contextlib
import itertools
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import httpx2
import msgspec

from longshore.processes import raise_file_limit
from longshore.webhooks.delivery_permits import MAX_DELIVERIES_OF_CHAIN
from tests.service import export_body
from tests.worst_requests import SEGMENT_SHAPES

T = TypeVar("T")

NICENESS = 10
MAX_SECONDS = 90.0
MAX_UNANSWERED = 200
MAX_START_SECONDS = 60.0
REFUSALS = ("409", "429")
DELIVERY = "deliveries begun"
HOME = "127.0.0.2"  # the address of the chain's clients; the client that is measured has 127.0.0.1
GUESSING_ADDRESSES = 100
LATER = "2126-05-26T12:00:00Z"
WEBHOOKS = 10
SLOW_SECONDS = 5.0


class Client(msgspec.Struct, frozen=True):
    """The service's address, and the credentials of the chain that does its worst."""

    address: str
    chain: int
    tokens: list[str]
    username: str
    password: str
    opened: int
    """How many streams and long polls each token tries to have open, half of each."""


class Load:
    """Requests of one chain's clients, and how they were answered."""

    def __init__(self, client: Client, stack: contextlib.AsyncExitStack) -> None:
        self.client = client
        self.answers: Counter[str] = Counter()
        self.at_work = asyncio.Event()
        self.stack = stack
        self.background: set[asyncio.Task[None]] = set()

    async def http(self, token: int | None = 0, local: str = HOME) -> httpx2.AsyncClient:
        """Return a client with one of the chain's tokens, or without any, whose requests come from `local`."""
        headers = {} if token is None else {"Authorization": f"Bearer {self.client.tokens[token]}"}
        limits = httpx2.Limits(max_connections=None)
        transport = httpx2.AsyncHTTPTransport(verify=False, local_address=local, limits=limits)  # no TLS
        made = httpx2.AsyncClient(
            base_url=self.client.address, headers=headers, transport=transport, timeout=MAX_SECONDS
        )
        return await self.stack.enter_async_context(made)

    async def ask(self, http: httpx2.AsyncClient, method: str, path: str, **more: Any) -> httpx2.Response:
        """Make a request and count its answer."""
        answer = await http.request(method, path, **more)
        self.count(str(answer.status_code))
        return answer

    def count(self, answer: str) -> None:
        """Count an answer. The load is on once the service has refused something, or holds back deliveries."""
        self.answers[answer] += 1
        if answer in REFUSALS or self.answers[DELIVERY] >= MAX_DELIVERIES_OF_CHAIN:
            self.at_work.set()

    async def task(self, http: httpx2.AsyncClient, **more: Any) -> httpx2.Response:
        """Create an export that is due in a hundred years, unless `once` says otherwise."""
        once = more.pop("once", LATER)
        return await self.ask(http, "POST", "/tasks", json={**export_body(chain=self.client.chain, once=once), **more})

    def begin(self, act: Callable[[T], Awaitable[Any]], argument: T) -> None:
        """Do something in the background; a connection that the service closes counts as `closed`."""

        async def run() -> None:
            try:
                await act(argument)
            except (httpx2.TransportError, OSError):
                self.answers["closed"] += 1

        task = asyncio.create_task(run())
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def pace(self, rate: float, ask: Callable[[int], Awaitable[Any]]) -> None:
        """Begin `ask(0)`, `ask(1)`, …, so many a second, and none while MAX_UNANSWERED run."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in itertools.count():
            if len(self.background) < MAX_UNANSWERED:
                self.begin(ask, number)
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - loop.time()))


async def waits(load: Load) -> None:
    """Open more event streams and long polls than a credential may have, of a task that changes twice a second."""
    clients = [await load.http(number) for number in range(len(load.client.tokens))]
    task = (await load.task(clients[0])).json()["id"]

    async def stream(http: httpx2.AsyncClient) -> None:
        while True:
            async with http.stream("GET", f"/tasks/{task}/events") as answer:
                load.count(str(answer.status_code))
                async for _ in answer.aiter_raw():
                    pass
            await asyncio.sleep(1)

    async def long_poll(http: httpx2.AsyncClient) -> None:
        tag = ""
        while True:
            answer = await load.ask(http, "GET", f"/tasks/{task}?wait=60", headers={"If-None-Match": tag})
            tag = answer.headers.get("ETag", tag)
            if answer.status_code == 429:
                await asyncio.sleep(1)

    for number in range(load.client.opened // 2):
        for http in clients:
            load.begin(stream, http)
            load.begin(long_poll, http)
        if number % 5 == 4:
            await asyncio.sleep(0.02)
    for number in itertools.count():
        await load.ask(clients[0], "PATCH", f"/tasks/{task}", json={"desc": f"changed {number}"})
        await asyncio.sleep(0.5)


async def previews(load: Load) -> None:
    """Ask for previews of the heaviest segment that is accepted."""
    http = await load.http()
    segment = {**SEGMENT_SHAPES["45 texts of 1,000 characters"], "chain_id": load.client.chain}
    await load.pace(20, lambda _: load.ask(http, "POST", "/segments/preview", json={"segment": segment}))


async def wrong_logins(load: Load) -> None:
    """Guess passwords of made-up names from many addresses."""
    clients = [await load.http(None, f"127.0.1.{number + 1}") for number in range(GUESSING_ADDRESSES)]

    async def guess(number: int) -> None:
        body = {"username": f"nobody-{number}", "password": "a guess that is wrong"}
        await load.ask(clients[number % len(clients)], "POST", "/auth/login", json=body)

    await load.pace(40, guess)


async def right_logins(load: Load) -> None:
    """Sign one user in again and again."""
    http = await load.http(None)
    body = {"username": load.client.username, "password": load.client.password}
    await load.pace(40, lambda _: load.ask(http, "POST", "/auth/login", json=body))


async def silent_receivers(load: Load) -> None:
    """Cause many deliveries to receivers that never answer."""
    await _deliveries(load, MAX_SECONDS)


async def slow_receivers(load: Load) -> None:
    """Cause many deliveries to receivers that take SLOW_SECONDS to answer."""
    await _deliveries(load, SLOW_SECONDS)


async def _deliveries(load: Load, seconds: float) -> None:
    http = await load.http()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            load.background.add(task)
            task.add_done_callback(load.background.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            load.count(DELIVERY)
            await asyncio.sleep(seconds)
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for number in range(WEBHOOKS):
        hook = {"chain": load.client.chain, "url": f"http://127.0.0.1:{port}/{number}"}
        assert (await load.ask(http, "POST", "/webhooks", json=hook)).status_code == 201

    async def event(_: int) -> None:
        created = await load.task(http)
        if created.status_code == 201:
            await load.ask(http, "POST", f"/tasks/{created.json()['id']}/cancel")

    try:
        await load.pace(20, event)
    finally:
        server.close()  # or the service would open new connections while those that it has are ended


async def many_tasks(load: Load) -> None:
    """Create exports that are due at once, and execute each of them again."""
    clients = [await load.http(number) for number in range(len(load.client.tokens))]

    async def create(number: int) -> None:
        http = clients[number % len(clients)]
        created = await load.task(http, once="2026-05-26T12:00:00Z")
        if created.status_code == 201:
            path = f"/tasks/{created.json()['id']}/execute"
            await load.ask(http, "POST", path, headers={"Prefer": "respond-async"})

    await load.pace(40, create)


async def full_quota(load: Load) -> None:
    """Create the largest tasks beyond the quota, and list the largest ones."""
    http = await load.http()

    async def lists(rate: float) -> None:
        await load.pace(rate, lambda _: load.ask(http, "GET", "/tasks?limit=100"))

    load.begin(lists, 3.0)
    await load.pace(20, lambda _: load.task(http, debug="x" * 60_000))


BEHAVIORS: dict[str, Callable[[Load], Coroutine[Any, Any, None]]] = {
    "open streams and long polls": waits,
    "heavy previews": previews,
    "wrong sign-ins": wrong_logins,
    "right sign-ins": right_logins,
    "silent receivers": silent_receivers,
    "slow receivers": slow_receivers,
    "many tasks at once": many_tasks,
    "a full quota": full_quota,
}


@contextlib.asynccontextmanager
async def _loading(client: Client, name: str) -> AsyncIterator[Load]:
    async with contextlib.AsyncExitStack() as stack:
        load = Load(client, stack)
        work = asyncio.create_task(BEHAVIORS[name](load))
        try:
            waiting = asyncio.create_task(load.at_work.wait())
            await asyncio.wait({work, waiting}, timeout=MAX_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            assert load.at_work.is_set(), f"nothing was refused: {dict(load.answers)}"
            yield load
        finally:
            for task in (work, waiting, *load.background):
                task.cancel()
            await asyncio.wait({work, waiting, *load.background})


async def _main(name: str) -> None:
    client = msgspec.json.decode(sys.stdin.readline(), type=Client)
    async with _loading(client, name) as load:
        print("at work", flush=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_SECONDS):
                await asyncio.to_thread(sys.stdin.read)
        print(msgspec.json.encode(load.answers).decode(), flush=True)


if __name__ == "__main__":
    os.nice(NICENESS)
    raise_file_limit()
    asyncio.run(_main(sys.argv[1]))
