"""Destinations of the test's own kinds, stored for a service."""

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import msgspec

from longshore.database.connect import open_pool
from longshore.destinations.stored import Destinations, NewDestination
from longshore.settings import Settings
from longshore.tasks.model import ChainId
from longshore.vault import open_vault
from tests.destinations.folder import FAULTS, LINES, WRITES, Faults, FolderSecret, FolderSettings
from tests.service import CHAIN, Longshore, export_body, in_own_loop


class Place(msgspec.Struct, frozen=True):
    """A destination that is a folder, and its name."""

    name: str
    folder: Path

    def faults(self, **faults: Any) -> None:
        """Choose what goes wrong from now on."""
        new = self.folder / f"{FAULTS}.new"
        new.write_bytes(msgspec.json.encode(Faults(**faults)))
        new.rename(self.folder / FAULTS)

    def files(self) -> dict[str, bytes]:
        """The files that lie there, by their paths, with unfinished ones."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        named = {str(path.relative_to(self.folder)): path.read_bytes() for path in found}
        return {path: data for path, data in named.items() if path not in (FAULTS, WRITES, LINES)}

    def noted(self, name: str) -> list[dict[str, Any]]:
        """The lines of a list that the kind keeps."""
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add_place(
    service: Longshore, folder: Path, kind: str = "folder", chain: int = CHAIN, name: str | None = None
) -> Place:
    """A new destination of a chain, by default of a name of its own."""
    name = name or f"place-{uuid4().hex[:12]}"
    place = Place(name, folder / f"{name}-{uuid4().hex[:4]}")
    place.folder.mkdir()
    settings = Settings(data=service.data, database_url=service.url)

    async def add() -> None:
        async with open_pool(service.url, size=1, name="test") as pool, pool.acquire() as connection:
            stored = Destinations(pool, {}, open_vault(settings), settings)
            new = NewDestination(name, kind, FolderSettings(str(place.folder)), FolderSecret())
            await stored.create(connection, ChainId(chain), new, "user 7")

    in_own_loop(add())
    return place


def delivered_body(
    *deliver: dict[str, Any], target: dict[str, Any] | None = None, chain: int = CHAIN, **trigger: Any
) -> dict[str, Any]:
    """The body of an export that is delivered."""
    body = export_body(chain=chain, **trigger)
    body["target"] |= {"deliver": list(deliver)} | (target or {})
    return body


def deliveries_of(client: httpx2.Client, task: int, run: int = 1) -> list[dict[str, Any]]:
    """The deliveries of a run, oldest first."""
    answer = client.get(f"/tasks/{task}/runs/{run}/deliveries", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()))


def reached(client: httpx2.Client, task: int, state: str, timeout: float = 60) -> dict[str, Any]:
    """The task once it is in a state."""
    deadline = time.monotonic() + timeout
    while True:
        found: dict[str, Any] = client.get(f"/tasks/{task}", params={"log_limit": 1000}).json()
        if found["state"]["code"] == state:
            return found
        assert time.monotonic() < deadline, f"still {found}"
        time.sleep(0.02)


def settled(client: httpx2.Client, task: int, run: int = 1, timeout: float = 60) -> list[dict[str, Any]]:
    """The deliveries of a run once none is pending."""
    deadline = time.monotonic() + timeout
    while any(each["state"] == "pending" for each in deliveries_of(client, task, run)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return deliveries_of(client, task, run)


def created(client: httpx2.Client, body: dict[str, Any]) -> int:
    answer = client.post("/tasks", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])
