"""Private keys of destinations: one that takes long to read is refused before it is read."""

import base64
import struct
import textwrap
import threading

import asyncssh
import pytest

from longshore.destinations.gs import gs
from longshore.destinations.kind import DestinationError
from longshore.destinations.private_keys import MAX_ITERATIONS, MAX_ROUNDS, require_cheap_key
from longshore.destinations.sftp import sftp
from longshore.settings import Settings
from tests.destinations.servers import BytesFile, SampleDestination

KEY = asyncssh.generate_private_key("ssh-ed25519")
FORMATS = [
    ("openssh", {}), ("openssh", {"passphrase": "opens", "rounds": 2}), ("pkcs8-pem", {}),
    ("pkcs8-pem", {"passphrase": "opens"}),
    ("pkcs8-pem", {"passphrase": "opens", "pbe_version": 1, "cipher_name": "des3-cbc", "hash_name": "sha1"}),
]  # fmt: skip


def pem(name: str, content: bytes) -> str:
    text = "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 64))
    return f"-----BEGIN {name}-----\n{text}\n-----END {name}-----\n"


def openssh(rounds: int) -> str:
    """A key whose content is not even encrypted: reading it ends at the derivation."""
    parts = [b"aes256-ctr", b"bcrypt", struct.pack(">I", 16) + bytes(16) + struct.pack(">I", rounds)]
    strings = b"".join(struct.pack(">I", len(part)) + part for part in parts)
    return pem("OPENSSH PRIVATE KEY", b"openssh-key-v1\0" + strings + struct.pack(">III", 1, 0, 0))


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return bytes([tag, 0x82]) + struct.pack(">H", len(content)) + content


def integer(value: int, tag: int = 0x02) -> bytes:
    return der(tag, value.to_bytes(6, signed=True))


def pkcs8(*integers: bytes) -> str:
    pbkdf2 = der(0x30, der(0x06, b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c"), der(0x30, der(0x04, bytes(8)), *integers))
    aes = der(0x30, der(0x06, b"\x60\x86\x48\x01\x65\x03\x04\x01\x2a"), der(0x04, bytes(16)))
    algorithm = der(0x30, der(0x06, b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d"), der(0x30, pbkdf2, aes))
    return pem("ENCRYPTED PRIVATE KEY", der(0x30, algorithm, der(0x04, bytes(64))))


@pytest.mark.parametrize(("format_name", "options"), FORMATS)
def test_usual_private_key_is_read(format_name: str, options: dict[str, str]) -> None:
    text = KEY.export_private_key(format_name, **options).decode()  # type: ignore[arg-type]
    around = f"Bag Attributes\n{text.replace(chr(10), chr(13) + chr(10))}\nmore"
    for each in (text, around):
        read = asyncssh.import_private_key(require_cheap_key(each), options.get("passphrase"))
        assert read.public_data == KEY.public_data


def test_old_private_key_with_header_lines_is_read() -> None:
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    text = key.export_private_key("pkcs1-pem", "opens").decode()
    assert asyncssh.import_private_key(require_cheap_key(text), "opens").public_data == key.public_data


@pytest.mark.parametrize(
    "most", [openssh(MAX_ROUNDS), pkcs8(integer(MAX_ITERATIONS)), pkcs8(integer(2048), integer(32))]
)
def test_private_key_at_its_limit_is_not_refused(most: str) -> None:
    assert require_cheap_key(most) == most or require_cheap_key(most).replace("\n", "") == most.replace("\n", "")


TOO_LONG = {
    "rounds": openssh(MAX_ROUNDS + 1), "most rounds": openssh(2**32 - 1),
    "iterations": pkcs8(integer(MAX_ITERATIONS + 1)), "long key": pkcs8(integer(1000), integer(10**6)),
    "no iterations": pkcs8(), "negative": pkcs8(integer(-1)), "a tag in its long form": pkcs8(b"\x1f" + integer(9)),
    "cut short": pkcs8(integer(9)[:-1]), "deep": pem("ENCRYPTED PRIVATE KEY", b"\x30\x82\x0f\xff" * 1000),
    "second first": openssh(2**32 - 1) + KEY.export_private_key().decode(),
    "large": pem("RSA PRIVATE KEY", bytes(3000)), "no PEM": "0" * 30,
    "encrypted twice": pkcs8(integer(2**40)).replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n", 1),
}  # fmt: skip


@pytest.mark.parametrize("text", TOO_LONG.values(), ids=TOO_LONG)
def test_private_key_that_may_take_long_is_a_violation(text: str) -> None:
    host_key = " ".join(KEY.export_public_key().decode().split()[:2])
    settings = {"host": "127.0.0.1", "username": "anna", "host_key": host_key}
    made = SampleDestination(sftp(Settings()), settings, {"private_key": text, "passphrase": "opens"})
    found = made.kind.check(*made.values)
    assert [violation.pointer for violation in found] == ["/secret/private_key"]
    with pytest.raises(DestinationError, match="private_key"):
        require_cheap_key(text)


def test_large_key_of_a_service_account_is_refused_before_it_is_read() -> None:
    account = {"type": "service_account", "client_email": "a", "private_key": "x" * 4001}
    made = SampleDestination(gs(Settings()), {"bucket": "exports"}, {"service_account": account})
    found = made.kind.check(*made.values)
    assert [(each.pointer, "4096 bits" in each.detail) for each in found] == [("/secret/service_account", True)]


def test_private_key_is_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []

    def refuse(*_: object) -> None:
        readers.append(threading.current_thread())
        raise asyncssh.KeyImportError

    monkeypatch.setattr(asyncssh, "import_private_key", refuse)
    host_key = " ".join(KEY.export_public_key().decode().split()[:2])
    secret = {"private_key": KEY.export_private_key().decode()}
    settings = {"host": "127.0.0.1", "port": 1, "username": "anna", "host_key": host_key}
    with pytest.raises(DestinationError, match="private_key"):
        SampleDestination(sftp(Settings()), settings, secret).write("a.csv", BytesFile(b"x"))
    assert len(readers) == 1
    assert readers[0] is not threading.main_thread()
