"""The embedded server starts from any folder, for any user, after any crash."""

import contextlib
import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from longshore.database.connection_uri import parse
from longshore.database.embedded import embedded_server
from longshore.database.embedded_server import programs
from longshore.database.server_user import server_user
from longshore.errors import LongshoreError
from tests.command import failed, run
from tests.waiting import until

NAMES = [
    "a b & c, d (e) 'f' +g #h %41 \"i\" $(touch j) `k` ; l",
    "données-Ω-数据-🚢",
    "x" * 90,
]
HOLD = "import sys; from pathlib import Path; from longshore.database.embedded import embedded_server\n"
PSQL_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PG")}


@pytest.fixture(scope="module")
def stopped_cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a cluster that does not run."""
    data = tmp_path_factory.mktemp("made")
    with embedded_server(data):
        pass
    return data


@pytest.fixture
def data(stopped_cluster: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be broken."""
    return copied(stopped_cluster, tmp_path / "data")


def copied(stopped_cluster: Path, data: Path) -> Path:
    shutil.copytree(stopped_cluster, data)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "--reference", stopped_cluster / "postgres", data / "postgres"], check=True)
    return data


def psql(url: str, query: str = "select 1") -> str:
    command: list[str | Path] = [programs() / "psql", url, "--tuples-only", "--no-align", "--command", query]
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=PSQL_ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def postmaster(data: Path) -> int:
    return int((data / "postgres" / "postmaster.pid").read_text().split()[0])


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_server_starts_in_a_folder_of_any_name_and_its_address_is_for_any_client(
    stopped_cluster: Path, tmp_path: Path, name: str
) -> None:
    with embedded_server(copied(stopped_cluster, tmp_path / name)) as url:
        assert psql(url) == "1"
        assert len(os.fsencode(f"{parse(url).hosts[0]}/.s.PGSQL.5432")) < 108
        folder = Path(parse(url).hosts[0])
        assert folder.stat().st_mode & 0o077 == 0
    assert not (tmp_path / "j").exists()


def test_the_command_prints_the_address_of_the_database_in_use_for_psql(stopped_cluster: Path, tmp_path: Path) -> None:
    data = copied(stopped_cluster, tmp_path / "a b, c")
    with embedded_server(data):
        done = run("database", "url", folder=tmp_path, data=str(data))
        assert (done.returncode, done.stderr) == (0, "")
        assert psql(done.stdout.strip(), "show data_directory") == str(data / "postgres")
    stopped = run("database", "url", folder=tmp_path, data=str(data))
    assert stopped.stdout == done.stdout
    assert "longshore serve" in stopped.stderr
    failed(run("database", "url", folder=tmp_path, data=str(tmp_path / "none")), "no database", "longshore serve")
    assert not (tmp_path / "none").exists()
    own = "postgresql://me:p%40ss@db/x?sslmode=require"
    assert run("database", "url", folder=tmp_path, database_url=f"{own}&pgbouncer=true").stdout.strip() == own


def test_the_embedded_server_is_made_in_a_folder_of_any_name(tmp_path: Path) -> None:
    with embedded_server(tmp_path / NAMES[0]) as url:
        shown = "select datcollate, datlocale, datlocprovider, lower('I') from pg_database where datname = 'postgres'"
        assert psql(url, shown) == "C|C.UTF-8|b|i"


def test_the_address_of_the_embedded_server_holds_whatever_libpq_variables_say(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "6000", "PGHOST": "nowhere", "PGUSER": "nobody", "PGSSLMODE": "verify-full"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    with embedded_server(data) as url:
        assert psql(url) == "1"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
@pytest.mark.parametrize("room", ["1m", "41m"], ids=["first_start", "next_start"])
def test_a_full_disk_is_named_when_the_server_is_made_or_started(
    stopped_cluster: Path, tmp_path: Path, room: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    small = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", disk], capture_output=True)
    if small.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        if room != "1m":
            copied(stopped_cluster, disk / "data")
            with contextlib.suppress(OSError), (disk / "filling").open("wb", buffering=0) as filling:
                while filling.write(bytes(4096)):
                    pass
        with pytest.raises(LongshoreError, match=r"No space left on device|the disk is full: 0 MiB are free") as caught:
            embedded_server(disk / "data").__enter__()
        assert "\n" not in str(caught.value)
        assert "says more" not in str(caught.value)
    finally:
        subprocess.run(["umount", disk], check=True)


def hold_as(name: str, data: Path, pipe: Connection) -> None:
    """Hold the server of a data folder as a user, in a process that root has forked."""
    entry = pwd.getpwnam(name)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    with embedded_server(data) as url:
        pipe.send(url)
        pipe.recv()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")
def test_two_plain_users_of_a_machine_each_start_their_own_server(stopped_cluster: Path) -> None:
    assert stopped_cluster.exists()  # root has opened the folders of the programs for passing through
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="longshore-plain-"))
    base.chmod(0o755)
    # Not by a new interpreter: root's may be closed to other users.
    fork = multiprocessing.get_context("fork")
    holders = []
    try:
        for name in ("nobody", "daemon"):
            # A path that is too long for a socket, so that both put theirs into the shared temporary folder.
            data = base / name / ("x" * 90)
            data.mkdir(parents=True)
            for folder in (data.parent, data):
                shutil.chown(folder, name)
            ours, theirs = fork.Pipe()
            process = fork.Process(target=hold_as, args=(name, data, theirs))
            process.start()
            theirs.close()
            holders.append((name, data, ours, process))
        addresses = [pipe.recv() for _, _, pipe, _ in holders]
        assert len(set(addresses)) == 2
        for (name, data, _, _), address in zip(holders, addresses, strict=True):
            assert Path(parse(address).hosts[0]).stat().st_uid == pwd.getpwnam(name).pw_uid
            assert psql(address, "show data_directory") == str(data / "postgres")
            assert pwd.getpwuid(psutil.Process(postmaster(data)).uids().real).pw_name == name
    finally:
        for _, _, pipe, process in holders:
            with contextlib.suppress(OSError):
                pipe.send(None)
            process.join(60)
        shutil.rmtree(base)
    assert [process.exitcode for *_, process in holders] == [0, 0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")
def test_two_users_of_a_machine_each_have_a_server(stopped_cluster: Path) -> None:
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="longshore-users-"))
    try:
        for name in ("nobody", "daemon"):
            shutil.copytree(stopped_cluster, base / name)
            subprocess.run(["chown", "-R", name, base / name], check=True)
        # Root starts the server as the owner of the folder, and leaves nothing behind that the owner cannot use.
        with embedded_server(base / "nobody") as one, embedded_server(base / "daemon") as two:
            assert psql(one) == psql(two) == "1"
            for name in ("nobody", "daemon"):
                assert pwd.getpwuid(psutil.Process(postmaster(base / name)).uids().real).pw_name == name
        owners = {path.stat().st_uid for path in (base / "daemon").iterdir()}
        assert owners == {pwd.getpwnam("daemon").pw_uid}
    finally:
        shutil.rmtree(base)


