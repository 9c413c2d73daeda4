"""Logins on OpenSSH's server: passwords, keys, host keys, algorithms; what is wrong is named."""

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from longshore.destinations.kind import DestinationError, DestinationUnavailableError
from longshore.destinations.sftp import sftp
from longshore.settings import Settings
from tests.destinations.servers import BytesFile, SampleDestination
from tests.destinations.sshd import PASSWORD, Sshd, place_of, sshd


@pytest.fixture
def place(ssh_server: Sshd) -> SampleDestination:
    return place_of(ssh_server)


def with_key(
    place: SampleDestination, key: asyncssh.SSHKey, format_name: str, passphrase: str = ""
) -> SampleDestination:
    text = key.export_private_key(format_name, passphrase or None).decode()
    return place.with_secret(private_key=text, passphrase=passphrase)


@pytest.mark.parametrize(
    ("format_name", "passphrase"), [("openssh", ""), ("openssh", "opens it"), ("pkcs8-pem", ""), ("pkcs8-pem", "opens")]
)
def test_key_signs_in(place: SampleDestination, ssh_server: Sshd, format_name: str, passphrase: str) -> None:
    key = asyncssh.read_private_key(ssh_server.folder / "client")
    made = with_key(place, key, format_name, passphrase)
    made.write(f"by-key-{format_name}{bool(passphrase)}.csv", BytesFile(b"x"))
    assert made.read(f"by-key-{format_name}{bool(passphrase)}.csv") == b"x"


def test_old_rsa_key_signs_in_by_sha_2(place: SampleDestination, ssh_server: Sshd) -> None:
    key = asyncssh.read_private_key(ssh_server.folder / "client_rsa")
    assert with_key(place, key, "pkcs1-pem").test()[-1].ok


@pytest.mark.parametrize("passphrase", ["", "another one"])
def test_wrong_passphrase_is_named(place: SampleDestination, ssh_server: Sshd, passphrase: str) -> None:
    key = asyncssh.read_private_key(ssh_server.folder / "client")
    text = key.export_private_key("openssh", "the right one").decode()
    step, detail = place.with_secret(private_key=text, passphrase=passphrase).failure()
    assert (step, "passphrase" in detail) == ("authenticate", True), detail


def test_text_that_is_no_key_is_named(place: SampleDestination) -> None:
    step, detail = place.with_secret(private_key="-----BEGIN NOTHING-----").failure()
    assert (step, "private_key" in detail) == ("authenticate", True)


def test_wrong_credentials_are_named(place: SampleDestination) -> None:
    step, detail = place.with_secret(password="another one").failure()
    assert (step, "refuses the password of shop" in detail) == ("authenticate", True), detail
    step, detail = with_key(place, asyncssh.generate_private_key("ssh-ed25519"), "openssh").failure()
    assert (step, "refuses the key of shop" in detail) == ("authenticate", True), detail
    step, detail = place.change(username="nobody-there").failure()
    assert (step, "refuses the password of nobody-there" in detail) == ("authenticate", True), detail


def test_missing_host_key_is_shown_by_the_test_and_refused_by_a_delivery(
    place: SampleDestination, ssh_server: Sshd
) -> None:
    made = place.change(host_key="")
    assert made.failure() == ("host_key", ssh_server.host_key)
    with pytest.raises(DestinationError, match="host_key"):
        made.write("unpinned.csv", BytesFile(b"x"))
    settings, secret, allow = made.values
    assert [violation.pointer for violation in made.kind.check(settings, secret, allow)] == ["/settings/host_key"]


def test_wrong_host_key_ends_the_connection_before_the_password_is_sent(
    place: SampleDestination, ssh_server: Sshd
) -> None:
    other = " ".join(asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()[:2])
    step, detail = place.change(host_key=other).failure()
    assert (step, ssh_server.host_key in detail) == ("host_key", True)
    with pytest.raises(DestinationError, match="another host key"):
        place.change(host_key=other).write("wrong-key.csv", BytesFile(b"x"))
    ecdsa = " ".join(asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode().split()[:2])
    step, detail = place.change(host_key=ecdsa).failure()  # the server has none of this type
    assert (step, ssh_server.host_key in detail) == ("host_key", True), detail
    with pytest.raises(DestinationError, match="another host key"):
        place.change(host_key=ecdsa).write("wrong-key.csv", BytesFile(b"x"))


def test_any_host_key_of_the_server_can_be_pinned(place: SampleDestination, ssh_server: Sshd) -> None:
    rsa = (ssh_server.folder / "host_rsa.pub").read_text().strip()
    assert place.change(host_key=rsa).test()[-1].ok
    assert place.change(host_key=f"{ssh_server.host_key} comment of mine").test()[-1].ok


