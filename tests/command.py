"""Runs the command line as a user does, and sees what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil


def environment(**settings: str) -> dict[str, str]:
    """This process's variables without settings of Longshore's, and with these, such as `port`."""
    found = {key: value for key, value in os.environ.items() if not key.startswith(("LONGSHORE_", "DEMO_"))}
    return found | {f"LONGSHORE_{name.upper()}": value for name, value in settings.items()}


def run(*arguments: str, folder: Path, timeout: float = 100, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `longshore …` to its end."""
    command = [sys.executable, "-m", "longshore", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(**settings), capture_output=True, text=True, timeout=timeout
    )


def start(*arguments: str, folder: Path, **settings: str) -> subprocess.Popen[str]:
    """Start `longshore …` with its output to be read line by line, in a process group as a shell does it."""
    command = [sys.executable, "-u", "-m", "longshore", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def ended_by_ctrl_c(process: subprocess.Popen[str]) -> str:
    """Send what a terminal sends on Ctrl-C, SIGINT to the whole group, and give the rest of the output."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, output
    assert "Traceback" not in output, output
    return output


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """Read the output up to the line with these words."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"ended without saying {words!r}: {''.join(seen)[-3000:]}")


def failed(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert exit code 1 and one clear line with these words on stderr."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("longshore: ")
    for word in words:
        assert word in lines[0]
    assert done.stdout == ""


def processes_of(data: Path) -> list[str]:
    """All processes that work in a data folder: number, parent, status and command line."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if not words or process.pid == os.getpid():
                continue
            if str(data) in " ".join(words) or process.environ().get("LONGSHORE_DATA", "").startswith(str(data)):
                found.append(f"{process.pid} of {process.ppid()}, {process.status()}: {' '.join(words)}")
        except psutil.Error:
            continue
    return found


def nothing_left(data: Path) -> None:
    """Assert that no process works in a data folder any more."""
    deadline = time.monotonic() + 30
    while left := processes_of(data):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