def test_reused_process_id_of_a_dead_server_does_not_block_the_start(data: Path) -> None:
    file = data / "postgres" / "postmaster.pid"
    user = server_user(data)
    stranger = user.start(["/bin/sleep", "600"], subprocess.DEVNULL)  # type: ignore[arg-type]  # as good as a file
    try:
        file.write_text(f"{stranger.pid}\n{data / 'postgres'}\n1\n5432\n/tmp\n\n 1 1\nready\n")
        user.give(file)
        with embedded_server(data) as url:
            assert psql(url) == "1"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_reused_process_id_of_another_users_process_does_not_block_the_start(stopped_cluster: Path) -> None:
    base = Path(tempfile.mkdtemp(dir="/tmp", prefix="longshore-stale-"))
    try:
        shutil.copytree(stopped_cluster, base / "data")
        file = base / "data" / "postgres" / "postmaster.pid"
        file.write_text(f"{os.getpid()}\n{base / 'data' / 'postgres'}\n1\n5432\n/tmp\n\n 1 1\nready\n")
        subprocess.run(["chown", "-R", "nobody", base], check=True)
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe()
        process = fork.Process(target=hold_as, args=("nobody", base / "data", theirs))
        process.start()
        theirs.close()
        assert psql(ours.recv()) == "1"
        ours.send(None)
        process.join(60)
        assert process.exitcode == 0, "it has stopped the server, and sent this process nothing"
    finally:
        shutil.rmtree(base)


def is_stopping(data: Path) -> bool:
    """Return whether a server is shutting down; one that has ended takes the file with it."""
    try:
        return "stopping" in (data / "postgres" / "postmaster.pid").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT, signal.SIGTERM])
def test_the_embedded_server_starts_after_a_crash_while_its_sessions_live_on(data: Path, how: signal.Signals) -> None:
    with embedded_server(data) as url:
        busy: list[str | Path] = [
            programs() / "psql",
            url,
            "--command",
            "select sum(n) from generate_series(1, 5000000) n",
        ]
        session = subprocess.Popen(busy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.3)
            server = psutil.Process(postmaster(data))
            server.send_signal(how)
            until(lambda: not runs(server) or is_stopping(data), "the server to stop")
            with embedded_server(data) as again:
                assert again == url
                assert psql(again) == "1"
        finally:
            session.kill()
            session.wait()


def test_killed_first_start_is_repeated(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"{HOLD}embedded_server(Path(sys.argv[1])).__enter__()", tmp_path]
    ) as first:
        until(lambda: first.poll() is not None or list(tmp_path.glob("postgres.new-*/base")), "the first start")
        assert first.poll() is None
        first.kill()
    assert not (tmp_path / "postgres" / "PG_VERSION").exists()
    with embedded_server(tmp_path) as url:
        assert psql(url) == "1"


def test_a_server_that_cannot_start_says_why_in_one_line(data: Path, tmp_path: Path) -> None:
    with (data / "postgres" / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = many\n")
    with pytest.raises(LongshoreError, match="contains errors") as caught:
        embedded_server(data).__enter__()
    assert "\n" not in str(caught.value)
    (tmp_path / "other" / "postgres").mkdir(parents=True)
    (tmp_path / "other" / "postgres" / "mine").touch()
    with pytest.raises(LongshoreError, match="move it away"):
        embedded_server(tmp_path / "other").__enter__()


def test_the_embedded_server_outlives_the_process_that_started_it_while_others_use_it(data: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        "-c",
        f"{HOLD}with embedded_server(Path(sys.argv[1])): print(1, flush=True); input()",
        data,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout and first.stdout.readline()
        with embedded_server(data) as url:
            first.communicate(b"\n", timeout=60)
            assert psql(url) == "1"
    assert not (data / "postgres" / "postmaster.pid").exists()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, to make a namespace")
def test_data_folder_is_refused_while_another_container_uses_it(data: Path) -> None:
    command: list[str | Path] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c"]
    command += [f"{HOLD}with embedded_server(Path(sys.argv[1])): print(1, flush=True); input()", data]
    with embedded_server(data) as url:
        started = postmaster(data)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert "is in use in another container" in done.stderr
        assert (postmaster(data), psql(url)) == (started, "1")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline()
        with pytest.raises(LongshoreError, match="another container"):
            embedded_server(data).__enter__()
        other.communicate(b"\n", timeout=60)
    with embedded_server(data) as url:
        assert psql(url) == "1"
