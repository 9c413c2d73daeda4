"""Tables of the shared service, read as the Delta Sharing protocol says."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from longshore.access.tokens import Level, Scope
from tests.service import CHAIN, Longshore, ended, export_body
from tests.sharing.python_client import python_client
from tests.sharing.worlds import on_disk, on_s3, world

__all__ = ["on_disk", "on_s3", "python_client", "world"]

TABLES = f"/delta-sharing/shares/{CHAIN}/schemas/exports/tables"


def table_body(name: str, index: str = "wallet-ledger", trigger: dict[str, Any] | None = None, **target: Any) -> Any:
    """Return the body of a task that is shared as a table."""
    body: dict[str, Any] = export_body("parquet", **(trigger or {}))
    body["target"] |= {"export_index": index, "share_as": name, **target}
    return body


def new_name() -> str:
    """Return a name that no table has."""
    return f"Table_{uuid.uuid4().hex}"


class Answer(msgspec.Struct, frozen=True):
    """The answer to a query: the head, and its lines."""

    headers: dict[str, str]
    lines: list[Any]

    @property
    def files(self) -> list[Any]:
        """The files."""
        return [line["file"] for line in self.lines if "file" in line]

    @property
    def schema(self) -> dict[str, Any]:
        """Types of the columns, by name."""
        text = self.lines[1]["metaData"]["schemaString"]
        return {field["name"]: field["type"] for field in json.loads(text)["fields"]}


class Reader:
    """A reader of the tables of a chain."""

    def __init__(self, client: httpx2.Client, tables: str = TABLES) -> None:
        self.client = client
        self._tables = tables

    def get(self, table: str, path: str = "", **options: Any) -> httpx2.Response:
        """Ask for something of a table."""
        return self.client.get(f"{self._tables}/{table}{path and '/' + path}", **options)

    def query(self, table: str, headers: dict[str, str] | None = None, **body: Any) -> Answer:
        """Return the files of a table."""
        answer = self.client.post(f"{self._tables}/{table}/query", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/x-ndjson; charset=utf-8"
        return Answer(dict(answer.headers), [json.loads(line) for line in answer.text.splitlines()])

    def names(self) -> list[str]:
        """Return the names of all tables, page by page."""
        found: list[str] = []
        token = ""
        while True:
            page = self.client.get(self._tables, params={"maxResults": 2, "pageToken": token}).json()
            found += [item["name"] for item in page["items"]]
            if not (token := page.get("nextPageToken", "")):
                return found


@pytest.fixture
def reader(service: Longshore) -> Iterator[Reader]:
    """A reader by a token of the level read."""
    with service.client(Level.READ) as client:
        yield Reader(client)


@pytest.fixture
def limited_reader(service: Longshore) -> Iterator[Reader]:
    """A reader by a token from which a column of the ledger is hidden."""
    with service.client(Level.READ, scope=Scope(hidden_columns=["wallet-ledger.amount"])) as client:
        yield Reader(client)


def shared(client: httpx2.Client, body: Any, name: str = "") -> tuple[int, str]:
    """Return id and name of a new table once its first version is there. `name`: where the body has none."""
    created = client.post("/tasks", json=body)
    assert created.status_code == 201, created.text
    task = ended(client, created.json()["id"])
    assert task["state"]["code"] == "DONE", task["logs"]
    return task["id"], name or body["target"]["share_as"]


@pytest.fixture(scope="module")
def ledger(client: httpx2.Client) -> tuple[int, str]:
    """Id and name of a table of the whole ledger."""
    return shared(client, table_body(new_name()))
