"""Hosts of a network of their own: each is a network namespace with its own address, all plugged into one switch.

Nothing of it is reachable from elsewhere than this machine, and nothing in it reaches anything else: the switch is a
bridge in a namespace too, with one more cable to the host of the test.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

# Names and addresses of this process, so that two runs on one machine do not meet. RFC 2544 keeps the range for tests.
NUMBER = os.getpid()
NET = f"198.{18 + NUMBER // 256 % 2}.{NUMBER % 256}"
HERE = 254
SWITCH, BRIDGE, CABLE_HERE = f"longshore-{NUMBER}-switch", "bridge", f"ls{NUMBER}"
STOP_TIMEOUT = 20.0  # seconds


def ip(*arguments: str) -> None:
    """Run the program `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Network:
    """A switch with hosts on it. All that was made and started is gone on leaving."""

    def __init__(self) -> None:
        self._rooms: dict[str, str] = {}
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Network":
        if os.geteuid() != 0:
            pytest.skip("networks can be made by root alone")
        if shutil.which("ip") is None:
            pytest.fail("there is no program ip; `make network` installs it")
        try:
            ip("netns", "add", SWITCH)
        except subprocess.CalledProcessError as error:
            pytest.fail(f"networks cannot be made here: {error.stderr.strip()}")
        try:
            ip("-n", SWITCH, "link", "add", BRIDGE, "type", "bridge")
            ip("-n", SWITCH, "link", "set", BRIDGE, "up")
            ip("link", "add", CABLE_HERE, "type", "veth", "peer", "name", "here", "netns", SWITCH)
            ip("addr", "add", f"{NET}.{HERE}/24", "dev", CABLE_HERE)
            ip("link", "set", CABLE_HERE, "up")
            self._connect("here")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def add(self, name: str) -> str:
        """Add a host and give its address."""
        room = self._rooms[name] = f"longshore-{NUMBER}-{name}"
        ip("netns", "add", room)
        ip("-n", SWITCH, "link", "add", name, "type", "veth", "peer", "name", "cable", "netns", room)
        address = f"{NET}.{len(self._rooms)}"
        ip("-n", room, "addr", "add", f"{address}/24", "dev", "cable")
        for link in ("lo", "cable"):
            ip("-n", room, "link", "set", link, "up")
        self._connect(name)
        return address

    def start(self, name: str, *command: str, log: Path, environment: dict[str, str]) -> None:
        """Start the one program of a host."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._rooms[name], *command], env=environment, stdout=output, stderr=output
            )
        self.started[name] = process

    def cut(self, name: str) -> None:
        """Pull a host's cable at the switch: what is sent to it or by it vanishes, and nobody is told."""
        ip("-n", SWITCH, "link", "set", name, "down")

    def mend(self, name: str) -> None:
        """Plug the cable in again."""
        ip("-n", SWITCH, "link", "set", name, "up")

    def _connect(self, name: str) -> None:
        ip("-n", SWITCH, "link", "set", name, "master", BRIDGE, "up")

    def _remove(self) -> None:
        for name in self._rooms:  # before its processes, so that none of them waits for a peer
            with contextlib.suppress(subprocess.CalledProcessError):
                self.mend(name)
        for process in reversed(self.started.values()):
            process.send_signal(signal.SIGINT)  # for which PostgreSQL does not wait for those who have gone
        for process in self.started.values():
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", CABLE_HERE)  # it would go with its other end, but only a while after this is over
        for room in (*self._rooms.values(), SWITCH):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", room)
