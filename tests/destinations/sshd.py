"""OpenSSH's server for tests, on loopback: in a mount namespace with users of its own, each closed into a folder.

`make debian` brings the program. The namespace has its own `/etc/passwd`, `/etc/shadow` and `/run/sshd`, and below /srv
the folder of the test, as the server demands that nobody but root can write above a closed folder.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import msgspec
import pytest

from longshore.destinations.sftp import sftp
from longshore.settings import Settings
from tests.debian_postgres import UNPACKED
from tests.destinations.servers import SampleDestination, process
from tests.service import free_port

USERS = {"shop": 6101, "full": 6102, "readonly": 6103}
PASSWORD = "a password, with spaces"
FULL_BYTES = 1 << 20  # of the disk of the user `full`

START = """
set -e
mount --make-rprivate /
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/shadow /etc/shadow
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/sshd
mount -t tmpfs -o mode=755 none /srv
mkdir -p /srv/home /srv/keys
cp {folder}/authorized /srv/keys/shop
chmod 644 /srv/keys/shop
mount --bind {folder}/home /srv/home
mount -t tmpfs -o size={full},mode=777 none /srv/home/full/in
exec {program} -D -e -f {folder}/config
"""

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_ed25519
HostKey {folder}/host_rsa
PidFile none
UsePAM no
PasswordAuthentication yes
KbdInteractiveAuthentication no
AuthorizedKeysFile /srv/keys/%u
StrictModes no
LogLevel ERROR
MaxStartups 100
MaxAuthTries 20
Subsystem sftp internal-sftp
ChrootDirectory /srv/home/%u
{further}
ForceCommand internal-sftp -u 022 {sftp_options}
"""


class Sshd(msgspec.Struct, frozen=True):
    """A running server."""

    port: int
    folder: Path

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host_ed25519.pub").read_text().split()[:2])

    @property
    def uploads(self) -> Path:
        """The folder that the user `shop` may write in, which it sees as /in."""
        return self.folder / "home/shop/in"

    def sftp(self, *commands: str) -> str:
        """Run OpenSSH's client with a user's key, and return what it prints."""
        options = [
            f"-P{self.port}", f"-i{self.folder}/client", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null",
            "-oIdentitiesOnly=yes", "-F/dev/null", "-q", "-b-",
        ]  # fmt: skip
        command = ["sftp", *options, "shop@127.0.0.1"]
        done = subprocess.run(command, input="\n".join(commands), text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


def program() -> Path:
    """The server's program."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a server that closes users into folders needs root and namespaces")
    files = [root / "usr/sbin/sshd" for root in (UNPACKED, Path("/"))]
    return next(file for file in files if file.exists())


@contextlib.contextmanager
def sshd(folder: Path, *, sftp_options: str = "", further: str = "", port: int = 0) -> Iterator[Sshd]:
    """A server. `sftp_options`: of its SFTP, such as `-P posix-rename`; `further`: lines of its configuration.

    `port`: that of a server which ended, to start it again with the same keys and files; 0 for a new one.
    """
    found = program()
    if not port:
        port = free_port()
        _make_users(folder)
        _make_keys(folder)
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder, sftp_options=sftp_options, further=further))
    script = START.format(folder=folder, full=FULL_BYTES, program=found)
    with process(["unshare", "--mount", "sh", "-c", script], port):
        yield Sshd(port, folder)


def _make_users(folder: Path) -> None:
    hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True)
    passwd, shadow = (
        ["root:x:0:0::/root:/bin/sh", "sshd:x:6100:65534::/run/sshd:/bin/false"],
        ["root:*:1::::::", "sshd:*:1::::::"],
    )
    for name, number in USERS.items():
        passwd.append(f"{name}:x:{number}:{number}::/:/bin/false")
        shadow.append(f"{name}:{hashed.stdout.strip()}:19000:0:99999:7:::")
        uploads = folder / "home" / name / "in"
        uploads.mkdir(parents=True, mode=0o755)
        if name != "readonly":
            os.chown(uploads, number, number)
    for file, lines in (("passwd", passwd), ("shadow", shadow)):
        (folder / file).write_text("\n".join(lines) + "\n")


def _make_keys(folder: Path) -> None:
    for name, algorithm in (
        ("host_ed25519", "ssh-ed25519"),
        ("host_rsa", "ssh-rsa"),
        ("client", "ssh-ed25519"),
        ("client_rsa", "ssh-rsa"),
    ):
        key = asyncssh.generate_private_key(algorithm)
        key.write_private_key(folder / name)
        (folder / name).chmod(0o600)
        key.write_public_key(folder / f"{name}.pub")
    keys = [(folder / name).read_text() for name in ("client.pub", "client_rsa.pub")]
    (folder / "authorized").write_text("".join(keys))


def place_of(server: Sshd, username: str = "shop") -> SampleDestination:
    """A destination of a user of the server, by password."""
    settings = {
        "host": "127.0.0.1", "port": server.port, "username": username, "host_key": server.host_key, "path": "/in"
    }  # fmt: skip
    return SampleDestination(sftp(Settings()), settings, {"password": PASSWORD})
