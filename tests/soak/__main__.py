"""`make soak`: half an hour of everything at once, with kills; memory, connections and what is left over are judged.

Of the two workers and the two processes of the API, one each is killed or told to stop again and again; the others are
restarted once, after a sixth of the time, and then have to live on without growing.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from subprocess import Popen

from longshore.access.tokens import Level
from longshore.demo.seed import SMALLER_CHAINS, seed
from longshore.worker.cleanup import ACTION, SERVICE
from tests.service import CHAIN, Longshore, database_in, ended, free_port, in_own_loop, stored_names
from tests.soak.figures import Figures
from tests.soak.load import Load

SECONDS = 60 * float(os.environ.get("SOAK_MINUTES", "30"))
SEED = int(os.environ.get("SOAK_SEED", random.randrange(2**32)))
ROWS = 200_000  # of chain 1764, a tenth in each of the others
CLIENTS = 2  # of each chain
PAUSE = (5.0, 30.0)  # seconds between two disturbances
GRACE = 60.0  # seconds that what runs has to end once the load is over

WORKER_TASKS, EXPORT_CONNECTIONS = 4, 2
LISTENING = {"worker": 3, "api": 1}  # connections of a process that wait for notifications
# What docs/deploy.md promises. A process that was killed may still have its own when the next one has them too.
PROMISED = {
    "longshore export": 3 * (WORKER_TASKS + EXPORT_CONNECTIONS - 1),
    "longshore api": 3 * 10,
    "longshore preview": 3 * 2,
    "listening": 3 * (LISTENING["worker"] + LISTENING["api"]),
}
OF_A_WORKER = WORKER_TASKS + 5

STEADY, SHAKEN = ("worker 1", "api 1"), ("worker 2", "api 2")

NAMED = "select location from longshore.runs where location is not null"
UNENDED = """
select id, state, attempt, parked from longshore.tasks
where (state in ('READY', 'INPROGRESS') or parked) and coalesce(due_at <= now(), true)
"""
OTHERS_IN_ERROR = """
select t.id, array_agg(l.msg order by l.seq) as log
from longshore.tasks t
join longshore.task_logs l on l.task_id = t.id
where t.state = 'ERROR'
group by t.id
having not bool_or(l.msg like 'cancelled by %' or l.msg like 'worker lost, given up %')
"""
QUEUED = "select status, dedupe_key, created, updated, heartbeat from longshore.pgqueuer"
CLEANUP = "select id from longshore.tasks where chain_id = $1 and action = $2"
CONNECTED = (
    "select application_name, count(*) from pg_stat_activity where application_name like 'longshore%' group by 1"
)


class ServiceProcesses:
    """The processes of the service by name; those of the API have a port each."""

    def __init__(self, service: Longshore) -> None:
        self._service = service
        self._ports = {name: free_port() for name in (*STEADY, *SHAKEN) if name.startswith("api")}
        self.processes: dict[str, Popen[bytes]] = {}
        self.addresses = [f"http://127.0.0.1:{port}" for port in self._ports.values()]

    def start(self, name: str) -> None:
        """Start a process, and wait for it to answer if it is one of the API."""
        if name.startswith("api"):
            self._service.port = self._ports[name]
            self._service.address = f"http://127.0.0.1:{self._service.port}"
            self.processes[name] = self._service.start_api()
        else:
            self.processes[name] = self._service.start("worker")

    def disturb(self, name: str, how: signal.Signals) -> None:
        """End a process by a signal, and start it again."""
        process = self.processes[name]
        assert process.poll() is None, f"{name} ended by itself with {process.returncode}"
        process.send_signal(how)
        assert process.wait(30) == (0 if how == signal.SIGTERM else -how), f"{name} ended with {process.returncode}"
        self.start(name)

    def pids(self) -> dict[str, int]:
        """The processes that run."""
        return {name: process.pid for name, process in tuple(self.processes.items())}


def soak(service: Longshore) -> list[str]:
    """Run for SECONDS, and give what was not as it has to be."""
    chance = random.Random(SEED)
    processes = ServiceProcesses(service)
    for name in (*STEADY, *SHAKEN):
        processes.start(name)
    loads = []
    for chain in (CHAIN, *SMALLER_CHAINS):
        for _ in range(CLIENTS):
            token = service.token(Level.WRITE, chain)
            loads.append(Load(processes.addresses, token, chain, random.Random(chance.random())))
    figures = Figures(service, processes.pids, lambda: sum((load.done for load in loads), Counter()))
    threads: list[Load | Figures] = [*loads, figures]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    restarted = False
    while time.monotonic() - began < SECONDS and not any(thread.failure for thread in threads):
        time.sleep(min(chance.uniform(*PAUSE), SECONDS / 6))
        if not restarted and time.monotonic() - began > SECONDS / 6:
            restarted = True
            for name in STEADY:
                processes.disturb(name, signal.SIGTERM)
        else:
            processes.disturb(chance.choice(SHAKEN), chance.choice((signal.SIGKILL, signal.SIGTERM)))
    seconds = time.monotonic() - began
    violations = [*_ended(loads), *_settled(service)]
    figures.over.set()
    figures.join()
    figures.tell(figures.measure())
    violations += [f"the figures: {figures.failure!r}"] if figures.failure else []
    return [*violations, *figures.grown(seconds), *_connections(figures), *_left_over(service)]


def _ended(loads: list[Load]) -> list[str]:
    for load in loads:
        load.over.set()
    for load in loads:
        load.join(GRACE)
    violations = [f"a client: {load.failure!r}" for load in loads if load.failure]
    return violations + [f"a client still waits: {load.done}" for load in loads if load.is_alive()]


def _settled(service: Longshore) -> list[str]:
    deadline = time.monotonic() + GRACE
    while unended := service.sql(UNENDED):
        if time.monotonic() > deadline:
            return [f"stuck: {row}" for row in unended]
        time.sleep(0.5)
    return [f"in ERROR: {row}" for row in service.sql(OTHERS_IN_ERROR)]


def _connections(figures: Figures) -> list[str]:
    print(f"at most, connections {dict(figures.connections)}")
    promised = {name: PROMISED.get(name, OF_A_WORKER) for name in figures.connections}
    return [
        f"{count} connections of {name!r}, and {promised[name]} were promised"
        for name, count in figures.connections.items()
        if count > promised[name]
    ]


def _left_over(service: Longshore) -> list[str]:
    """Let the service clean up as it does an hour later, stop it, and give what is left that should not be."""
    results = service.data / "results"
    for folder in results.glob("*/*/*"):
        os.utime(folder, (0, 0))
    with service.client(Level.ADMIN, SERVICE) as client:
        task = service.sql(CLEANUP, SERVICE, ACTION)[0]["id"]
        client.post(f"/tasks/{task}/execute")
        print("cleanup: " + "; ".join(entry["msg"] for entry in ended(client, task)["logs"][-3:]))
    named = {name for row in service.sql(NAMED) for name in stored_names(row["location"])}
    files = {str(path.relative_to(results)) for path in service.files()}
    violations = [f"nothing names {name}" for name in sorted(files - named)]
    violations += [f"{name} is gone" for name in sorted(named - files)]
    deadline = time.monotonic() + GRACE  # a message to a task that was deleted ends when it is delivered
    while (queued := service.sql(QUEUED)) and time.monotonic() < deadline:
        time.sleep(0.5)
    service.stop()
    connected = service.sql(CONNECTED)
    print(f"{len(files)} files, {len(queued)} messages, {len(connected)} kinds of connections are left")
    return (
        violations
        + ([f"{queued} messages are left"] if queued else [])
        + [f"still connected: {row}" for row in connected]
    )


def main() -> int:
    """Soak, say what was found, and give the exit code."""
    print(f"SOAK_SEED={SEED}, {SECONDS / 60:.0f} minutes")
    with tempfile.TemporaryDirectory(prefix="longshore-soak-") as folder, database_in(Path(folder)) as url:
        in_own_loop(seed(url, ROWS, lambda _: None))
        settings = {"worker_tasks": str(WORKER_TASKS), "export_connections": str(EXPORT_CONNECTIONS)}
        service = Longshore(Path(folder), url, heartbeat_timeout="5", **settings)
        try:
            violations = soak(service)
        finally:
            service.stop()
    for violation in violations:
        print(f"FAULT: {violation}")
    print("failed" if violations else "passed")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
