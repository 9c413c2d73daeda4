"""The work of the soak's clients, at random: exports of all kinds, repeating tasks, cancels, deletes, downloads, polls.

A client takes it that a process of the API may be gone, and asks another one. Whatever is answered has to be right.
"""

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx2

INDEXES = ("wallet-ledger", "transactions", "users", "vouchers", "products", "product-variants")
FORMATS = ("csv", "json", "jsonl", "parquet", "xlsx")
COMPRESSIONS = (None, None, "gzip", "zstd")
POLL = 0.2  # seconds
TIMEOUT = 60.0  # seconds
MOST_RUNS = 3  # of a repeating task, which has one a minute


class Load(threading.Thread):
    """One client of one chain. `failure` is what went wrong, if anything did."""

    def __init__(self, addresses: Sequence[str], token: str, chain: int, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._addresses = addresses
        self._headers = {"Authorization": f"Bearer {token}"}
        self._chain = chain
        self._chance = chance
        self._repeating: list[int] = []
        self.over = threading.Event()
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with httpx2.Client(headers=self._headers, timeout=TIMEOUT) as self._http:
                while not self.over.is_set():
                    self._chance.choices(
                        (self._export, self._again, self._cancel, self._look, self._repeat), (12, 2, 2, 4, 1)
                    )[0]()
                while self._repeating:
                    self._end_repeating()
        except BaseException as error:
            self.failure = error

    def _export(self) -> None:
        task = self._create(once="2026-05-26T12:00:00Z")
        self._see_through(task)
        if self._chance.random() < 0.9:
            self._asked("DELETE", f"/tasks/{task}", 204, 404)  # 404: the answer to the first one was lost
            self.done["deletes"] += 1

    def _again(self) -> None:
        task = self._create(once="2026-05-26T12:00:00Z")
        self._see_through(task)
        for _ in range(2):
            self._asked("POST", f"/tasks/{task}/execute", 200, 409)
            self._see_through(task)
        self.done["repetitions"] += 1

    def _cancel(self) -> None:
        task = self._create(once="2026-05-26T12:00:00Z")
        time.sleep(self._chance.uniform(0, 1))
        self._asked("POST", f"/tasks/{task}/cancel", 200, 409)  # 409: it had ended
        found = self._until_ended(task)
        assert found["state"]["code"] in ("DONE", "ERROR"), found
        self.done["cancels"] += 1

    def _look(self) -> None:
        tasks = self._asked("GET", "/tasks", 200, params={"limit": self._chance.choice((5, 25, 100))}).json()
        assert {task["chain"] for task in tasks} <= {self._chain}
        for task in self._chance.sample(tasks, min(3, len(tasks))):
            self._asked("GET", f"/tasks/{task['id']}/progress", 200, 404)  # 404: another client deleted it
            self._asked("GET", f"/tasks/{task['id']}/runs", 200, 404)
        self.done["looks"] += 1

    def _repeat(self) -> None:
        self._repeating.append(self._create(cron="* * * * *"))
        if len(self._repeating) > MOST_RUNS:
            self._end_repeating()

    def _end_repeating(self) -> None:
        task = self._repeating.pop(0)
        self._asked("POST", f"/tasks/{task}/cancel", 200, 409)
        self._asked("DELETE", f"/tasks/{task}", 204, 404)
        self.done["schedules"] += 1

    def _create(self, **trigger: Any) -> int:
        index, format = self._chance.choice(INDEXES), self._chance.choice(FORMATS)
        target = {"action": "export", "export_index": index, "export_format": format}
        if format != "xlsx" and (compression := self._chance.choice(COMPRESSIONS)):
            target["compression"] = compression
        if index == "wallet-ledger" and self._chance.random() < 0.5:
            rule = {"field_name": "timestamp", "field_type": "date", "operator": "is_after_date"}
            rule["start_date"] = self._chance.choice(("2026-05-20", "2026-01-01", "2025-01-01"))
            segment = {"entity": "people", "index": index, "join": "all", "chain_id": self._chain, "rules": [rule]}
            trigger["segment"] = segment
        body = {"chain": self._chain, "desc": "a soak's", "target": target, "trigger": trigger}
        key = {"Idempotency-Key": uuid4().hex}
        task: int = self._asked("POST", "/tasks", 201, json=body, headers=key).json()["id"]
        self.done[format] += 1
        return task

    def _see_through(self, task: int) -> None:
        """Wait for a task to end, and check its result against what its run recorded."""
        found = self._until_ended(task)
        if found["state"]["code"] == "ERROR":
            reasons = [entry["msg"] for entry in found["logs"]]
            assert "worker lost, given up after 3 failures" in reasons, reasons
            self.done["given up"] += 1
            return
        run = self._asked("GET", f"/tasks/{task}/runs", 200).json()[0]
        while True:
            address = self._asked("GET", f"/tasks/{task}/download_url", 200).json()["url"]
            try:
                content = self._http.get(address)
            except httpx2.TransportError:
                continue
            assert content.status_code == 200, content.text
            assert hashlib.sha256(content.content).hexdigest() == run["sha256"]
            self.done["downloads"] += 1
            return

    def _until_ended(self, task: int) -> dict[str, Any]:
        while True:
            found: dict[str, Any] = self._asked("GET", f"/tasks/{task}", 200, params={"log_limit": 100}).json()
            if found["state"]["code"] in ("DONE", "ERROR"):
                return found
            time.sleep(POLL)

    def _asked(self, method: str, path: str, *good: int, **options: Any) -> httpx2.Response:
        """The answer to a request that is made until there is one."""
        while True:
            try:
                answer = self._http.request(method, self._chance.choice(self._addresses) + path, **options)
            except httpx2.TransportError:
                self.done["requests without an answer"] += 1
                time.sleep(POLL)
                continue
            self.done["requests"] += 1
            if answer.status_code == 503:  # it is about to stop
                time.sleep(float(answer.headers["Retry-After"]))
                continue
            assert answer.status_code in good, f"{method} {path}: {answer.status_code} {answer.text}"
            return answer
