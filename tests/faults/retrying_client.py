"""A client that exports again and again over a network that is cut, and checks every answer.

A request is repeated while no answer comes, and after a 503 that says when to try again. Any other answer has to be
right: of the requested task, with a log that only grows, and the state of the log's last change.
"""

import asyncio
import re
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx2

from tests.faults.held import ROWS, assert_complete, messages
from tests.service import export_body

POLL = 0.5  # seconds
TIMEOUT = 4.0  # seconds
CHANGE = re.compile(r"(?:READY|INPROGRESS) -> ([A-Z]+)")


class RetryingClient:
    """One client. `answers` counts what came, by status, or by the kind of failure."""

    def __init__(
        self, http: httpx2.AsyncClient, answers: Counter[str], index: str = "wallet-ledger", rows: int = ROWS
    ) -> None:
        self._http = http
        self._answers = answers
        self._rows = rows
        self._body = export_body()
        self._body["target"]["export_index"] = index
        self.finished: list[dict[str, Any]] = []
        """The tasks that it has made and seen to be DONE, as it saw them last."""

    async def export(self) -> None:
        """Create an export, see it to its end, and check its result."""
        key = {"Idempotency-Key": uuid4().hex}
        created = await self.request("POST", "/tasks", json=self._body, headers=key)
        seen = created
        while seen["state"]["code"] != "DONE":
            await asyncio.sleep(POLL)
            task = await self.task(created["id"])
            assert messages(task)[: len(seen["logs"])] == messages(seen), "the log has changed"
            seen = task
        run = (await self.request("GET", f"/tasks/{created['id']}/runs"))[0]
        assert_complete(seen, run, await self._downloaded(created["id"]), self._rows)
        self.finished.append(seen)

    async def task(self, id: int) -> dict[str, Any]:
        """A task as it is now."""
        task: dict[str, Any] = await self.request("GET", f"/tasks/{id}", params={"log_limit": 1000})
        assert task["id"] == id
        changes = [match[1] for text in messages(task) if (match := CHANGE.fullmatch(text))]
        assert task["state"]["code"] == (changes or ["READY"])[-1], task
        assert changes in ([], ["INPROGRESS"], ["INPROGRESS", "DONE"]), task
        return task

    async def request(self, method: str, path: str, **options: Any) -> Any:
        """The answer to a request that is made until there is one."""
        while True:
            try:
                answer = await self._http.request(method, path, timeout=TIMEOUT, **options)
            except httpx2.TransportError as error:
                self._answers[type(error).__name__] += 1
                await asyncio.sleep(POLL)
                continue
            self._answers[str(answer.status_code)] += 1
            if answer.status_code == 503:
                assert answer.json()["type"] in ("/problems/unavailable", "/problems/store-unavailable"), answer.text
                await asyncio.sleep(float(answer.headers["Retry-After"]))
                continue
            assert answer.status_code == (201 if method == "POST" else 200), answer.text
            return answer.json()

    async def _downloaded(self, id: int) -> bytes:
        while True:
            address = (await self.request("GET", f"/tasks/{id}/download_url"))["url"]
            try:
                async with httpx2.AsyncClient() as http:
                    answer = await http.get(address, timeout=TIMEOUT)
            except httpx2.TransportError as error:
                self._answers[f"store: {type(error).__name__}"] += 1
                await asyncio.sleep(POLL)
                continue
            self._answers[f"store: {answer.status_code}"] += 1
            assert answer.status_code == 200, answer.text
            return answer.content
