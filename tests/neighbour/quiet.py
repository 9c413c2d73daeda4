"""The chain that asks for little, and how long it waits: polls, previews, webhook deliveries, runs."""

import time
from collections import defaultdict
from typing import Any

import httpx2

from tests.neighbour.worst import LATER
from tests.receiver import Receiver
from tests.service import Longshore, export_body

POLLS, POLL_PAUSE_SECONDS = 10, 0.02
SEGMENT = {
    "entity": "people",
    "index": "wallet-ledger",
    "join": "all",
    "rules": [
        {"field_name": "timestamp", "field_type": "date", "operator": "is_after_date", "start_date": "2026-01-01"}
    ],
}
MEASURES = ("poll", "preview", "delivery", "run")
CREATED = "select 'msg_' || id as id, extract(epoch from created_at)::float8 as at from longshore.webhook_deliveries"

Times = dict[str, list[float]]
"""Seconds by measure."""


class QuietChain:
    """A client of one chain with one webhook, which does one thing after the other."""

    def __init__(self, service: Longshore, chain: int, receiver: Receiver) -> None:
        self.chain = chain
        self.turns = 0
        self._service = service
        self._http = service.client(chain=chain)
        self._receiver = receiver
        hook = {"chain": chain, "url": receiver.url, "events": ["task.done"]}
        self._webhook = self._answer("POST", "/webhooks", 201, json=hook).json()["id"]
        self._task = self._answer("POST", "/tasks", 201, json=export_body(chain=chain, once=LATER)).json()["id"]

    def measure(self, seconds: float) -> Times:
        """Take turns for so many seconds, at least one, and return how long each thing took.

        poll: from the request to its answer. preview: the same. run: from the request that creates an export until a
        long poll has answered that it is `DONE`. delivery: from the event, in the database, until it was received.
        """
        times: Times = defaultdict(list)
        arrived: dict[str, float] = {}
        until = time.monotonic() + seconds
        while not arrived or time.monotonic() < until:
            self.turns += 1
            for _ in range(POLLS):
                times["poll"].append(self._timed(self._poll))
                time.sleep(POLL_PAUSE_SECONDS)
            times["preview"].append(self._timed(self._preview))
            times["run"].append(self._timed(self._run))
            received = self._receiver.next()
            arrived[received.headers["webhook-id"]] = received.at
        created = {row["id"]: row["at"] for row in self._service.sql(CREATED + " where webhook_id = $1", self._webhook)}
        times["delivery"] = [at - created[id] for id, at in arrived.items()]
        return times

    def close(self) -> None:
        """Delete the webhook and the tasks, and close the client."""
        self._answer("DELETE", f"/webhooks/{self._webhook}", 204)
        self._service.sql("delete from longshore.tasks where chain_id = $1 and id >= $2", self.chain, self._task)
        self._http.close()

    def _poll(self) -> None:
        self._answer("GET", f"/tasks/{self._task}", 200)

    def _preview(self) -> None:
        self._answer("POST", "/segments/preview", 200, json={"segment": {**SEGMENT, "chain_id": self.chain}})

    def _run(self) -> None:
        answer = self._answer("POST", "/tasks", 201, json=export_body(chain=self.chain))
        path = f"/tasks/{answer.json()['id']}"
        while answer.json()["state"]["code"] != "DONE":
            assert answer.json()["state"]["code"] != "ERROR", answer.text
            answer = self._answer("GET", path, 200, 304, params={"wait": 60}, headers={"If-None-Match": tag_of(answer)})
            if answer.status_code == 304:
                answer = self._answer("GET", path, 200)

    def _answer(self, method: str, path: str, *expected: int, **more: Any) -> httpx2.Response:
        answer = self._http.request(method, path, **more)
        assert answer.status_code in expected, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    @staticmethod
    def _timed(act: Any) -> float:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began


def tag_of(answer: httpx2.Response) -> str:
    """Return the entity tag of an answer."""
    return str(answer.headers["ETag"])
