"""The protocol's own Python client, as a process that the tests of a module share."""

import json
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from longshore.access.tokens import Level, Scope
from tests.service import CHAIN, Longshore

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "sharing" / "bin" / "python"


class ClientError(Exception):
    """An error of the client; `kind` is its class."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class PythonClient:
    """A process that answers what `tests.sharing.reader` knows, one question at a time."""

    def __init__(self) -> None:
        assert PYTHON.exists(), "the client is not there; `make sharing` installs it"
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [PYTHON, Path(__file__).with_name("reader.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, do: str, **question: Any) -> Any:
        """Return what the client found. Raises ClientError."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"do": do, **question}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise ClientError(answer["error"], answer["text"])
        return answer["found"]

    def rows(self, profile: Path, table: str, **options: Any) -> list[dict[str, Any]]:
        """Return the rows of a table, with the types that they have in the source."""
        columns = self.ask("load", profile=str(profile), table=table, **options)
        columns.pop("")
        values = [[typed(value) for value in column] for column in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def typed(value: Any) -> Any:
    """Return a cell of `tests.sharing.reader` as a value; times in UTC."""
    match value:
        case {"struct": members}:
            return {name: typed(inner) for name, inner in members.items()}
        case {"decimal": text}:
            return Decimal(text)
        case {"time": text}:
            return datetime.fromisoformat(text).astimezone(UTC)
        case {"date": text}:
            return date.fromisoformat(text)
        case {"float": text}:
            return float(text)
        case list():
            return [typed(inner) for inner in value]
    return value


@pytest.fixture(scope="module")
def python_client() -> Iterator[PythonClient]:
    client = PythonClient()
    yield client
    client.close()


def profile_file(
    service: Longshore, folder: Path, chain: int = CHAIN, scope: Scope | None = None, name: str = "longshore.share"
) -> Path:
    """Write the profile file of a new read token."""
    with service.client(Level.READ, chain, scope) as client:
        answer = client.get("/delta-sharing/profile")
    assert answer.status_code == 200, answer.text
    file = folder / name
    file.write_bytes(answer.content)
    return file