def test_folder_without_the_right_to_write_is_named(ssh_server: Sshd) -> None:
    place = place_of(ssh_server, "readonly")
    step, detail = place.failure()
    assert (step, detail.startswith("readonly has no right on 127.0.0.1:")) == ("write", True), detail
    with pytest.raises(DestinationError, match="has no right"):
        place.write("a.csv", BytesFile(b"x"))
    step, detail = place.change(path="/in/new").failure()
    assert (step, "make the folder" in detail) == ("list", True), detail


@pytest.mark.parametrize(
    "further",
    ["KexAlgorithms diffie-hellman-group14-sha1", "MACs hmac-sha1\nCiphers aes256-ctr", "Ciphers aes128-cbc,3des-cbc"],
)
def test_outdated_algorithms_are_refused(tmp_path: Path, further: str) -> None:
    with sshd(tmp_path, further=further) as server:
        place = place_of(server)
        # A server may have closed the connection before its offer was read: then another attempt is made.
        failures = (place.failure() for _ in range(20))
        step, detail = next(found for found in failures if "cannot be made or broke" not in found[1])
        assert step in ("connect", "authenticate"), detail
        assert "outdated algorithms" in detail
        with pytest.raises((DestinationError, DestinationUnavailableError), match=r"outdated algorithms|broke"):
            place.write("a.csv", BytesFile(b"x"))


@pytest.mark.parametrize("further", ["ForceCommand /bin/false", "MaxSessions 0"])
def test_user_without_sftp_is_a_permanent_error(tmp_path: Path, further: str) -> None:
    with sshd(tmp_path, further=further) as server:
        step, detail = place_of(server).failure()
    assert (step, "has no SFTP for shop" in detail) == ("authenticate", True), detail


def test_nothing_of_the_home_folder_counts(
    place: SampleDestination, ssh_server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "id_ed25519").write_bytes((ssh_server.folder / "client").read_bytes())
    (folder / "config").write_text(
        f"Host *\n  User other\n  Port 1\n  ProxyCommand touch {tmp_path}/ran\n  HostKeyAlgorithms none\n"
    )
    (folder / "known_hosts").write_text("not a line of known hosts")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        agent.settimeout(0.1)
        assert place.test()[-1].ok
        assert place.with_secret(password="another one").failure()[0] == "authenticate"
        with pytest.raises(TimeoutError):
            agent.accept()
    assert not (tmp_path / "ran").exists()


def test_address_that_is_not_public_is_refused_before_a_connection(place: SampleDestination) -> None:
    step, detail = place.reaching().failure()
    assert (step, "not public" in detail) == ("resolve", True)
    with pytest.raises(DestinationError, match="not public"):
        place.reaching().change(host="localhost").write("a.csv", BytesFile(b"x"))
    settings, secret, allow = place.reaching().values
    assert [violation.pointer for violation in place.kind.check(settings, secret, allow)] == ["/settings/host"]


def test_server_that_is_none_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    settings = {"host": "127.0.0.1", "port": port, "username": "a", "host_key": "", "path": ""}
    place = SampleDestination(sftp(Settings()), settings, {"password": PASSWORD})
    assert place.failure()[0] == "connect"
    with pytest.raises(DestinationUnavailableError):
        place.change(host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvSFfQyc1IWzHzT9Bj6vC2Yy3sDxXo2yKkqvMyh2ErB").write(
            "a.csv", BytesFile(b"x")
        )


class Asking(asyncssh.SSHServer):
    """A server that asks for a password by "keyboard-interactive" alone."""

    def begin_auth(self, username: str) -> bool:
        return bool(username)

    def password_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        assert (username, lang, submethods) == ("shop", "", "")
        return "", "", "", [("Password:", False)]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        return (username, list(responses)) == ("shop", [PASSWORD])


def test_password_is_given_to_a_server_that_asks_for_it(tmp_path: Path) -> None:
    async def write() -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        factory = partial(asyncssh.SFTPServer, chroot=str(tmp_path).encode())
        listening = asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[key], server_factory=Asking, sftp_factory=factory, process_factory=None
        )
        async with await listening as server:
            host_key = " ".join(key.export_public_key().decode().split()[:2])
            settings = {"host": "127.0.0.1", "port": server.get_port(), "username": "shop", "host_key": host_key}
            made = SampleDestination(sftp(Settings()), settings, {"password": PASSWORD})
            async with made.kind.open(*made.values) as place:
                await place.write("in/asked.csv", BytesFile(b"x"), "d", overwrite=True)  # type: ignore[union-attr]
            assert [step.detail async for step in made.kind.test(*made.values) if not step.ok] == []

    asyncio.run(write())
    assert (tmp_path / "in/asked.csv").read_bytes() == b"x"
