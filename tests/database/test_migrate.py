"""Migrations while another version serves, two at once, and schemas of other versions."""

import asyncio
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

import longshore
from longshore.database import migrate
from longshore.database.connect import connected_to_read
from longshore.database.embedded import embedded_server
from longshore.errors import LongshoreError
from tests.command import environment, failed, run
from tests.service import Longshore, ended, export_body, free_port, in_own_loop

MIGRATIONS = Path(migrate.__file__).with_name("migrations")
SQUAWK = Path(sys.executable).with_name("squawk")
NOT_ASKED = (
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "require-lock-timeout",  # which the runner sets
    "require-statement-timeout",  # what rewrites or reads a table is refused below
)
# In tables that the same migration makes, an index or a foreign key makes nobody wait.
ALLOWED_IN_INITIAL = ("require-concurrent-index-creation", "adding-foreign-key-constraint")

LATER = """
alter table longshore.tasks add column later_text text, add column later_count integer not null default 0;
create table longshore.later (task_id bigint primary key references longshore.tasks on delete cascade);
insert into longshore.later select id from longshore.tasks;
"""


def refused(*files: Path, allowed: tuple[str, ...] = ()) -> str:
    """Return the findings of squawk in migration files; empty if there are none."""
    command = [str(SQUAWK), "--pg-version", "15", "--assume-in-transaction", "--reporter", "gcc"]
    done = subprocess.run(
        [*command, "--exclude", ",".join((*NOT_ASKED, *allowed)), *map(str, files)], capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    assert (done.returncode == 1) == bool(done.stdout.strip()), done.stderr
    return done.stdout


def test_no_migration_takes_something_from_under_the_version_before() -> None:
    initial, *later = sorted(MIGRATIONS.glob("*.sql"))
    assert initial.name == "0001_initial.sql"
    assert not refused(initial, allowed=ALLOWED_IN_INITIAL)
    if later:
        assert not refused(*later)


@pytest.mark.parametrize(
    "statement",
    [
        "alter table longshore.tasks drop column watermark",
        "alter table longshore.tasks rename column watermark to marker",
        "alter table longshore.tasks rename to jobs",
        "alter table longshore.tasks alter column watermark type json using watermark::json",
        "alter table longshore.tasks alter column watermark set not null",
        "alter table longshore.tasks add column later text not null",
        "alter table longshore.tasks add column later uuid not null default gen_random_uuid()",
        "alter table longshore.tasks add constraint later check (run > 0)",
        "create index later on longshore.tasks (watermark)",
        "drop table longshore.segments",
        "drop function longshore.notify_task()",
    ],
)
def test_migration_that_breaks_the_version_before_or_blocks_its_writers_is_refused(
    tmp_path: Path, statement: str
) -> None:
    file = tmp_path / "0999_later.sql"
    file.write_text(statement + ";\n")
    assert refused(file)


def test_migration_that_only_adds_is_not_refused(tmp_path: Path) -> None:
    file = tmp_path / "0999_later.sql"
    file.write_text(LATER)
    assert not refused(file)


class Later:
    """A later version of Longshore: this one with one more migration."""

    def __init__(self, folder: Path) -> None:
        package = folder / "later" / "longshore"
        shutil.copytree(Path(longshore.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / "database" / "migrations" / "0999_later.sql").write_text(LATER)
        self._folder = folder

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start `longshore …` of that version."""
        variables = environment(**settings) | {"PYTHONPATH": str(self._folder / "later")}
        command = [sys.executable, "-m", "longshore", *arguments]
        return subprocess.Popen(
            command, cwd=self._folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )


async def fetch_value(url: str, question: str) -> Any:
    """Return the single value of a query."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


@contextmanager
def in_use(url: str, statement: str = "select count(*) from longshore.tasks") -> Iterator[None]:
    """Keep a transaction open that has run a statement."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(url))
    try:
        loop.run_until_complete(connection.execute(f"begin; {statement}"))
        yield
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


@contextmanager
def exporting(service: Longshore) -> Iterator[list[float]]:
    """A client that creates tasks and polls them until they are done, in a loop; the seconds of each request."""
    over = threading.Event()
    seconds: list[float] = []
    violations: list[BaseException] = []

    def go_on() -> None:
        def timed(response: httpx2.Response) -> None:
            seconds.append(time.monotonic() - response.request.extensions["begun"])

        def begun(request: httpx2.Request) -> None:
            request.extensions["begun"] = time.monotonic()

        try:
            with service.client() as client:
                client.event_hooks = {"request": [begun], "response": [timed]}
                while not over.is_set():
                    created = client.post("/tasks", json=export_body())
                    assert created.status_code == 201, created.text
                    task = ended(client, created.json()["id"])
                    assert task["state"]["code"] == "DONE", task
        except BaseException as violation:
            violations.append(violation)

    client = threading.Thread(target=go_on)
    client.start()
    try:
        yield seconds
    finally:
        over.set()
        client.join(60)
    assert not violations, violations


def test_this_version_serves_while_and_after_a_later_one_migrates_and_only_refuses_to_start_again(
    new_service: Callable[..., Longshore], tmp_path: Path
) -> None:
    service = new_service(rows=1000)
    service.start("worker")
    service.start_api()
    later = Later(tmp_path)
    with exporting(service) as seconds:
        while len(seconds) < 20:
            time.sleep(0.05)
        with in_use(service.url):
            migrating = later.start("migrate", database_url=service.url)
            # Statements of the service wait behind one that waits for a lock, so the migration must retry.
            time.sleep(migrate.LOCK_TIMEOUT_SECONDS * 7)
            assert migrating.poll() is None
            before = len(seconds)
            assert before > 20
        output, _ = migrating.communicate(timeout=60)
        assert (migrating.returncode, output) == (0, "0999 later\n")
        while len(seconds) < before + 20:
            time.sleep(0.05)
    assert max(seconds) < migrate.LOCK_TIMEOUT_SECONDS * 7, "a request waited for as long as the migration did"
    assert service.sql("select count(*) from longshore.tasks where state = 'ERROR'")[0][0] == 0
    assert service.sql("select count(*) from longshore.later")[0][0] > 0

    for command in ("api", "worker", "migrate"):
        again = run(command, folder=tmp_path, database_url=service.url, port=str(free_port()))
        failed(again, "newer than this version", "install the Longshore that made it")
    service.stop()
    port = str(free_port())
    process = later.start("api", database_url=service.url, port=port, data=str(service.data))
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.terminate()
        process.communicate(timeout=30)


async def pending(url: str) -> list[str]:
    """The migrations that would run on the database at an address."""
    async with connected_to_read(url, "test") as connection:
        return await migrate.pending(connection)


def test_two_migrations_at_once_take_turns(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "data") as url, ExitStack() as stack:
        held = ExitStack()
        held.enter_context(in_use(url, f"select pg_advisory_lock({migrate.MIGRATION_LOCK})"))
        command = [sys.executable, "-m", "longshore", "migrate"]

        def waiting() -> int:
            question = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            return int(in_own_loop(fetch_value(url, question)))

        both = [
            stack.enter_context(
                subprocess.Popen(
                    command, cwd=tmp_path, env=environment(database_url=url), stdout=-1, stderr=-1, text=True
                )
            )
            for _ in range(2)
        ]

        deadline = time.monotonic() + 60
        while waiting() < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        held.close()
        message = sorted(process.communicate(timeout=60) for process in both)
        assert [process.returncode for process in both] == [0, 0], message
        assert [errors for _, errors in message] == ["", ""]
        assert message[0][0].splitlines()[0] == "0001 initial"
        assert message[1][0] == "nothing to do\n"


def test_migration_of_a_table_that_stays_in_use_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "MAX_LOCK_WAIT_SECONDS", 1.0)
    with embedded_server(tmp_path / "data") as url:
        all_of_them = migrate.all_migrations()
        in_own_loop(migrate.migrate(url))
        monkeypatch.setattr(migrate, "all_migrations", lambda: {**all_of_them, 999: ("later", LATER)})
        with in_use(url), pytest.raises(LongshoreError, match="longshore migrate"):
            in_own_loop(migrate.migrate(url))
        assert in_own_loop(pending(url)) == ["0999 later"]
        assert in_own_loop(migrate.migrate(url)) == ["0999 later"]


def test_failed_migration_leaves_nothing_and_those_before_it_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded_server(tmp_path / "data") as url:
        faulty = {
            998: ("good", "create table longshore.good ()"),
            999: ("bad", "create table longshore.bad (); no sql"),
        }
        all_of_them = migrate.all_migrations()
        monkeypatch.setattr(migrate, "all_migrations", lambda: {**all_of_them, **faulty})
        with pytest.raises(asyncpg.PostgresSyntaxError):
            in_own_loop(migrate.migrate(url))
        # The queue comes last, so it is missing too.
        assert in_own_loop(pending(url)) == ["0999 bad", "the job queue"]
        monkeypatch.setattr(migrate, "all_migrations", lambda: all_of_them | {998: faulty[998]})
        with pytest.raises(LongshoreError, match="longshore migrate"):
            in_own_loop(migrate.check_database(url))
        assert in_own_loop(migrate.migrate(url)) == ["the job queue"]
        in_own_loop(migrate.check_database(url))


def test_migration_whose_connection_is_lost_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedded_server(tmp_path / "data") as url:
        all_of_them = migrate.all_migrations()
        ending = {999: ("ending", "select pg_terminate_backend(pg_backend_pid())")}
        monkeypatch.setattr(migrate, "all_migrations", lambda: {**all_of_them, **ending})
        with pytest.raises(asyncpg.ConnectionDoesNotExistError, match="administrator command"):
            in_own_loop(migrate.migrate(url))
        monkeypatch.setattr(migrate, "all_migrations", lambda: all_of_them)
        assert in_own_loop(migrate.migrate(url)) == ["the job queue"]
        in_own_loop(migrate.check_database(url))


@pytest.mark.parametrize("command", ["api", "worker"])
def test_api_and_worker_refuse_to_start_on_an_older_schema(tmp_path: Path, command: str) -> None:
    with embedded_server(tmp_path / "data") as url:
        failed(run(command, folder=tmp_path, database_url=url, port=str(free_port())), "run `longshore migrate`")
        in_own_loop(migrate.migrate(url))
        in_own_loop(fetch_value(url, "delete from longshore.migrations where number = 1"))
        failed(run(command, folder=tmp_path, database_url=url, port=str(free_port())), "run `longshore migrate`")
