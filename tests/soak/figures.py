"""The measures of the soak: the memory of every process, connections, tasks, the queue, files; and their limits."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import NamedTuple

import psutil

from tests.service import Longshore

EVERY = 2.0  # seconds
REPORT_SECONDS = 60.0

# A worker's memory goes up and down with the formats that it writes just then, and an allocator returns it in pieces.
# The medians of two thirds still differ by little; what leaks grows with the work, and the last third has as much of it
# as the one before.
GROWTH, MOST_MEGABYTES = 1.10, 15.0

CONNECTIONS = """
select regexp_replace(application_name, '^longshore (longshore_|ch_).*', 'listening') as name, count(*) as count
from pg_stat_activity
where application_name like 'longshore %'
group by 1
"""

STANDING = """
select (select coalesce(jsonb_object_agg(state, count), '{}')::text
        from (select state, count(*) from longshore.tasks group by state) t) as tasks,
       (select count(*) from longshore.pgqueuer) as queue
"""


class Process(NamedTuple):
    """One process, and what it is."""

    name: str
    pid: int


class Figures(threading.Thread):
    """Measures until it is told that it is over."""

    def __init__(
        self, service: Longshore, processes: Callable[[], dict[str, int]], done: Callable[[], Counter[str]]
    ) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._processes = processes
        self._done = done
        self._began = time.monotonic()
        self.over = threading.Event()
        self.memory: defaultdict[Process, list[tuple[float, float]]] = defaultdict(list)
        """Seconds since the beginning, and megabytes."""
        self.connections: defaultdict[str, int] = defaultdict(int)
        """The most that there were at a time, by what they are for."""
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            reported_at = 0.0
            while not self.over.wait(EVERY):
                connections = self.measure()
                if time.monotonic() - reported_at >= REPORT_SECONDS:
                    reported_at = time.monotonic()
                    self.tell(connections)
        except BaseException as error:
            self.failure = error

    def measure(self) -> dict[str, int]:
        """Measure once, and give the connections by what they are for."""
        now = time.monotonic() - self._began
        for name, pid in self._processes().items():
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(pid)
                for process in (parent, *parent.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        size = process.memory_info().rss / 1e6
                        self.memory[Process(name, process.pid)].append((now, size))
        found = {row["name"]: row["count"] for row in self._service.sql(CONNECTIONS)}
        for name, count in found.items():
            self.connections[name] = max(self.connections[name], count)
        return found

    def tell(self, connections: dict[str, int]) -> None:
        """Print a line of how things are."""
        now = time.monotonic() - self._began
        newest = {process: sizes[-1] for process, sizes in self.memory.items() if now - sizes[-1][0] < 3 * EVERY}
        memory = ", ".join(f"{name} {pid}: {size:.0f}" for (name, pid), (_, size) in sorted(newest.items()))
        standing = self._service.sql(STANDING)[0]
        print(
            f"{now / 60:.0f} min; MB {memory}; connections {sum(connections.values())}; tasks {standing['tasks']};"
            f" queue {standing['queue']}; files {len(self._service.files())}; {dict(self._done())}",
            flush=True,
        )

    def grown(self, seconds: float) -> list[str]:
        """The processes that lived through the last two thirds of the time and had more in the last than before."""
        violations = []
        for process, sizes in self.memory.items():
            before = [size for at, size in sizes if seconds / 3 <= at < seconds * 2 / 3]
            after = [size for at, size in sizes if seconds * 2 / 3 <= at < seconds]
            if sizes[0][0] > seconds / 3 or sizes[-1][0] < seconds - 5 * EVERY:
                continue
            allowed = max(median(before) * GROWTH, median(before) + MOST_MEGABYTES)
            print(f"{process.name} {process.pid}: {median(before):.1f} MB, then {median(after):.1f} MB")
            if median(after) > allowed:
                violations.append(f"{process.name} {process.pid}: more than {allowed:.1f} MB")
        return violations
