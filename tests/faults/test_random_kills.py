"""Workers that are killed at any moment, again and again: every task ends, once, and nothing is left over."""

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2

from longshore.database.connect import Pool
from longshore.results.local import LocalStore
from longshore.worker.cleanup import Cleanup
from tests.faults.attempts import with_pool
from tests.faults.conftest import Create
from tests.faults.held import assert_whole, messages
from tests.service import Longshore, ended, stored_names

# `make faults` asks for more.
TASKS, KILLS = int(os.environ.get("FAULT_TASKS", "12")), int(os.environ.get("FAULT_KILLS", "6"))
WORKERS = 2
TIMEOUT_SECONDS = 60 + 3.0 * TASKS

LOST = r"(worker lost, attempt \d;attempt \d begins;)"
GOOD = re.compile(rf"READY -> INPROGRESS;{LOST}{{0,2}}success;INPROGRESS -> DONE")
GIVEN_UP = re.compile(rf"READY -> INPROGRESS;{LOST}{{2}}worker lost, given up after 3 failures;INPROGRESS -> ERROR")

LOCATIONS = "select location from longshore.runs where location is not null"


class ConcurrentWriteDetector(threading.Thread):
    """Looks, as long as it may, whether any task is being written twice at once."""

    def __init__(self, results: Path) -> None:
        super().__init__()
        self._results = results
        self.over = threading.Event()
        self.most: Counter[str] = Counter()

    def run(self) -> None:
        while not self.over.wait(0.02):
            written = (
                Path(folder).parent.name
                for folder, _, names in os.walk(self._results)  # ignores files that vanish meanwhile
                if any(name.endswith(".part") for name in names)
            )
            for task, count in Counter(written).items():
                self.most[task] = max(self.most[task], count)


def test_each_task_ends_once_and_leaves_nothing_behind_after_random_kills(
    service: Longshore, client: httpx2.Client, create: Create
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    detector = ConcurrentWriteDetector(service.data / "results")
    detector.start()
    try:
        workers = [service.start("worker") for _ in range(WORKERS)]
        tasks = [create() for _ in range(TASKS)]
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.2, 1.5))
            place = chance.randrange(WORKERS)
            workers[place].kill()
            workers[place].wait()
            workers[place] = service.start("worker")
        found = [ended(client, task, TIMEOUT_SECONDS) for task in tasks]
    finally:
        detector.over.set()
        detector.join()
    logs = [";".join(messages(task)) for task in found]
    assert all(GOOD.fullmatch(log) or GIVEN_UP.fullmatch(log) for log in logs), logs
    assert len(detector.most) >= TASKS // 2, "the detector has seen nothing"
    assert max(detector.most.values()) == 1
    whole = [task for task in found if task["state"]["code"] == "DONE"]
    assert len(whole) >= TASKS * 2 // 3
    for task in chance.sample(whole, min(5, len(whole))):
        assert_whole(service, client, task)
    for worker in workers:
        worker.terminate()
        assert worker.wait(30) in (0, -signal.SIGTERM)  # the last one may not have begun yet
    assert swept(service) == {name for row in service.sql(LOCATIONS) for name in stored_names(row[0])}


def swept(service: Longshore) -> set[str]:
    """Return the files in the store after a cleanup an hour later."""
    results = service.data / "results"
    for folder in results.glob("*/*/*"):
        os.utime(folder, (0, 0))

    async def sweep(pool: Pool) -> None:
        begun: Any = None  # it does not matter to the sweep who asks for it
        await Cleanup(pool, LocalStore(results), timedelta(days=365)).run(begun)

    with_pool(service, sweep)
    return {str(path.relative_to(results)) for path in service.files()}
