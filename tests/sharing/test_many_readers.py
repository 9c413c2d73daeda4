"""A hundred readers at once on one process: each has all rows, and other requests are answered meanwhile."""

import asyncio
import io
import json
import subprocess
import sys
import time
from typing import Any

import httpx2
import pyarrow.parquet as pq

from longshore.access.tokens import Level
from tests.service import CHAIN
from tests.sharing.worlds import Tables

READERS = 100
# Asks for /healthz until standard input ends, and prints the seconds of each answer. It is a process of its own, as the
# readers' own loop, which decodes 200 files, would be taken for the service's.
WATCH = """
import http.client, json, select, sys, time
waits, connection = [], http.client.HTTPConnection(sys.argv[1], timeout=60)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    began = time.monotonic()
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() is not None
    waits.append(time.monotonic() - began)
print(json.dumps(waits))
"""
TABLES = f"/delta-sharing/shares/{CHAIN}/schemas/exports/tables"


async def read(client: httpx2.AsyncClient, table: str) -> list[int]:
    """Read a table as the protocol's clients do: list, metadata, files, and each file in two ranges."""
    listed = await client.get(f"/delta-sharing/shares/{CHAIN}/all-tables")
    assert table in [item["name"] for item in listed.json()["items"]]
    assert (await client.get(f"{TABLES}/{table}/metadata")).status_code == 200
    answer = await client.post(f"{TABLES}/{table}/query", json={})
    assert answer.status_code == 200, answer.text
    ids: list[int] = []
    for line in map(json.loads, answer.text.splitlines()):
        if "file" in line:
            content = b""
            for span in ("bytes=0-999", "bytes=1000-"):
                part = await client.get(line["file"]["url"], headers={"Range": span, "Authorization": ""})
                assert part.status_code == 206, part.text
                content += part.content
            assert len(content) == line["file"]["size"]
            ids += pq.read_table(io.BytesIO(content), columns=["id"]).column("id").to_pylist()
    return sorted(ids)


def test_hundred_readers_at_once_have_all_rows_and_other_requests_are_answered(on_disk: Tables) -> None:
    service = on_disk.service
    expected = {
        name: [row[0] for row in service.sql(f"select id from {source} where chain_id = $1 order by id", CHAIN)]
        for name, source in (("ledger", "loyalty.wallet_ledger"), ("pairs", "edges.values"))
    }
    tokens = [service.token(Level.READ) for _ in range(5)]

    async def read_all() -> tuple[list[Any], float]:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        clients = [
            httpx2.AsyncClient(
                base_url=service.address, timeout=60, limits=limits, headers={"Authorization": f"Bearer {token}"}
            )
            for token in tokens
        ]
        began = time.monotonic()
        names = [("ledger", "pairs")[number % 2] for number in range(READERS)]
        found = await asyncio.gather(*(read(clients[n % len(clients)], name) for n, name in enumerate(names)))
        seconds = time.monotonic() - began
        for client in clients:
            await client.aclose()
        return [found[n] == expected[name] for n, name in enumerate(names)], seconds

    with subprocess.Popen(
        [sys.executable, "-c", WATCH, httpx2.URL(service.address).netloc.decode()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        right, seconds = asyncio.run(read_all())
        waits = json.loads(watching.communicate()[0])
    print(f"{READERS} readers in {seconds:.2f} s; /healthz meanwhile {len(waits)} times, {max(waits):.3f} s at most")
    assert all(right)
    assert max(waits) < 2, waits
