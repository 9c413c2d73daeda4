"""A data folder that is deleted or moved while its server runs, and the restart of a server that has ended."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from longshore.database.embedded import embedded_server, restarted_if_ended
from tests.database.test_embedded import HOLD, postmaster, psql, runs
from tests.waiting import until

USE = f"{HOLD}with embedded_server(Path(sys.argv[1])) as url: print(url, flush=True); input()"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a cluster that does not run."""
    with embedded_server(tmp_path / "data"):
        pass
    return tmp_path / "data"


def test_server_of_a_deleted_data_folder_is_ended_before_the_next_one_of_that_path_starts(data: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", USE, data], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout and killed.stdout.readline()
        killed.kill()
    first = psutil.Process(postmaster(data))
    assert runs(first), "the server outlives the process"
    shutil.rmtree(data)
    with embedded_server(data) as url:
        assert not first.is_running() or not runs(first)
        assert psql(url) == "1"


def test_last_user_of_a_deleted_data_folder_does_not_stop_the_server_of_the_next_one(data: Path) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(embedded_server(data))
        shutil.rmtree(data, ignore_errors=True)  # the server removes files of its own meanwhile
        with subprocess.Popen(
            [sys.executable, "-c", USE, data], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout
            url = other.stdout.readline().strip()
            stack.close()
            assert psql(url) == "1"
            other.communicate("\n", timeout=60)


def test_server_is_started_again_after_its_state_could_not_be_read(data: Path) -> None:
    state, aside = data / "postgres" / "postmaster.pid", data / "aside"
    with embedded_server(data) as url, restarted_if_ended(data):
        server = postmaster(data)
        state.rename(aside)
        state.mkdir()
        time.sleep(2.5)
        state.rmdir()
        aside.rename(state)
        os.kill(server, signal.SIGQUIT)
        until(lambda: state.exists() and postmaster(data) != server, "another server", 60)
        until(lambda: "ready" in state.read_text(), "the server to be ready", 60)
        assert psql(url) == "1"


def test_no_empty_database_takes_the_place_of_one_that_is_moved_away(data: Path) -> None:
    cluster, aside = data / "postgres", data / "aside"
    with embedded_server(data) as url, restarted_if_ended(data):
        psql(url, "create table kept ()")
        server = postmaster(data)
        cluster.rename(aside)
        os.kill(server, signal.SIGQUIT)
        time.sleep(4)
        assert not cluster.exists()
        aside.rename(cluster)
        until(lambda: (cluster / "postmaster.pid").exists() and postmaster(data) != server, "another server", 60)
        until(lambda: "ready" in (cluster / "postmaster.pid").read_text(), "the server to be ready", 60)
        assert psql(url, "select count(*) from kept") == "0"
